"""HTTP/1.1 and WebSocket for ASGI applications, on a `wireway.Server`.

The map::

    WebServer         a server for an ASGI application           server.py
    HttpOptions       how much of a request is taken, how long   options.py
    Bridge            requests of a connection, one by one       asgi.py
    Watch             waiting for a client that is served        receiving.py
    Talk              a connection that became a WebSocket       websocket.py
    Lifespan          start and end of the application           lifespan.py
    StaticFiles       a folder, as an ASGI application           static.py
    ranges, codings   what a client asks for of a file           conditions.py
    send_pieces       a file on its way                          sending.py
    Forwarded         what a proxy says of the client            forwarded.py
    tls_extension     what TLS agreed on                         tls.py
    bounded           503 beyond a number of requests            limiting.py
    failed, refuse    what is done about what goes wrong         failing.py
    tell              the access log                             logs.py
    load              "module:app" to an application             loading.py
"""

from wireway.http.loading import load
from wireway.http.options import HttpOptions
from wireway.http.server import WebServer
from wireway.http.static import StaticFiles

__all__ = ["HttpOptions", "StaticFiles", "WebServer", "load"]
