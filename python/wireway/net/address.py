"""Addresses: URLs in, listening sockets out."""

from __future__ import annotations

import errno
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from wireway.errors import AddressError, AddressInUseError

__all__ = ["Address", "listen", "parse", "url_of"]


@dataclass(frozen=True, slots=True)
class Address:
    """`tcp` with host and port (0: any free one), or `unix` with a path."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""


def parse(url: str) -> Address:
    """Read ``tcp://host:port`` or ``unix:///path``.

    :raises AddressError: with what is wrong and an example.
    """
    example = "write tcp://127.0.0.1:9000 or unix:///run/app.sock"
    if not isinstance(url, str):
        raise AddressError(f"an address is a URL, not {type(url).__name__}: {example}")
    parts = urlsplit(url)
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/"):
            raise AddressError(f"{url!r}: a unix address has three slashes and an absolute path; {example}")
        return Address("unix", path=parts.path)
    if parts.scheme != "tcp":
        raise AddressError(f"{url!r}: the scheme must be tcp or unix; {example}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is None or not parts.hostname or parts.path or parts.query:
        raise AddressError(f"{url!r}: a tcp address is a host and a port of 0 to 65535; {example}")
    return Address("tcp", host=parts.hostname, port=port)


def listen(address: Address, backlog: int) -> list[socket.socket]:
    """Listening, non-blocking sockets: one for each address that the host name has.

    :raises AddressError: the host is unknown or not of this machine.
    :raises AddressInUseError: somebody listens there.
    :raises OSError: anything else that the kernel says, for example EACCES for a port below 1024.
    """
    if address.scheme == "unix":
        return [_listen_unix(address.path, backlog)]
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise AddressError(f"host {address.host!r} is unknown: {error.strerror}") from error
    sockets: list[socket.socket] = []
    port = address.port
    try:
        for family, kind, protocol, _, where in dict.fromkeys(found):
            # With port 0 the first socket finds a free one, and the others take the same.
            target = (where[0], port, *where[2:])
            sock = _bind(family, kind, protocol, target, backlog)
            sockets.append(sock)
            port = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind(family: int, kind: int, protocol: int, target: tuple[object, ...], backlog: int) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(target)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        host, port = target[0], target[1]
        if error.errno == errno.EADDRINUSE:
            text = f"port {port} on {host} is taken by another program; choose another port"
            raise AddressInUseError(error.errno, text) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise AddressError(f"{host} is not an address of this machine") from error
        if error.errno == errno.EACCES:
            text = f"port {port} on {host} needs privileges; choose one from 1024 up"
            raise PermissionError(error.errno, text) from error
        raise
    return sock


def _listen_unix(path: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _remove_stale(path)
        sock.bind(path)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            text = f"{path} exists: another program listens there, or it is not a socket"
            raise AddressInUseError(error.errno, text) from error
        raise OSError(error.errno, f"{path}: {error.strerror}") from error
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on any more."""
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()


def url_of(sock: socket.socket) -> str:
    """The URL of a listening socket, with its real port."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix://{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"tcp://{host}:{name[1]}"
