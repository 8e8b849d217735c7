"""`WebServer`: a `wireway.Server` whose handler is an ASGI application.

Owns what makes a server of connections one of requests: the options of both, the lifespan around its life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from wireway._native import Connection
from wireway.config import Access, Buffers, Limits, SocketOptions, Timeouts
from wireway.errors import LifespanError
from wireway.framing import Raw
from wireway.http.asgi import Bridge
from wireway.http.counting import RequestCounts
from wireway.http.lifespan import Lifespan, LifespanMode, logger
from wireway.http.options import Application, HttpOptions
from wireway.net.server import Server
from wireway.net.stats import ServerStats
from wireway.net.tls import Tls

__all__ = ["WebServer"]

_LINGER = 2.0
"""Seconds for the last answer to arrive before its connection ends: `Timeouts.close_linger`."""


class WebServer(Server):
    """Serves an ASGI application over HTTP/1.1 and WebSocket.

    It is a `wireway.Server` in all else: `run(workers=...)`, limits, TLS, statistics, close reasons, draining.

    :param address: see `wireway.Server`; with ``tls://`` the scheme of requests is ``https``.
    :param app: an application of ASGI 3: ``async def app(scope, receive, send)``.
    :param http: what is taken of requests, and how long they may take.
    :param lifespan: see `Lifespan`.
    :param timeouts: those of the connections; `idle` is the keep-alive of `http` unless it is given here.
    :param drain_timeout: seconds that open requests get at the end.
    :raises ConfigError: an option or an address is wrong.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        app: Application,
        *,
        http: HttpOptions | None = None,
        lifespan: LifespanMode = "auto",
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        buffers: Buffers | None = None,
        socket: SocketOptions | None = None,
        access: Access | None = None,
        tls: Tls | None = None,
        drain_timeout: float = 10.0,
    ) -> None:
        http = HttpOptions() if http is None else http
        timeouts = Timeouts(close_linger=_LINGER, write_stall=60.0) if timeouts is None else timeouts
        if timeouts.idle is None and timeouts.idle_read is None:
            timeouts = replace(timeouts, idle_read=http.keep_alive)
        super().__init__(
            address,
            framing=Raw(),
            timeouts=timeouts,
            limits=limits,
            buffers=buffers,
            socket=socket,
            access=access,
            tls=tls,
            drain_timeout=drain_timeout,
        )
        self._bridge = Bridge(app, http)
        self._lifespan = Lifespan(app, lifespan)
        self._alive = False
        self.on_connect(self._bridge.connect)
        self.on_message(self._bridge.message)
        self.on_close(self._bridge.closed)

    @property
    def stats(self) -> ServerStats:
        """What it counted since its start. After the end the last counts stay."""
        counts = self._bridge.counts
        if counts is None:
            return super().stats
        return replace(super().stats, requests=counts.requests(), request_seconds=counts.seconds.counts())

    def time_handlers(self) -> None:
        """Count requests from now on, and time them. See `Server.time_handlers`."""
        super().time_handlers()
        if self._bridge.counts is None:
            self._bridge.counts = RequestCounts()

    async def start(self) -> None:
        """Start the application, then listen. See `Server.start`.

        :raises LifespanError: the application did not start; nothing listens.
        """
        if not self._alive:
            self._check()
            await self._lifespan.startup()
            self._alive = True
            self._bridge.begin(self._lifespan.state)
        try:
            await super().start()
        except BaseException:
            await self._end_of_life()
            raise

    async def close(self) -> None:
        """Stop accepting, let open requests end, then end the application. See `Server.close`.

        Who has sent a request, or does so within half a second, is answered, with `Connection: close`. WebSockets are
        closed with 1001.
        """
        deadline = asyncio.get_running_loop().time() + self._drain_timeout
        try:
            await super().close()
            await self._bridge.end_of_talks(deadline)
        finally:
            await self._end_of_life()

    def _moveable(self) -> list[Connection]:
        return []  # a request ends where it began; who comes next goes to the next process

    async def _let_end(self, connections: Callable[[], list[Connection]], deadline: float) -> None:
        await self._bridge.end(connections, deadline)

    async def _end_of_life(self) -> None:
        alive, self._alive = self._alive, False
        if alive:
            try:
                await self._lifespan.shutdown()
            except LifespanError as error:
                logger.error("%s", error)
