"""Owns the way to a connected socket: name resolution, the race between addresses, and what a failure says.

TCP follows Happy Eyeballs version 2 (RFC 8305): the addresses of a name in turn by family (section 4), the next one
tried 250 ms after the last or as soon as one fails (section 5), the first that connects wins. One difference: A and
AAAA records come from one `getaddrinfo`, which asks for both at once and sorts them (RFC 6724), so the resolution
delay of section 3 does not apply.

Knows nothing of framing, of native connections, or of trying again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from wireway.config import SocketOptions
from wireway.errors import ConfigError, ConnectError, ConnectTimeoutError
from wireway.net.address import Address, parse

__all__ = ["ATTEMPT_DELAY", "interleave", "open_socket"]

ATTEMPT_DELAY = 0.25
"""Seconds before the next address is tried beside the last: the value that RFC 8305, section 5 recommends."""

_UNIX_PAUSES = (0.001, 0.1)
"""Seconds between attempts at a Unix socket whose backlog is full, first and most: no event tells of room in it."""

_TCP_USER_TIMEOUT = 18  # linux/tcp.h; Python has the name only where the C library does

Sleep = Callable[[float], Awaitable[object]]
_Target = tuple[int, int, int, Any]


async def open_socket(
    address: str | Address,
    *,
    timeout: float | None = 10.0,  # noqa: ASYNC109 - its error names what was tried, which a caller's could not
    local: tuple[str, int] | None = None,
    options: SocketOptions | None = None,
    sleep: Sleep = asyncio.sleep,
) -> socket.socket:
    """Connect, and return a non-blocking socket that the caller owns.

    The name is resolved anew on each call, in the loop's executor.

    :param address: ``tcp://host:port`` or ``unix:///path``.
    :param timeout: seconds for everything together, name resolution among it; None for no limit but the kernel's
        own (tcp(7), tcp_syn_retries: about two minutes).
    :param local: host and port to connect from, port 0 for any; TCP only.
    :param options: set on each socket before it connects, since buffers decide the window that TCP offers (tcp(7)).
    :param sleep: how it waits between attempts; for tests.
    :raises ConnectTimeoutError: the time is over.
    :raises ConnectError: the host is unknown, or every one of its addresses failed.
    :raises AddressError: `address` is no address. `ConfigError`: it has port 0, or `local` is given for a Unix socket.

    Cancellation, as failure, leaves no descriptor behind. Belongs to the thread that runs the loop.
    """
    where = parse(address) if isinstance(address, str) else address
    if where.scheme != "unix" and where.port == 0:
        raise ConfigError(f"{where.scheme}://{where.host}:0: port 0 is for servers; name the port to connect to")
    if where.scheme == "unix" and local is not None:
        raise ConfigError("local is the host and port to connect from: a unix address has none")
    race = _Race(where, options if options is not None else SocketOptions(), local, sleep)
    try:
        async with asyncio.timeout(timeout):
            return await (race.unix() if where.scheme == "unix" else race.tcp())
    except TimeoutError as error:
        if isinstance(error, ConnectError):
            raise
        raise race.too_late(timeout) from None


def interleave(found: Sequence[_Target]) -> list[_Target]:
    """The targets in turn by family, the family of the first one first, the order within each kept (RFC 8305, 4)."""
    families: dict[int, deque[_Target]] = {}
    for target in dict.fromkeys(found):
        families.setdefault(target[0], deque()).append(target)
    turns: list[_Target] = []
    while families:
        for family in list(families):
            turns.append(families[family].popleft())
            if not families[family]:
                del families[family]
    return turns


class _Race:
    """One call of `open_socket`: the attempts under way and what the others said."""

    def __init__(self, where: Address, options: SocketOptions, local: tuple[str, int] | None, sleep: Sleep) -> None:
        self._loop = asyncio.get_running_loop()
        self._where, self._options, self._local, self._sleep = where, options, local, sleep
        self._failed: list[tuple[str, OSError]] = []
        self._waiting: list[str] = []
        """Addresses that have not answered yet."""

    @property
    def _url(self) -> str:
        return str(self._where)

    # --- TCP ------------------------------------------------------------------------------------------

    async def tcp(self) -> socket.socket:
        targets = deque(interleave(await self._resolve(self._where.host, self._where.port)))
        running: set[asyncio.Future[Any]] = set()
        pause: asyncio.Future[Any] | None = None
        won: socket.socket | None = None
        try:
            while won is None and (targets or running):
                if targets and pause is None:
                    running.add(self._loop.create_task(self._attempt(targets.popleft())))
                    pause = asyncio.ensure_future(self._sleep(ATTEMPT_DELAY)) if targets else None
                waits: set[asyncio.Future[Any]] = running if pause is None else {*running, pause}
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for attempt in done & running:
                    if won is not None:
                        break  # two have connected in one turn: the second stays with the losers
                    running.discard(attempt)
                    won = attempt.result()
                if pause is not None and (pause.done() or done - {pause}):
                    pause.cancel()  # section 5: a failure starts the next attempt at once
                    pause = None
            await _end(running if pause is None else {*running, pause})
        except BaseException:
            if won is not None:
                won.close()
            await _end(running if pause is None else {*running, pause})
            raise
        if won is None:
            raise self._nobody()
        return won

    async def _resolve(self, host: str, port: int) -> list[_Target]:
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise ConnectError(f"{self._url} can not be reached: host {host!r} is unknown: {error.strerror}") from error
        except UnicodeError as error:
            text = f"{self._url} can not be reached: host {host!r} is unknown: a part of a name has 1 to 63 bytes"
            raise ConnectError(text) from error
        return [(family, kind, protocol, where) for family, kind, protocol, _, where in found]

    async def _attempt(self, target: _Target) -> socket.socket | None:
        """The connected socket, or None and the reason noted. Whoever cancels it gets no descriptor."""
        family, kind, protocol, where = target
        name = _name_of(where)
        self._waiting.append(name)
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            _prepare(sock, self._options)
            if self._local is not None:
                await self._bind(sock)
            await self._loop.sock_connect(sock, where)
            if sock.getsockname() == sock.getpeername():
                # A port of the ephemeral range that nobody listens on may be the one that the kernel chose for us:
                # both SYNs are then ours, and TCP connects the socket with itself (RFC 9293, 3.5, simultaneous open).
                raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens: the socket met itself")
        except OSError as error:
            if sock is not None:
                sock.close()
            self._failed.append((name, error))
            self._waiting.remove(name)
            return None
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        return sock

    async def _bind(self, sock: socket.socket) -> None:
        assert self._local is not None
        host, port = self._local
        for family, _, _, where in await self._resolve(host, port):
            if family == sock.family:
                sock.bind(where)
                return
        raise OSError(errno.EADDRNOTAVAIL, f"the local address {host} is of another family")

    # --- Unix -----------------------------------------------------------------------------------------

    async def unix(self) -> socket.socket:
        path, (pause, most) = self._where.path, _UNIX_PAUSES
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                _prepare(sock, self._options)
                # Never under way: it connects at once, or not at all (EAGAIN when the backlog is full: unix(7)).
                # asyncio's sock_connect takes EAGAIN for "under way", and then for connected.
                sock.connect(path)
            except BlockingIOError:
                sock.close()
                self._waiting = [f"{path} (its backlog is full)"]
            except OSError as error:
                sock.close()
                self._failed.append((path, error))
                raise self._nobody() from error
            else:
                return sock
            await self._sleep(pause)
            pause = min(pause * 2, most)

    # --- what to say ----------------------------------------------------------------------------------

    def _nobody(self) -> ConnectError:
        reasons = "; ".join(f"{name}: {_reason(error)}" for name, error in self._failed)
        numbers = {error.errno for _, error in self._failed}
        hint = ""
        if numbers <= {errno.ECONNREFUSED, errno.ENOENT}:
            hint = " (nobody listens there: is the server running?)"
        failure = ConnectError(self._failed[-1][1].errno, f"{self._url} can not be reached: {reasons}{hint}")
        failure.attempts = tuple(self._failed)
        return failure

    def too_late(self, seconds: float | None) -> ConnectTimeoutError:
        reasons = [f"{name}: {_reason(error)}" for name, error in self._failed]
        reasons += [f"{name}: no answer" for name in self._waiting]
        if not reasons:
            reasons = [f"host {self._where.host!r} was not resolved"]
        text = f"{self._url} can not be reached within {seconds:g} s: {'; '.join(reasons)}"
        failure = ConnectTimeoutError(errno.ETIMEDOUT, text)
        failure.attempts = tuple(self._failed)
        return failure


async def _end(losers: set[asyncio.Future[Any]]) -> None:
    """Cancel the losers and see them gone. One that has connected meanwhile is closed."""
    for loser in losers:
        loser.add_done_callback(_close_loser)
        loser.cancel()
    if losers:
        await asyncio.wait(losers)


def _close_loser(loser: asyncio.Future[Any]) -> None:
    if not loser.cancelled() and loser.exception() is None and isinstance(sock := loser.result(), socket.socket):
        sock.close()


def _name_of(where: Any) -> str:
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"


def _reason(error: OSError) -> str:
    # asyncio's own texts repeat the address: "Connect call failed ('127.0.0.1', 9)".
    if error.strerror and error.strerror.startswith("Connect call failed"):
        return os.strerror(error.errno or 0)
    return error.strerror or str(error)


def _prepare(sock: socket.socket, options: SocketOptions) -> None:
    """Set what a client's socket may have. `backlog`, `defer_accept`, `fast_open` and `dual_stack` are for servers."""
    if options.send_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer)
    if options.receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.receive_buffer)
    if sock.family == socket.AF_UNIX:
        return
    if options.no_delay:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if (alive := options.keepalive) is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, alive.idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, alive.interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, alive.count)
    if options.user_timeout is not None:
        with contextlib.suppress(OSError):  # not on every kernel that forwards sockets (gVisor)
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, round(options.user_timeout * 1000))
