"""`Pool`: connections to one server that are lent, kept warm, renewed and replaced. `request_once`: none of that.

Owns who has which connection and who waits for one. Each connection is a `Client` without reconnect: one that ends is
replaced by another.

Long because: who has a connection, who waits for one and what is opened ahead are one account, which must balance.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import select
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Unpack

from wireway.config import Buffers, Heartbeat, SocketOptions, Timeouts
from wireway.errors import ConfigError, ConnectionClosedError, PoolTimeoutError, RequestTimeoutError, WirewayError
from wireway.framing import Framing
from wireway.net.client import Client
from wireway.net.client_options import ClientOptions, ClientState
from wireway.net.requests import Correlate, check_deadline

__all__ = ["Pool", "request_once"]

logger = logging.getLogger("wireway.pool")

_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR

HealthCheck = Callable[[Client], Awaitable[bool]]


async def request_once(
    address: str, message: bytes, *, deadline: float | None = None, **options: Unpack[_OnceOptions]
) -> bytes:
    """Connect, send one message, return its answer, close: a short connection.

    :param deadline: seconds for all of it, connecting included; None leaves it to `Timeouts.connect` and the server.
    :param options: those of `Client`, `framing` among them.
    :raises ConnectError: as `connect` does. `RequestTimeoutError`, `ConnectionClosedError`: as `Client.request` does.

    Cancellation leaves no descriptor.
    """
    check_deadline(deadline)
    client = Client(address, **options)
    loop = asyncio.get_running_loop()
    until = None if deadline is None else loop.time() + deadline
    try:
        async with asyncio.timeout_at(until):
            await client
    except TimeoutError as error:
        if isinstance(error, WirewayError):
            raise
        raise RequestTimeoutError(f"{address} was not reached within {deadline:g} s") from None
    try:
        left = None if until is None else max(until - loop.time(), 1e-9)
        return await client.request(message, deadline=left)
    except BaseException:
        client.abort("the request failed")
        raise
    finally:
        await client.close()


class _OnceOptions(ClientOptions, total=False):
    framing: Framing | None


class _Lent:
    """A connection of a pool: when it must be renewed, since when it rests, and whether nobody has had it yet."""

    __slots__ = ("client", "fresh", "idle_since", "renew_at")

    def __init__(self, client: Client, renew_at: float, now: float) -> None:
        self.client, self.renew_at, self.idle_since, self.fresh = client, renew_at, now, True


class Pool:
    """Connections to one server, lent one by one.

    ::

        async with wireway.Pool("tcp://127.0.0.1:9000", framing=wireway.LengthPrefix(4), max=20) as pool:
            answer = await pool.request(b"hello", deadline=5.0)
            async with pool.connection() as client:
                await client.send(b"one conversation,")
                await client.send(b"one connection")

    :param address: ``tcp://host:port`` or ``unix:///path``.
    :param framing: as for `Client`; so are `timeouts`, `heartbeat`, `buffers`, `socket` and `requests`.
    :param min: connections that are made ahead and kept, so that nobody waits for a handshake.
    :param max: connections at most, in use and at rest together.
    :param max_age: seconds after which a connection is renewed, less up to a tenth at random; None: never. Choose less
        than the time after which a firewall or load balancer on the way forgets silent connections. One that is in use
        is renewed when it comes back.
    :param max_idle: seconds at rest after which a connection above `min` is closed; None: never.
    :param health_check: ``async def check(client) -> bool``, before a connection that is not new is lent. One that says
        False, raises, or closes is replaced. It costs a round trip each time; without it a connection that the server
        has closed is still found, one that was lost in silence is not.
    :param wait_timeout: seconds to wait for a connection while `max` are in use, then `PoolTimeoutError`; None: no end.
    :raises ConfigError: an option is wrong.

    Whoever waits is served first come, first served. Connections that rested shortest are lent first, so that those
    not needed grow old and go. Thread rule: everything belongs to the loop's thread.
    """

    _random = staticmethod(random.random)

    def __init__(
        self,
        address: str,
        *,
        framing: Framing | None = None,
        min: int = 0,  # noqa: A002 - the name that people look for
        max: int = 10,  # noqa: A002
        max_age: float | None = None,
        max_idle: float | None = None,
        health_check: HealthCheck | None = None,
        wait_timeout: float | None = 30.0,
        timeouts: Timeouts | None = None,
        heartbeat: Heartbeat | None = None,
        buffers: Buffers | None = None,
        socket: SocketOptions | None = None,
        requests: Correlate | None = None,
    ) -> None:
        """Check the options. Nothing is opened before the pool is entered or first used."""
        if type(max) is not int or max < 1:
            raise ConfigError(f"Pool: max is {max!r}, it must be at least 1")
        if type(min) is not int or not 0 <= min <= max:
            raise ConfigError(f"Pool: min is {min!r}, it must be 0 to max={max}")
        for name, value in (("max_age", max_age), ("max_idle", max_idle), ("wait_timeout", wait_timeout)):
            check_deadline(value, f"Pool: {name}")
        if health_check is not None and not callable(health_check):
            raise ConfigError(f"Pool: health_check is {health_check!r}, it must be a function, or None")
        self._url = address
        self._options: dict[str, Any] = {"framing": framing, "timeouts": timeouts, "heartbeat": heartbeat}
        self._options |= {"buffers": buffers, "socket": socket, "requests": requests}
        Client(address, **self._options)  # refuses what is wrong
        self._min, self._max, self._max_age, self._max_idle = min, max, max_age, max_idle
        self._health_check, self._wait_timeout = health_check, wait_timeout
        self._idle: list[_Lent] = []
        """At rest, the one that rested longest first."""
        self._total = 0
        """In use, at rest, and being opened."""
        self._waiting: deque[asyncio.Future[_Lent | None]] = deque()
        """Who waits for a connection. They are given one, or None: leave to open one."""
        self._starting: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[None]] = set()
        """Tasks that open ahead of need. One that has not begun must not be cancelled: nobody would count it out."""
        self._timer: asyncio.TimerHandle | None = None
        self._all: set[Client] = set()
        self._closed = False
        self._drained: asyncio.Future[None] | None = None
        self._counts = dict.fromkeys(("made", "lent", "renewed", "replaced", "retried", "timeouts"), 0)

    def __repr__(self) -> str:
        stats = self.stats
        return f"<Pool {self._url} in_use={stats['in_use']} idle={stats['idle']} waiting={stats['waiting']}>"

    @property
    def stats(self) -> dict[str, int]:
        """Connections now: ``open`` or being opened, ``in_use``, ``idle``; callers ``waiting`` for one. And since the
        start: connections ``made``, ``lent``, ``renewed`` for their age, ``replaced`` since they had ended or failed
        their check; requests ``retried`` for a stale connection; ``timeouts`` of the wait."""
        now = {"open": self._total, "in_use": self._total - len(self._idle), "idle": len(self._idle)}
        return now | {"waiting": sum(not each.done() for each in self._waiting)} | self._counts

    # --- use ------------------------------------------------------------------------------------------

    async def request(self, message: bytes, *, deadline: float | None = None, retry: bool = True) -> bytes:
        """Lend a connection, send one message, and return its answer.

        :param deadline: seconds for the answer, from when there is a connection; None: no limit.
        :param retry: where a connection that had rested ends before one byte came back, send the message once more on
            a fresh one: the server had most likely closed it before. False for what must not happen twice.
        :raises PoolTimeoutError: no connection became free in time.
        :raises ConnectError: as `Client` does, and so `RequestTimeoutError` and `ConnectionClosedError`.
        """
        check_deadline(deadline)
        lent = await self._take()
        stale, before = False, _bytes_in(lent.client)
        try:
            return await lent.client.request(message, deadline=deadline)
        except ConnectionClosedError:
            reason = lent.client.closed_reason
            silent = reason is None or reason.bytes_in == before
            if lent.fresh or not (retry and silent):
                raise
            stale = True
        except BaseException:
            # Its answer may be under way: whoever has the connection next shall not get it.
            lent.client.abort("a request on it was given up")
            raise
        finally:
            if not stale:
                self._give_back(lent)
        self._counts["retried"] += 1
        return await self._request_fresh(lent, message, deadline)

    async def _request_fresh(self, stale: _Lent, message: bytes, deadline: float | None) -> bytes:
        """Once more, on a new connection in the place of the stale one."""
        fresh = await self._replace(stale)
        try:
            return await fresh.client.request(message, deadline=deadline)
        except BaseException:
            fresh.client.abort("a request on it was given up")
            raise
        finally:
            self._give_back(fresh)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Client]:
        """Lend a connection for the length of a block. It comes back at the end, or is closed if the block failed.

        A block should leave nothing unread: a connection that comes back with messages nobody took is closed.

        :raises PoolTimeoutError: no connection became free in time.
        :raises ConnectError: a new one could not be made.
        """
        lent = await self._take()
        try:
            yield lent.client
        except BaseException:
            lent.client.abort("the block that used it failed")
            raise
        finally:
            self._give_back(lent)

    async def _take(self) -> _Lent:
        if self._closed:
            raise ConnectionClosedError(f"the pool of {self._url} is closed")
        self._keep_warm()
        lent = await self._find()
        if lent is None:
            lent = await self._open()
        elif not await self._is_well(lent):
            self._counts["replaced"] += 1
            lent = await self._replace(lent)
        self._counts["lent"] += 1
        return lent

    async def _find(self) -> _Lent | None:
        """One at rest, or leave to open one. Waits in turn if neither is to be had."""
        if not any(not each.done() for each in self._waiting):
            while self._idle:
                lent = self._idle.pop()
                if self._is_due(lent):
                    self._retire(lent)
                    continue
                return lent
            if self._total < self._max:
                self._total += 1
                return None
        turn: asyncio.Future[_Lent | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._wait_timeout):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn.result())  # it came too late for us
            if isinstance(error, TimeoutError):
                self._counts["timeouts"] += 1
                raise PoolTimeoutError(
                    f"no connection to {self._url} became free within {self._wait_timeout:g} s: {self._max} are in use"
                ) from None
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(turn)

    async def _is_well(self, lent: _Lent) -> bool:
        """Whether one that rested can be lent: it is open, the server has not closed it, and it passes the check."""
        client = lent.client
        if client.state is not ClientState.OPEN or _is_gone(client):
            return False
        if self._health_check is None:
            return True
        try:
            well = await self._health_check(client)
        except (OSError, WirewayError) as error:
            logger.debug("the health check of a connection to %s failed: %s", self._url, error)
            return False
        except BaseException:
            self._drop(lent)
            raise
        return bool(well) and client.state is ClientState.OPEN

    # --- come and go ----------------------------------------------------------------------------------

    async def _open(self, *, ahead: bool = False) -> _Lent:
        """A new connection, which `_total` counts already. Ahead of need, a failure does not call for another."""
        client = Client(self._url, on_state=self._changed, **self._options)
        self._all.add(client)
        try:
            await client
        except BaseException:
            self._all.discard(client)
            self._pass_on(None, warm=not ahead)
            raise
        self._counts["made"] += 1
        now = asyncio.get_running_loop().time()
        age = math.inf if self._max_age is None else self._max_age * (1.0 - 0.1 * self._random())
        return _Lent(client, now + age, now)

    async def _replace(self, lent: _Lent) -> _Lent:
        """A new connection in the place of another."""
        lent.client.abort("replaced")
        self._all.discard(lent.client)
        if self._closed:
            self._pass_on(None)
            raise ConnectionClosedError(f"the pool of {self._url} is closed")
        return await self._open()

    def _give_back(self, lent: _Lent) -> None:
        client = lent.client
        lent.idle_since = asyncio.get_running_loop().time()
        clean = client.state is ClientState.OPEN and not client.unread and not client.pending
        if self._closed or not clean:
            self._drop(lent)
        elif self._is_due(lent):
            self._retire(lent)
        else:
            self._pass_on(lent)

    def _pass_on(self, lent: _Lent | None, *, warm: bool = True) -> None:
        """Give a connection, or the leave to open one, to who waits longest."""
        if lent is not None:
            lent.fresh = False
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(lent)
                return
        if lent is None:
            self._total -= 1
            self._check_drained()
            if warm:
                self._keep_warm()
        else:
            self._idle.append(lent)
            self._set_timer()

    def _drop(self, lent: _Lent) -> None:
        """Close one at once."""
        lent.client.abort("of no more use to its pool")
        self._all.discard(lent.client)
        self._pass_on(None)

    def _retire(self, lent: _Lent) -> None:
        """Close one that is old: nothing is under way on it."""
        if lent.renew_at <= asyncio.get_running_loop().time():
            self._counts["renewed"] += 1
        self._drop(lent)

    def _changed(self, client: Client, state: ClientState, _reason: object) -> None:
        """`on_state` of each: one that ends at rest makes place, and is made anew if it is among `min`."""
        if state is not ClientState.CLOSED:
            return
        for lent in self._idle:
            if lent.client is client:
                self._idle.remove(lent)
                self._all.discard(client)
                self._counts["replaced"] += 1
                self._pass_on(None)
                return

    # --- ahead of need --------------------------------------------------------------------------------

    def _is_due(self, lent: _Lent) -> bool:
        now = asyncio.get_running_loop().time()
        if lent.renew_at <= now:
            return True
        return self._max_idle is not None and self._total > self._min and lent.idle_since + self._max_idle <= now

    def _keep_warm(self) -> None:
        """Open what `min` wants, in the background. What fails is tried again when the pool is used next."""
        while not self._closed and self._total < self._min:
            self._total += 1
            task = asyncio.get_running_loop().create_task(self._open_ahead())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _open_ahead(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._starting.discard(task)
        if self._closed:
            self._pass_on(None)
            return
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        try:
            lent = await self._open(ahead=True)
        except OSError as error:
            logger.warning("no connection to %s ahead of need: %s", self._url, error)
            return
        self._pass_on(lent)

    def _set_timer(self) -> None:
        """Look after those at rest when the first of them is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = [lent.renew_at for lent in self._idle]
        if self._max_idle is not None and self._total > self._min:
            due += [lent.idle_since + self._max_idle for lent in self._idle]
        if due and (first := min(due)) != math.inf:
            self._timer = asyncio.get_running_loop().call_at(first, self._look_after)

    def _look_after(self) -> None:
        self._timer = None
        for lent in list(self._idle):
            if lent in self._idle and self._is_due(lent):
                self._idle.remove(lent)
                self._retire(lent)
        self._set_timer()

    # --- start and end --------------------------------------------------------------------------------

    async def __aenter__(self) -> Pool:
        if self._closed:
            raise WirewayError("a pool is used once: make another")
        self._keep_warm()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Lend no more, close what rests, and wait until what is in use has come back. Cancellation aborts that."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(ConnectionClosedError(f"the pool of {self._url} is closed"))
        for task in list(self._opening):
            task.cancel()
        resting, self._idle = self._idle, []
        for lent in resting:
            self._all.discard(lent.client)
            self._pass_on(None)
        try:
            await asyncio.gather(*(lent.client.close() for lent in resting))
            if self._total:
                self._drained = self._drained or asyncio.get_running_loop().create_future()
                await asyncio.shield(self._drained)
        except asyncio.CancelledError:
            for client in list(self._all):
                client.abort("its pool was closed")
            raise

    def _check_drained(self) -> None:
        if self._closed and not self._total and self._drained is not None and not self._drained.done():
            self._drained.set_result(None)


def _is_gone(client: Client) -> bool:
    """Whether the server has closed, though the loop has not heard of it yet: one poll(2) that does not wait."""
    connection = client.connection
    if connection is None:
        return True
    poller = select.poll()
    poller.register(connection.fileno(), _GONE)
    return bool(poller.poll(0))


def _bytes_in(client: Client) -> int:
    return 0 if client.connection is None else int(client.connection.stats["bytes_in"])
