"""Addresses: URLs in, listening sockets out."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from wireway.errors import AddressError, AddressInUseError

__all__ = ["Address", "SocketFile", "listen", "parse", "url_of"]

_EXAMPLE = "write tcp://127.0.0.1:9000 or unix:///run/app.sock"
_PATH_MAX = 107
"""Bytes of a path in a `sockaddr_un`, without the NUL at its end: unix(7)."""


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
    if not isinstance(url, str):
        raise AddressError(f"an address is a URL, not {type(url).__name__}: {_EXAMPLE}")
    scheme, _, rest = url.partition("://")
    match scheme.lower():
        case "unix":
            return _parse_unix(url, rest)
        case "tcp":
            return _parse_tcp(url)
    raise AddressError(f"{url!r}: the scheme must be tcp or unix; {_EXAMPLE}")


def _parse_unix(url: str, path: str) -> Address:
    if not path.startswith("/") or "\0" in path:
        raise AddressError(f"{url!r}: a unix address has three slashes and an absolute path; {_EXAMPLE}")
    if (size := len(os.fsencode(path))) > _PATH_MAX:
        raise AddressError(f"{url!r}: the path has {size} bytes, the kernel takes at most {_PATH_MAX}; {_EXAMPLE}")
    return Address("unix", path=path)


def _parse_tcp(url: str) -> Address:
    try:
        parts = urlsplit(url)
        host, port, more = parts.hostname, parts.port, parts.path or parts.query
    except ValueError:
        host, port, more = None, None, ""
    # urlsplit drops tabs and line ends: those are no part of an address.
    if more or not url.isprintable() or "@" in url or "#" in url or not host or port is None:
        raise AddressError(f"{url!r}: a tcp address is a host and a port of 0 to 65535; {_EXAMPLE}")
    return Address("tcp", host=host, port=port)


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
    except UnicodeError as error:
        raise AddressError(f"host {address.host!r} is unknown: a part of a name has 1 to 63 bytes") from error
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
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        except BlockingIOError:
            return  # somebody listens, whose backlog is full


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file of a Unix socket that listens. It is ours to remove as long as it is still that file."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, sock: socket.socket) -> SocketFile:
        """The file of `sock`, which has just been bound."""
        path = sock.getsockname()
        status = Path(path).lstat()
        return cls(path, status.st_dev, status.st_ino)

    def remove(self) -> None:
        """Remove it, unless it is gone or something else took its place."""
        with contextlib.suppress(FileNotFoundError):
            status = Path(self.path).lstat()
            if (status.st_dev, status.st_ino) == (self.device, self.inode):
                Path(self.path).unlink()


def url_of(sock: socket.socket) -> str:
    """The URL of a listening socket, with its real port."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix://{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"tcp://{host}:{name[1]}"
