"""From a URL to what is measured: numeric addresses, TLS, and for HTTP the request. Opens nothing but name look-ups."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import wireway
from wireway._native import TlsClient
from wireway.cli.failing import Exit, Failure
from wireway.net.address import parse

__all__ = ["Target", "http_request", "target_of"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A method, or the name of a header: RFC 9110, 5.6.2."""
_KINDS = "write tcp://host:port, tls://host:port, unix:///path, http://host/path or https://host/path"


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured."""

    url: str
    addresses: list[tuple[str, int] | str]
    """Host and port, or the path of a socket file: the first that takes a connection is measured."""
    tls: tuple[TlsClient, str] | None = None
    """And the name that its certificate must be for."""
    http: bool = False
    authority: str = ""
    path: str = ""
    request: str = ""
    """HTTP: method and URL, for people."""


def target_of(url: str, tls: wireway.Tls | None) -> Target:
    """What a URL names: ``host:port`` is TCP.

    :param tls: for ``tls://`` and ``https://``.
    :raises AddressError: it is no URL.
    :raises Failure: it is none that can be measured, or its name is unknown.
    :raises ConfigError: a file of TLS can not be used.
    """
    url = url if "://" in url else f"tcp://{url}"
    scheme = url.partition("://")[0].lower()
    if scheme in ("http", "https"):
        return _http(url, scheme, tls)
    if scheme not in ("tcp", "tls", "unix"):
        raise Failure(f"{url}: there is no load for {scheme}://; {_KINDS}", Exit.USAGE)
    address = parse(url)
    if scheme == "unix":
        return Target(url, [address.path])
    if address.port == 0 or address.host == "*":
        raise Failure(f"{url}: give the host and the port of a server", Exit.USAGE)
    return Target(url, _look_up(address.host, address.port), _client(tls, address.host))


def _http(url: str, scheme: str, tls: wireway.Tls | None) -> Target:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if scheme == "https" else 80)
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if not host or "@" in parts.netloc or not url.isprintable() or " " in url or not url.isascii():
        raise Failure(f"{url!r} is no URL to ask for: write http://127.0.0.1:8080/path, in ASCII", Exit.USAGE)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    name = parts.netloc
    return Target(url, _look_up(host, port), _client(tls, host), http=True, authority=name, path=path)


def _client(tls: wireway.Tls | None, host: str) -> tuple[TlsClient, str] | None:
    return None if tls is None else (tls.make_client(), tls.server_name or host)


def _look_up(host: str, port: int) -> list[tuple[str, int] | str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "it can not be the name of a machine"
        raise Failure(f"{host!r} is unknown: {why}", Exit.USAGE) from None
    return list(dict.fromkeys((str(each[4][0]), port) for each in found))


def http_request(target: Target, method: str | None, headers: Sequence[str], body: bytes) -> tuple[Target, bytes]:
    """The request, and the target that knows of it.

    :param headers: each ``Name: value``; they replace ours of the same name.
    :raises Failure: the method or a header is none.
    """
    method = method or ("POST" if body else "GET")
    if not _TOKEN.fullmatch(method):
        raise Failure(f"--method {method!r} is no method: write GET, HEAD, POST …", Exit.USAGE)
    ours = {"host": f"Host: {target.authority}", "user-agent": "User-Agent: wireway-bench", "accept": "Accept: */*"}
    if body:
        ours["content-length"] = f"Content-Length: {len(body)}"
    theirs = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or not header.isprintable() or not header.isascii():
            raise Failure(f"--header {header!r} is none: write 'Name: value'", Exit.USAGE)
        ours.pop(name.lower(), None)
        theirs.append(f"{name}: {value.strip()}")
    head = [f"{method} {target.path} HTTP/1.1", *ours.values(), *theirs, "", ""]
    return replace(target, request=f"{method} {target.path}"), "\r\n".join(head).encode() + body
