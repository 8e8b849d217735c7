"""Owns listening sockets: from addresses and `SocketOptions` to sockets that accept, and the files of Unix sockets.

Knows no server. Options of the kernel are set on the listening socket, once: on Linux an accepted TCP socket is a copy
of it, with `TCP_NODELAY`, `SO_KEEPALIVE` and its times, `TCP_USER_TIMEOUT`, `SO_SNDBUF` and `SO_RCVBUF` (the kernel
copies the whole `tcp_sock`, inet_csk_clone_lock; `tests/net/test_listening.py` holds it to that). So none costs a
system call for each connection. Unix sockets copy nothing and get nothing.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import socket
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wireway.config import SocketOptions
from wireway.errors import AddressError, AddressInUseError, ConfigError
from wireway.net.address import ANY, Address, url_of

__all__ = ["Listening", "SocketFile", "listen", "twin"]

logger = logging.getLogger("wireway.server")

_TRIES = 16
"""How often a free port is looked for that is free in every family."""
_SERVER_FAST_OPEN = 2
"""The bit of `net.ipv4.tcp_fastopen` that lets servers take data with a SYN (ip-sysctl)."""

_Found = tuple[int, int, int, str, Any]
"""What `getaddrinfo` tells: family, kind, protocol, name, address."""


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


class Listening:
    """The listening sockets of a server, in the order of its addresses. Closing them removes their files."""

    def __init__(self, inherited: Iterable[socket.socket] = ()) -> None:
        """Own `inherited` sockets too, but not their files."""
        self.sockets: list[socket.socket] = list(inherited)
        self._secured: set[socket.socket] | None = None
        self._files: list[SocketFile] = []

    def close(self) -> None:
        """Close the sockets, and remove the files of Unix sockets that are still theirs."""
        for sock in self.sockets:
            sock.close()
        for file in self._files:
            file.remove()
        self.sockets, self._files = [], []

    def forget_files(self) -> None:
        """Leave the files to somebody else."""
        self._files = []

    def share(self, options: SocketOptions, takers: int, *, may_grow: bool = False) -> list[list[socket.socket]]:
        """The sockets for each of so many processes that accept, all owned here. `may_grow`: `twin` can make more.

        Each has TCP sockets of its own, between which the kernel deals new connections out (SO_REUSEPORT, socket(7)):
        from one shared socket the process that waited first takes nearly all. They stay open here, so what waits in
        the queue of a process that died is there for its successor. Unix sockets are shared.
        """
        shares: list[list[socket.socket]] = [[] for _ in range(takers)]
        for sock in tuple(self.sockets):
            if sock.family == socket.AF_UNIX or (takers == 1 and not may_grow):
                for share in shares:
                    share.append(sock)
                continue
            twins = _twins(sock, options, takers)
            if self._secured is not None and sock in self._secured:
                self._secured.update(twins)
            place = self.sockets.index(sock)
            self.sockets[place : place + 1] = twins
            for share, twin in zip(shares, twins, strict=True):
                share.append(twin)
        return shares

    def secured(self, addresses: Sequence[Address]) -> set[socket.socket]:
        """The sockets on which TLS is spoken. Of inherited ones that follows from `addresses`, which they are for.

        :raises ConfigError: it does not: TLS and plain addresses are mixed, and the ports do not tell.
        """
        if self._secured is None:
            self._secured = _secured(self.sockets, addresses)
        return self._secured

    def add(self, sock: socket.socket) -> None:
        """Own one socket more."""
        self.sockets.append(sock)
        if sock.family == socket.AF_UNIX:
            self._files.append(SocketFile.of(sock))


def listen(addresses: Iterable[Address], options: SocketOptions) -> Listening:
    """Listening, non-blocking sockets: one for each address that a host name has. All, or none and an error.

    Host names are looked up here, which may block for as long as the system's resolver does.

    :raises AddressError: the host is unknown or not of this machine.
    :raises AddressInUseError: somebody listens there.
    :raises OSError: anything else that the kernel says, for example EACCES for a port below 1024.
    """
    listening = Listening()
    listening._secured = secured = set[socket.socket]()
    try:
        for address in addresses:
            if address.scheme == "unix":
                listening.add(_listen_unix(address.path, options))
            else:
                for sock in _listen_tcp(address, options):
                    listening.add(sock)
                    if address.scheme == "tls":
                        secured.add(sock)
    except BaseException:
        listening.close()
        raise
    return listening


def _secured(sockets: Sequence[socket.socket], addresses: Sequence[Address]) -> set[socket.socket]:
    schemes = {address.scheme for address in addresses if address.scheme != "unix"}
    found = {sock for sock in sockets if sock.family != socket.AF_UNIX}
    if "tls" not in schemes:
        return set()
    if "tcp" not in schemes:
        return found
    by_port = {address.port: address.scheme for address in addresses if address.scheme != "unix" and address.port}
    for sock in tuple(found):
        scheme = by_port.get(sock.getsockname()[1])
        if scheme is None:
            raise ConfigError(
                f"{url_of(sock)} was inherited, and whether TLS is spoken there can not be told: "
                "give every address its port, or only tls:// or only tcp:// ones"
            )
        if scheme == "tcp":
            found.remove(sock)
    return found


# --- TCP ----------------------------------------------------------------------------------------------------------


def _listen_tcp(address: Address, options: SocketOptions) -> list[socket.socket]:
    found = _resolve(address)
    if options.fast_open is not None:
        _warn_of_fast_open()
    for last in (number == _TRIES - 1 for number in range(_TRIES)):
        try:
            return _listen_all(address, found, options)
        except _PortLostError as lost:
            # The free port of the first family is taken in another: find another one.
            if last:
                raise AddressInUseError(errno.EADDRINUSE, f"no port is free on all of {address.host}") from lost
    raise AssertionError("the last try returns or raises")


class _PortLostError(Exception):
    """A port that the kernel gave us in one family is taken in the next."""


def _resolve(address: Address) -> list[_Found]:
    """The addresses to listen on, without repetition."""
    host = None if address.host == ANY else address.host
    try:
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise AddressError(f"host {address.host!r} is unknown: {error.strerror}") from error
    except UnicodeError as error:
        raise AddressError(f"host {address.host!r} is unknown: a part of a name has 1 to 63 bytes") from error
    return list(dict.fromkeys(found))


def _listen_all(address: Address, found: list[_Found], options: SocketOptions) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    port = address.port
    # `[::]` takes IPv4 too, unless an IPv4 socket of ours does.
    both = options.dual_stack and not any(family == socket.AF_INET for family, *_ in found)
    try:
        for family, kind, protocol, _, where in found:
            # With port 0 the first socket finds a free one, and the others take the same.
            target = (where[0], port, *where[2:])
            try:
                sock = _bind(family, kind, protocol, target, options, v6only=not both)
            except AddressInUseError as error:
                if address.port == 0 and sockets:
                    raise _PortLostError from error
                raise
            except OSError as error:
                # A kernel without a family still has the other one's "every address".
                if address.host == ANY and error.errno == errno.EAFNOSUPPORT and (sockets or family != found[-1][0]):
                    continue
                raise
            sockets.append(sock)
            port = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind(
    family: int,
    kind: int,
    protocol: int,
    target: tuple[Any, ...],
    options: SocketOptions,
    *,
    v6only: bool,
    reuse_port: bool = False,
) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        for level, name, value in _kernel_options(options):
            sock.setsockopt(level, name, value)
        sock.bind(target)
        sock.listen(options.backlog)
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


def twin(sock: socket.socket, options: SocketOptions) -> socket.socket:
    """One more listening socket beside one that was made to be shared (`Listening.share`)."""
    return _again(sock.family, sock.getsockname(), _is_v6only(sock), options)


def _is_v6only(sock: socket.socket) -> bool:
    return sock.family == socket.AF_INET6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))


def _again(family: int, where: tuple[Any, ...], v6only: bool, options: SocketOptions) -> socket.socket:
    return _bind(family, socket.SOCK_STREAM, 0, where, options, v6only=v6only, reuse_port=True)


def _twins(sock: socket.socket, options: SocketOptions, count: int) -> list[socket.socket]:
    """So many listening sockets in the place of one, which is closed: that it could be had showed that nobody is there.

    A port that is shared from the beginning would be shared with a stranger as well.
    """
    where, family, v6only = sock.getsockname(), sock.family, _is_v6only(sock)
    sock.close()
    found: list[socket.socket] = []
    try:
        while len(found) < count:
            found += [_again(family, where, v6only, options)]
    except BaseException:
        for each in found:
            each.close()
        raise
    return found


def _kernel_options(options: SocketOptions) -> list[tuple[int, int, int]]:
    """The options of a listening TCP socket: level, name, value. Buffers must be known before listen(2): tcp(7)."""
    tcp = socket.IPPROTO_TCP
    found = [(tcp, socket.TCP_NODELAY, int(options.no_delay))]
    if options.keepalive is not None:
        found += [
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (tcp, socket.TCP_KEEPIDLE, options.keepalive.idle),
            (tcp, socket.TCP_KEEPINTVL, options.keepalive.interval),
            (tcp, socket.TCP_KEEPCNT, options.keepalive.count),
        ]
    if options.user_timeout is not None:
        found.append((tcp, socket.TCP_USER_TIMEOUT, math.ceil(options.user_timeout * 1000)))
    if options.send_buffer is not None:
        found.append((socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer))
    if options.receive_buffer is not None:
        found.append((socket.SOL_SOCKET, socket.SO_RCVBUF, options.receive_buffer))
    if options.defer_accept is not None:
        found.append((tcp, socket.TCP_DEFER_ACCEPT, options.defer_accept))
    if options.fast_open is not None:
        found.append((tcp, socket.TCP_FASTOPEN, options.fast_open))
    return found


def _warn_of_fast_open() -> None:
    with contextlib.suppress(OSError, ValueError):
        value = int(Path("/proc/sys/net/ipv4/tcp_fastopen").read_text())
        if not value & _SERVER_FAST_OPEN:
            logger.warning(
                "fast_open has no effect: net.ipv4.tcp_fastopen is %d; `sysctl net.ipv4.tcp_fastopen=%d` permits it",
                value,
                value | _SERVER_FAST_OPEN,
            )


# --- Unix ---------------------------------------------------------------------------------------------------------


def _listen_unix(path: str, options: SocketOptions) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _remove_stale(path)
        sock.bind(path)
        sock.listen(options.backlog)
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
