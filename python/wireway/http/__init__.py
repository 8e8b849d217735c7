"""HTTP/1.1 and WebSocket for ASGI applications, on a `wireway.Server`.

The map::

    WebServer         a server for an ASGI application          server.py
    HttpOptions       how much of a request is taken, how long  options.py
    Bridge            requests of a connection, one by one      asgi.py
    serve_websocket   a connection that was upgraded            websocket.py
    Lifespan          start and end of the application          lifespan.py
    StaticFiles       a folder, as an ASGI application          static.py
    load              "module:app" to an application            loading.py
"""

from wireway.http.loading import load
from wireway.http.options import HttpOptions
from wireway.http.server import WebServer
from wireway.http.static import StaticFiles

__all__ = ["HttpOptions", "StaticFiles", "WebServer", "load"]
