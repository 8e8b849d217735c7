"""Owns addresses: URLs in, URLs out. Knows no DNS and opens nothing: see `listening.py`, and `client.py`."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from wireway.errors import AddressError

__all__ = ["ANY", "Address", "parse", "url_of"]

ANY = "*"
"""The host that means each address of this machine, IPv4 and IPv6. To listen on; nobody can connect to it."""

_EXAMPLE = "write tcp://127.0.0.1:9000, tls://127.0.0.1:9000 or unix:///run/app.sock"
_PATH_MAX = 107
"""Bytes of a path in a `sockaddr_un`, without the NUL at its end: unix(7)."""


@dataclass(frozen=True, slots=True)
class Address:
    """`tcp` or `tls` with host (`ANY`: all addresses) and port (0: any free one), or `unix` with a path."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """The URL."""
        if self.scheme == "unix":
            return f"unix://{self.path}"
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse(url: str) -> Address:
    """Read ``tcp://host:port``, ``tls://host:port`` or ``unix:///path``.

    In ``tcp://*:port``, or ``tcp://:port``, the host is `ANY`.

    :raises AddressError: with what is wrong and an example.
    """
    if not isinstance(url, str):
        raise AddressError(f"an address is a URL, not {type(url).__name__}: {_EXAMPLE}")
    scheme, _, rest = url.partition("://")
    match scheme.lower():
        case "unix":
            return _parse_unix(url, rest)
        case "tcp" | "tls" as kind:
            return _parse_tcp(url, kind)
    raise AddressError(f"{url!r}: the scheme must be tcp, tls or unix; {_EXAMPLE}")


def _parse_unix(url: str, path: str) -> Address:
    if not path.startswith("/") or "\0" in path:
        raise AddressError(f"{url!r}: a unix address has three slashes and an absolute path; {_EXAMPLE}")
    if (size := len(os.fsencode(path))) > _PATH_MAX:
        raise AddressError(f"{url!r}: the path has {size} bytes, the kernel takes at most {_PATH_MAX}; {_EXAMPLE}")
    return Address("unix", path=path)


def _parse_tcp(url: str, scheme: str) -> Address:
    try:
        parts = urlsplit(url)
        host = ANY if parts.netloc.startswith(":") else parts.hostname
        port, more = parts.port, parts.path or parts.query
    except ValueError:
        host, port, more = None, None, ""
    # urlsplit drops tabs and line ends: those are no part of an address.
    if more or not url.isprintable() or "@" in url or "#" in url or not host or port is None:
        raise AddressError(f"{url!r}: a {scheme} address is a host and a port of 0 to 65535; {_EXAMPLE}")
    return Address(scheme, host=host, port=port)


def url_of(sock: socket.socket, *, secured: bool = False) -> str:
    """The URL of a listening socket, with its real port; `secured`: TLS is spoken on it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix://{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{'tls' if secured else 'tcp'}://{host}:{name[1]}"
