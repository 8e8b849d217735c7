"""`Server`: messages in, handlers called. Native from the socket to the handler.

Owns the start and the end. Knows no socket: those are `listening.py`'s; connections live in `wireway._native`.

Long because: what can be asked of a server is explained where it is asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, get_args, overload

from wireway._native import Connection, Listener, ServerCore
from wireway.config import (
    Access,
    Buffers,
    Capture,
    Handover,
    Heartbeat,
    Limits,
    SocketOptions,
    Stalls,
    Timeouts,
    WhenSlow,
    native_options,
)
from wireway.errors import ConfigError, WirewayError
from wireway.events import (
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    DrainBegan,
    DrainEnded,
    EventHandler,
    ServerStarted,
    ServerStopped,
    TlsHandshakeFailed,
    logged,
)
from wireway.framing import Framing, Raw
from wireway.loop import EventLoop
from wireway.net.address import Address, parse, url_of
from wireway.net.callbacks import BatchHandler, Callbacks, CloseHandler, ConnectHandler, MessageHandler
from wireway.net.closing import ClosedLog, CloseReason
from wireway.net.descriptors import budget, raise_soft_limit, warn_of_what_does_not_fit
from wireway.net.evidence import CODES, Evidence
from wireway.net.listening import Listening, listen
from wireway.net.memory import MemoryReport
from wireway.net.offload import Offload, Pool, ProcessHandler, ThreadHandler
from wireway.net.reach import Reach, WorkerInfo, alone
from wireway.net.renewing import Securing
from wireway.net.requests import Correlate
from wireway.net.runnable import Runnable
from wireway.net.stats import ServerStats
from wireway.net.tls import Tls

if TYPE_CHECKING:
    from wireway.observe.door import Door
    from wireway.observe.stalls import Stall, Watching

__all__ = ["Server"]

logger = logging.getLogger("wireway.server")

_LEVELS = {
    "handler-error": logging.ERROR,
    **dict.fromkeys(("frame-too-large", "bad-frame", "truncated-frame", "bad-proxy-header"), logging.WARNING),
    **{code: logging.INFO for code in CODES if code.startswith("tls-")},
}
"""What is logged louder than DEBUG: our own errors, and peers that break the protocol."""

_G = TypeVar("_G")
_M = TypeVar("_M", bound=MessageHandler)
_T = TypeVar("_T", bound=ThreadHandler)
_P = TypeVar("_P", bound=ProcessHandler)
_B = TypeVar("_B", bound=BatchHandler)
_C = TypeVar("_C", bound=ConnectHandler)
_X = TypeVar("_X", bound=CloseHandler)
_V = TypeVar("_V", bound=EventHandler)
_S = TypeVar("_S", bound="Callable[[Stall], object]")


_TRACEBACKS = 1000
"""Tracebacks that are kept for `Server.closed`; the oldest goes first."""


_STALLS = Stalls()

ServerState = Literal["new", "starting", "serving", "draining", "ended"]
"""Not started; does not accept yet; serves; accepts no more and lets what is open finish; ended."""


class Server:
    """A TCP or Unix server that calls a handler for each message.

    :param address: ``tcp://host:port`` or ``tls://host:port`` (port 0: any free one; host ``*``: every address of this
        machine), ``unix:///path``, or several of them.
    :param framing: how the stream is cut into messages; `Raw` (not at all) unless told.
    :param handler: an object whose methods are the handlers: `on_connect`, `on_message`, `on_batch`, `on_close`; or
        its class, of which the server makes one instance. Without it, decorate functions.
    :param timeouts: deadlines of each connection.
    :param heartbeat: pings for silent peers; none unless told.
    :param limits: how much the server takes on; all it can unless told.
    :param buffers: what may wait to be sent, and what happens to peers that read slowly.
    :param socket: options of the kernel.
    :param access: who may connect, and the PROXY protocol; everybody, and not, unless told.
    :param threads: `on_message` blocks: call it in that many threads, as ``on_message(threads=...)`` does.
    :param processes: the same, in that many processes.
    :param requests: how answers to ``conn.request`` are told apart; None: the next message that comes is the answer.
    :param handover: how SIGUSR2 hands its connections to the next program.
    :param stalls: when the loop counts as stalled; after 1 s unless told, None for never.
    :param tls: certificates and who may come, for ``tls://``.
    :param capture: keep the last messages of each connection, for who looks at it; None: not until somebody asks.
    :param drain_timeout: seconds that a stopping server gives its connections to finish.
    :raises ConfigError: an option is wrong.

    Thread rule: everything belongs to the thread that runs the loop.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        framing: Framing | None = None,
        handler: object | None = None,
        timeouts: Timeouts | None = None,
        heartbeat: Heartbeat | None = None,
        limits: Limits | None = None,
        buffers: Buffers | None = None,
        socket: SocketOptions | None = None,
        access: Access | None = None,
        threads: int | None = None,
        processes: int | None = None,
        requests: Correlate | None = None,
        stalls: Stalls | None = _STALLS,
        handover: Handover | None = None,
        tls: Tls | None = None,
        capture: Capture | None = None,
        drain_timeout: float = 10.0,
    ) -> None:
        """Check the options. Nothing is opened before the server starts."""
        self._addresses = _addresses(address)
        self._securing = Securing(tls, self._addresses)
        self._framing: Framing = Raw() if framing is None else framing
        if not isinstance(self._framing, Framing):
            names = ", ".join(kind.__name__ for kind in get_args(Framing))
            raise ConfigError(f"framing is {framing!r}, it must be one of wireway's framings, made: {names}")
        self._timeouts = _group("timeouts", timeouts, Timeouts, Timeouts())
        self._heartbeat = _group("heartbeat", heartbeat, Heartbeat, None)
        self._limits = _group("limits", limits, Limits, Limits())
        self._buffers = _group("buffers", buffers, Buffers, Buffers())
        self._socket = _group("socket", socket, SocketOptions, SocketOptions())
        self._requests = _group("requests", requests, Correlate, None)
        self._watching: Watching | None = None
        self._stalls: Stalls | None = _group("stalls", stalls, Stalls, None)
        self._handover = _group("handover", handover, Handover, Handover())
        self._access = _group("access", access, Access, Access())
        self.capture: Capture | None = _group("capture", capture, Capture, None)
        """What is kept of each connection's last messages from the start; None: nothing."""
        is_number = isinstance(drain_timeout, int | float) and not isinstance(drain_timeout, bool)
        if not (is_number and drain_timeout >= 0):
            raise ConfigError(f"drain_timeout is {drain_timeout!r}, it must be at least 0 seconds")
        self._drain_timeout = drain_timeout
        self._callbacks = Callbacks()
        self._securing.hear = self._callbacks.tell
        self._threads, self._processes = threads, processes
        if threads is not None or processes is not None:
            Offload(_nothing, threads=threads, processes=processes)  # refuses what is wrong
        self._pool: Pool | None = None
        self._tracebacks: dict[int, str] = {}
        self._listening = Listening()
        self._given: Listening | None = None
        self._reach: Reach | None = None
        self._timed = False
        self._place = ""  # its first address, also when it has ended
        self._leaving: list[Callable[[], Awaitable[None]]] = []  # at the end of `serve`, while the others still answer
        self._held = False  # starts without accepting: see runnable.py
        self._listeners: Sequence[Listener | Door] = []
        self._core: ServerCore | None = None
        self._counted: ServerCore | None = None
        self._loop: EventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._drained: asyncio.Future[None] | None = None
        if handler is not None:
            for name, method in self._callbacks.adopt(handler):
                self.on_message(method) if name == "on_message" else self._take(name, method)

    # --- handlers -----------------------------------------------------------------------------------

    @overload
    def on_message(self, handler: _M, /) -> _M: ...

    @overload
    def on_message(self, handler: None = None, /, *, threads: int, queue: int = 1000) -> Callable[[_T], _T]: ...

    @overload
    def on_message(self, handler: None = None, /, *, processes: int, queue: int = 1000) -> Callable[[_P], _P]: ...

    def on_message(
        self,
        handler: Callable[..., Any] | None = None,
        /,
        *,
        threads: int | None = None,
        processes: int | None = None,
        queue: int = 1000,
    ) -> Any:
        """Register ``handler(conn, message: bytes)``, a plain function or ``async def``.

        Messages of one connection are handled in order, one at a time. An exception closes that
        connection, with code ``handler-error``, and no other.

        A function that blocks runs elsewhere, as ``@server.on_message(threads=8)`` or ``(processes=4)``: others are
        served meanwhile, and the connection's next message waits. What it returns is sent: bytes, an iterable of
        bytes (each a message), or None. In a thread `conn` is a `ThreadConnection`; in a process it is a `PeerInfo`,
        and the handler must be a function of a module.

        :param threads: threads to call it in.
        :param processes: processes to call it in; one that dies closes the connection whose message it had, with
            code ``handler-error``, and is replaced.
        :param queue: messages that are with the workers or wait for one; beyond it their connections wait.
        """
        if handler is None:
            return partial(self._take_blocking, threads=threads, processes=processes, queue=queue)
        if self._threads is None and self._processes is None:
            return self._take("on_message", handler)
        return self._take_blocking(handler, threads=self._threads, processes=self._processes, queue=queue)

    def _take_blocking(self, handler: _G, *, threads: int | None, processes: int | None, queue: int) -> _G:
        if not callable(handler):
            raise ConfigError(f"a handler is a function, not {type(handler).__name__}")
        if threads is None and processes is None:
            threads, processes = self._threads, self._processes
        offload = None
        if threads is not None or processes is not None:
            offload = Offload(handler, threads=threads, processes=processes, queue=queue)
        self._take("on_message", handler)
        self._callbacks.offload = offload
        return handler

    def on_batch(self, handler: _B) -> _B:
        """Register ``handler(conn, messages: list[bytes])``: all that arrived at once, in one call."""
        return self._take("on_batch", handler)

    def on_connect(self, handler: _C) -> _C:
        """Register ``handler(conn)``, called before the first message is read.

        It refuses the peer by returning False, or by raising `wireway.Refused` with a text: the connection is closed
        with code ``refused``. With neither `on_message` nor `on_batch` an ``async def`` is the whole conversation: it
        reads with ``await conn.receive()`` or ``async for message in conn``, and when it returns the connection is
        closed.
        """
        return self._take("on_connect", handler)

    def on_close(self, handler: _X) -> _X:
        """Register ``handler(conn, reason: CloseReason)``, a plain function, called at the end."""
        return self._take("on_close", handler)

    def on_stall(self, handler: _S) -> _S:
        """Register ``handler(stall: Stall)``, a plain function, called on the loop when it turns again."""
        return self._take("on_stall", handler)

    def on_event(self, handler: _V) -> _V:
        """Register ``handler(event)``, a plain function, called on the loop for each event: see `wireway.events`.

        It costs nothing where there is none. What it raises is logged, and changes nothing.
        """
        return self._take("on_event", handler)

    def _take(self, name: str, handler: _G) -> _G:
        self._callbacks.set(name, handler, started=self._core is not None)
        return handler

    # --- what it is doing -----------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """The URLs that it listens on, with real ports. Empty before the start and after the end."""
        secured = self._listening.secured(self._addresses)
        return list(dict.fromkeys(url_of(sock, secured=sock in secured) for sock in self._listening.sockets))

    @property
    def backend(self) -> str:
        """The back end of its loop."""
        return self._running().backend

    @property
    def backend_reason(self) -> str:
        """Why that one."""
        return self._running().backend_reason

    @property
    def connections(self) -> list[Connection]:
        """The open connections."""
        return [] if self._core is None else self._core.connections()

    @property
    def stats(self) -> ServerStats:
        """What it counted since its start. After the end the last counts stay."""
        stalls = {} if self._watching is None else self._watching.counts()
        return ServerStats() if self._counted is None else ServerStats.of(self._counted.stats() | stalls)

    def time_handlers(self) -> None:
        """Note how long handlers take, from now on: `ServerStats.handler_seconds`. May be called before the start.

        Two more looks at the clock, about 50 ns, for what a connection received at once.
        """
        self._timed = True
        if self._core is not None:
            self._core.time_handlers()

    @property
    def state(self) -> ServerState:
        """What it does now."""
        if self._core is None:
            return "new" if self._counted is None else "ended"
        if self._listeners:
            return "serving"
        return "draining" if self._stop is not None and self._stop.is_set() else "starting"

    @property
    def stalls(self) -> list[Stall]:
        """The stalls of its loop since the start that are over, the newest last. They stay after the end."""
        return [] if self._watching is None else self._watching.stalls()

    async def total_stats(self) -> ServerStats:
        """The counts of all workers together, those that ended among them; without workers: `stats`.

        What was open when a worker was killed is closed as ``worker-lost``. Cancelling leaves nothing behind.

        :raises WirewayError: the supervisor is gone, or did not answer within 5 s.
        """
        return self.stats if self._reach is None else await self._reach.total()

    async def workers(self) -> list[WorkerInfo]:
        """Each worker that lives, by number and generation; without workers: this process, as number 0.

        One that has not answered for a second is ``silent``, with what it counted last.

        :raises WirewayError: the supervisor is gone, or did not answer within 5 s.
        """
        return alone(self.stats, self._core is not None) if self._reach is None else await self._reach.workers()

    @property
    def closed(self) -> ClosedLog:
        """Why the last 10,000 connections ended, as of now. They stay after the end, until it starts again.

        Collected when somebody asks: an end costs no Python object unless there is an `on_close`.
        """
        log = ClosedLog()
        for reason in self.ended():
            log.add(reason)
        return log

    def ended(
        self, *, last: int = 10_000, code: str | None = None, after: float = float("-inf"), skip: int = 0
    ) -> list[CloseReason]:
        """Why connections ended, the oldest first: those of `closed` that are asked for, and no others are collected.

        :param last: so many at most, the newest.
        :param code: only those that ended so.
        :param after: only those whose ``evidence["at"]``, seconds on the loop's clock, is greater.
        :param skip: without so many of the newest.
        """
        if self._counted is None or self._loop is None:
            return []
        began = time.time() - self._loop.time()
        records = self._counted.records(last, code, after, skip)
        return [self._reason_of(record, began + record["at"]) for record in records]

    def find(self, number: int) -> Connection | None:
        """The open connection whose `id` it is."""
        return None if self._core is None else self._core._find(number)

    def _reason_of(self, record: dict[str, Any], closed_at: float) -> CloseReason:
        number = record["id"]
        return CloseReason(
            record["code"],
            record["why"],
            connection=number,
            peer=record["peer"],
            closed_at=closed_at,
            detail=self._tracebacks.get(number, ""),
            evidence=cast(Evidence, record),
        )

    def leaks(self, *, age: float = 60.0, idle: float = 60.0) -> list[Connection]:
        """Connections that were forgotten: no handler runs, no group has them, nobody holds the object, nothing comes.

        :param age: only those open for so many seconds or more.
        :param idle: only those without a byte for so many seconds or more.
        """
        return [] if self._core is None else self._core.leaks(age, idle)

    def reload_tls(self) -> None:
        """Read certificates and keys again, for those who come from now on. If they can not be used nothing changes.

        :raises ConfigError: they can not be used.
        :raises WirewayError: the server does not run, or has no TLS.
        """
        self._securing.reload()

    @property
    def bans(self) -> dict[str, float]:
        """The addresses that `Limits.ban` keeps out now, and the seconds that are left of each."""
        return {} if self._core is None else self._core.bans()

    def unban(self, address: str) -> bool:
        """Let an IP address in again. False if it was not banned."""
        return False if self._core is None else self._core.unban(address)

    def memory(self, *, largest: int = 10) -> MemoryReport:
        """What it weighs now, by owner: kernel, native half, Python. One system call a connection.

        :param largest: how many of the heaviest connections are named.
        """
        return MemoryReport.of(self._core, largest)

    # --- groups -----------------------------------------------------------------------------------------

    @property
    def groups(self) -> dict[str, int]:
        """Each group that `Connection.join` made, and how many connections it has."""
        return {} if self._core is None else self._core.group_counts()

    def members(self, group: str) -> list[Connection]:
        """The connections of a group."""
        return [] if self._core is None else self._core.members(group)

    def broadcast(
        self,
        message: bytes,
        group: str | None = None,
        *,
        exclude: Iterable[Connection] = (),
        key: bytes | None = None,
        when_slow: WhenSlow | None = None,
    ) -> int:
        """Send a message to every connection, or to those of a group. Returns how many took it. It never waits.

        Framed once and shared: what it costs a connection is a reference. With workers it reaches the connections of
        the others too, a moment later; the number is this process's.

        :param exclude: connections that do not get it.
        :param key: under ``"latest"``, what it is about: it takes the place of a waiting message with the same key.
        :param when_slow: what happens where more than the high watermark waits; `Buffers.when_slow` unless told.
        """
        if self._core is None:
            return 0
        count = self._core.broadcast(message, group, tuple(exclude), key=key, when_slow=when_slow)
        if self._reach is not None:
            self._reach.publish("all" if group is None else "group", group, message, key, when_slow)
        return count

    def send_to_user(self, user: str, message: bytes) -> int:
        """Send a message to every connection whose `user` it is, of every worker. Returns how many took it here."""
        if self._core is None:
            return 0
        count = self._core.send_to_user(user, message)
        if self._reach is not None:
            self._reach.publish("user", user, message, None, None)
        return count

    def connections_of(self, user: str) -> list[Connection]:
        """The connections of a user."""
        return [] if self._core is None else self._core.connections_of(user)

    def _running(self) -> EventLoop:
        if self._loop is None:
            raise WirewayError("the server has not started")
        return self._loop

    # --- start and end --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, and begin to serve. Returns at once.

        :raises WirewayError: the running loop is not a `wireway.EventLoop`, or the server runs already.
        :raises AddressError: an address can not be resolved.
        :raises OSError: the kernel refuses one; `AddressInUseError` if somebody else listens there.
        """
        loop = asyncio.get_running_loop()
        if not isinstance(loop, EventLoop):
            raise WirewayError(
                f"a Server runs on a wireway.EventLoop, not on {type(loop).__name__}: "
                "use wireway.run(...) or server.run()"
            )
        if self._core is not None:
            raise WirewayError("the server runs already")
        self._check()
        raise_soft_limit()  # before anything is accepted: io_uring keeps the limit that an accept was armed under
        listening = listen(self._addresses, self._socket) if self._given is None else self._given
        self._given = None
        callbacks = self._callbacks
        offload = callbacks.offload
        self._pool = None if offload is None else Pool(loop, offload)
        self._loop = loop
        self._tracebacks.clear()
        self._stop = asyncio.Event()
        self._drained = None
        self._listening = listening
        try:
            self._core = self._counted = core = self._make_core(loop)
            self._securing.begin(core, loop)
            if not self._held:
                self._accept()
        except BaseException:
            self._stop_listening()
            self._securing.end()
            self._core = None
            if self._pool is not None:
                self._pool.stop()
            raise
        warn_of_what_does_not_fit(budget(loop.backend), self._limits.connections)
        if self._stalls is not None:
            from wireway.observe.stalls import Watching  # an import upward: see test_layers.py

            self._watching = Watching(loop, self._stalls, self._callbacks, self.addresses)
        if callbacks.heard:
            addresses = tuple(self.addresses)
            callbacks.tell(ServerStarted(server=self._place, addresses=addresses, backend=loop.backend))

    def _accept(self) -> None:
        secured = self._listening.secured(self._addresses)
        self._listeners = [
            Listener(self._running(), sock, framed=self._core, secured=sock in secured)
            for sock in self._listening.sockets
        ]

    def _check(self) -> None:
        """Refuse what can not be served."""
        self._callbacks.check()
        self._securing.check()
        if self._callbacks.offload is None and (self._threads or self._processes):
            raise ConfigError("threads= and processes= are for on_message, which the server has not")

    def _make_core(self, loop: EventLoop) -> ServerCore:
        callbacks = self._callbacks
        heard = callbacks.heard
        self._place = next(iter(self.addresses), "")
        handlers = {
            "message": callbacks.on_message if self._pool is None else self._pool.handle,
            "batch": callbacks.on_batch,
            "connect": callbacks.connect(self._opened if heard else None),
            "closed": self._closed,
            "refused": self._refused if heard else None,
            "wants_close": heard or callbacks.on_close is not None,
        }
        options = native_options(self._timeouts, self._limits, self._buffers, self._heartbeat, self._access)
        options["correlate"] = self._requests
        core = ServerCore(loop, self._framing._native(), handlers, options)
        if self._timed:
            core.time_handlers()
        return core

    async def serve(self) -> None:
        """Start if need be, and serve until `stop` or `close` is called or this coroutine is cancelled; drain."""
        if self._core is None:
            await self.start()
        stop = self._stop
        assert stop is not None
        try:
            await stop.wait()
        finally:
            await self.close()
        for leave in self._leaving:
            await leave()

    def stop(self) -> None:
        """End `serve`. Returns at once."""
        if self._stop is not None:
            self._stop.set()

    async def close(self) -> None:
        """Stop accepting, let running handlers and queued bytes finish, then close every connection.

        What is not finished after `drain_timeout` seconds is aborted, and its handler cancelled.
        Cancelling `close` does that at once.
        """
        core, loop, pool = self._core, self._loop, self._pool
        if core is None or loop is None:
            return
        began = loop.time()
        deadline = began + self._drain_timeout
        self.stop()
        heard = self._callbacks.heard and self._drained is None
        if heard:
            self._callbacks.tell(DrainBegan(server=self._place, open=len(core.connections())))
        late = self._stop_listening()
        self._securing.end()
        try:
            if late:
                await asyncio.sleep(0)  # accepted already: they are let in, and drained with the others
            if self._drained is None:
                await self._let_end(core.connections, deadline)
            if self._drained is None:
                self._drained = loop.create_future()
                for connection in core.connections():
                    connection._drain_and_close()
                core.when_drained(partial(_settle, self._drained))
            # Shielded: several may wait for it.
            await asyncio.wait_for(asyncio.shield(self._drained), max(deadline - loop.time(), 0.0))
        except TimeoutError:
            left = core.connections()
            ended = DrainEnded(server=self._place, seconds=loop.time() - began, aborted=len(left))
            text = "%d connections did not finish in %g s and are aborted"
            logger.warning(text, len(left), self._drain_timeout, extra=logged(ended))
        else:
            if pool is not None:
                await pool.quiet(deadline - loop.time())
        finally:
            if heard:
                self._callbacks.tell(
                    DrainEnded(server=self._place, seconds=loop.time() - began, aborted=len(core.connections()))
                )
            for connection in core.connections():
                connection._abort_and_cancel()
            if pool is not None:
                pool.stop()
            if self._core is core:
                self._core = None
                if self._watching is not None:
                    self._watching.close()
        if pool is not None:
            await pool.ended()
        if heard:
            self._callbacks.tell(ServerStopped(server=self._place))

    def _moveable(self) -> list[Connection]:
        """The connections that another process could take: all, unless a protocol knows better."""
        return self.connections

    async def _let_end(self, connections: Callable[[], list[Connection]], deadline: float) -> None:
        """What a protocol does for its connections before they are drained; `deadline` is of the loop's clock."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def run(
        self,
        *,
        backend: str = "auto",
        debug: bool | None = None,
        on_started: Callable[[Server], None] | None = None,
        workers: int | Literal["auto"] | None = None,
    ) -> None:
        """Serve on a new loop until SIGINT or SIGTERM, then drain and return. A second signal ends it at once.

        With `workers` this process opens the listening sockets and keeps that many processes, each of which runs the
        command of this one again and serves in its place here. One that dies is replaced; SIGHUP replaces them one by
        one, with the program as it is on disk then. Each has connections, groups and counts of its own.

        :param backend: see `wireway.EventLoop`.
        :param on_started: called once the server listens; with `workers`, in each of them.
        :param workers: how many; ``"auto"``: one for each core that this process may use.
        :raises ConfigError: `workers` is wrong, or this is not the main thread.
        :raises WirewayError: the workers do not start.
        """
        from wireway.serve.running import run_server  # the one import upward: see test_layers.py

        started = _nothing if on_started is None else partial(on_started, self)
        run_server(Runnable(self), backend=backend, debug=debug, workers=workers, started=started)

    def _stop_accepting(self) -> int:
        """Returns how many connections are still to come, in the next turn: the kernel had accepted them."""
        late = sum(listener.close() for listener in self._listeners)
        self._listeners = []
        return late

    def _stop_listening(self) -> int:
        late = self._stop_accepting()
        self._listening.close()
        return late

    def _opened(self, connection: Connection) -> None:
        self._callbacks.tell(ConnectionOpened(server=self._place, connection=connection.id, peer=connection.peer))

    def _refused(self, evidence: Evidence) -> None:
        self._callbacks.tell(
            ConnectionRefused(
                server=self._place,
                connection=evidence.get("id", 0),
                peer=evidence.get("peer"),
                code=evidence.get("code", ""),
                why=evidence.get("why", ""),
            )
        )

    def _closed(self, connection: Connection, evidence: Evidence) -> None:
        reason = CloseReason.of(connection, evidence)
        if reason.error is not None:
            self._tracebacks[connection.id] = reason.detached().detail
            if len(self._tracebacks) > _TRACEBACKS:
                del self._tracebacks[next(iter(self._tracebacks))]
        level = _LEVELS.get(reason.code, logging.DEBUG)
        is_logged, heard = logger.isEnabledFor(level), self._callbacks.heard
        event = closed_event(self._place, connection, reason, evidence) if is_logged or heard else None
        if event is not None and is_logged:
            exc = reason.error if reason.code == "handler-error" else None
            logger.log(
                *(level, "connection %d from %s: %s: %s", connection.id, connection.peer, reason.code, reason.why),
                exc_info=exc,
                extra=logged(event),
            )
        if event is not None and heard:
            self._callbacks.tell(event)
        if self._callbacks.on_close is not None:
            self._callbacks.on_close(connection, reason)


def closed_event(place: str, connection: Connection, reason: CloseReason, evidence: Evidence) -> ConnectionClosed:
    """The end of a connection, as an event."""
    kind = TlsHandshakeFailed if evidence.get("phase") == "tls-handshake" else ConnectionClosed
    return kind(
        server=place,
        connection=connection.id,
        peer=connection.peer,
        code=reason.code,
        side=reason.side,
        why=reason.why,
        age=reason.age,
        bytes_in=reason.bytes_in,
        bytes_out=reason.bytes_out,
    )


def _nothing() -> None:
    """Stand for a handler."""


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _addresses(given: str | Sequence[str]) -> list[Address]:
    urls: Sequence[str] = given if isinstance(given, list | tuple) else [given]  # type: ignore[list-item]
    if not urls:
        raise ConfigError("address is empty, a server listens on at least one")
    return [parse(url) for url in urls]


def _group(name: str, value: _G | None, kind: type[_G], default: Any) -> Any:
    if value is not None and not isinstance(value, kind):
        raise ConfigError(f"{name} is {value!r}, it must be a wireway.{kind.__name__}, or None")
    return default if value is None else value
