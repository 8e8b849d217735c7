"""Owns the address of `wireway connect`: the URL of the connection, and of the WebSocket over it, if one is meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from wireway.cli.failing import Exit, Failure
from wireway.cli.talking.plan import Web

__all__ = ["target_of"]

_PORTS = {"ws": ("tcp", 80), "wss": ("tls", 443)}
_HTTP = {"http": "ws", "https": "wss"}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""A name of a header: RFC 9110, 5.6.2."""


def target_of(
    url: str, headers: Sequence[str], subprotocols: Sequence[str], max_size: int | None
) -> tuple[str, Web | None]:
    """The URL to connect to, or to listen at, and what is spoken over it.

    ``host:port`` is ``tcp``. ``ws`` and ``wss`` are ``tcp`` and ``tls`` with a WebSocket over them.

    :raises Failure: it is no WebSocket URL, or what is for WebSockets is given without one.
    """
    scheme, colons, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme in _HTTP:
        near = f"{_HTTP[scheme]}://{rest}"
        host = rest.partition("/")[0]
        host = (
            host if urlsplit(f"//{host}").netloc.rpartition("]")[2].count(":") else f"{host}:{_PORTS[_HTTP[scheme]][1]}"
        )
        bare = f"{_PORTS[_HTTP[scheme]][0]}://{host}"
        raise Failure(f"{url}: write {near} for a WebSocket, or {bare} to speak HTTP by hand", Exit.USAGE)
    if colons and scheme not in (*_PORTS, "tcp", "tls", "unix"):
        raise Failure(f"{url}: the scheme must be tcp, tls, unix, ws or wss", Exit.USAGE)
    if scheme not in _PORTS or not colons:
        for option, given in (("--header", headers), ("--subprotocol", subprotocols)):
            if given:
                raise Failure(f"{option} is for WebSockets: write ws:// or wss:// at the front", Exit.USAGE)
        return (url if colons else f"tcp://{url}"), None
    kind, port = _PORTS[scheme]
    wrong = Failure(f"{url}: a WebSocket is {scheme}://host:port/path; give a host, and no #", Exit.USAGE)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", port if parts.port is None else parts.port
    except ValueError:
        raise wrong from None
    nobody = not host and not parts.netloc.startswith(":")
    if nobody or parts.fragment or not url.isprintable() or " " in url:
        raise wrong
    web = Web(
        url=url,
        headers=tuple(_header(text) for text in headers),
        subprotocols=tuple(subprotocols),
        **({} if max_size is None else {"max_size": max_size}),
    )
    for name in subprotocols:
        if not _TOKEN.fullmatch(name):
            raise Failure(f"--subprotocol {name!r} is no token: letters, digits, and -._ are", Exit.USAGE)
    return f"{kind}://{f'[{host}]' if ':' in host else host}:{port}", web


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not _TOKEN.fullmatch(name) or not value.isprintable() or not value.isascii():
        raise Failure(f"--header {text!r} is none: write 'Name: value'", Exit.USAGE)
    return name, value.strip()
