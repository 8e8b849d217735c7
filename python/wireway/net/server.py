"""`Server`: messages in, handlers called. Native from the socket to the handler.

Owns the listening sockets, the start and the end. Connections live in `wireway._native`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from wireway._native import Connection, Listener, ServerCore
from wireway.config import Buffers, native_options
from wireway.errors import ConfigError, WirewayError
from wireway.framing import Framing, LengthPrefix, Raw
from wireway.loop import EventLoop, new_event_loop
from wireway.net.address import Address, SocketFile, listen, parse, url_of

__all__ = ["CloseReason", "Server"]

logger = logging.getLogger("wireway.server")

_LEVELS = {"handler-error": logging.ERROR, "frame-too-large": logging.WARNING}
"""What is logged louder than DEBUG: our own errors, and peers that break the protocol."""

MessageHandler = Callable[[Connection, bytes], Awaitable[None] | None]
BatchHandler = Callable[[Connection, list[bytes]], Awaitable[None] | None]
ConnectHandler = Callable[[Connection], Awaitable[None] | None]
CloseHandler = Callable[[Connection, "CloseReason"], None]
_T = TypeVar("_T")
_M = TypeVar("_M", bound=MessageHandler)
_B = TypeVar("_B", bound=BatchHandler)
_C = TypeVar("_C", bound=ConnectHandler)
_X = TypeVar("_X", bound=CloseHandler)


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a connection ended."""

    code: str
    """peer-closed, closed, server-stopped, aborted; peer-reset, timed-out, io-error; frame-too-large,
    truncated-frame; handler-error, handler-cancelled."""
    why: str
    """One sentence for people."""
    error: BaseException | None = None
    """The exception behind it: the handler's, or the kernel's as an `OSError`."""


class Server:
    """A TCP or Unix server that calls a handler for each message.

    :param address: ``tcp://host:port`` (port 0: any free one) or ``unix:///path``.
    :param framing: how the stream is cut into messages; `Raw` (not at all) unless told.
    :param backlog: connections that the kernel holds until they are accepted.
    :param high: bytes that may wait to be sent on one connection. Above, ``await conn.send()`` waits
        and no further message of that connection is handled.
    :param low: bytes at which it goes on; a quarter of `high` unless told.
    :param drain_timeout: seconds that a stopping server gives its connections to finish.
    :raises ConfigError: an option is wrong.

    Thread rule: everything belongs to the thread that runs the loop.
    """

    def __init__(
        self,
        address: str,
        *,
        framing: Framing | None = None,
        backlog: int = 4096,
        high: int = 64 * 1024,
        low: int | None = None,
        drain_timeout: float = 10.0,
    ) -> None:
        """Check the options. Nothing is opened before the server starts."""
        self._address: Address = parse(address)
        self._framing: Framing = Raw() if framing is None else framing
        if not isinstance(self._framing, Raw | LengthPrefix):
            raise ConfigError(f"framing is {framing!r}, it must be wireway.Raw() or wireway.LengthPrefix(...)")
        if low is None and isinstance(high, int):
            low = high // 4
        if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high):
            raise ConfigError(f"0 <= low <= high must hold, got low={low!r} and high={high!r} bytes")
        if not (isinstance(backlog, int) and backlog >= 1):
            raise ConfigError(f"backlog is {backlog!r}, it must be at least 1")
        if not (isinstance(drain_timeout, int | float) and drain_timeout >= 0):
            raise ConfigError(f"drain_timeout is {drain_timeout!r}, it must be at least 0 seconds")
        self._low, self._high = low, high
        self._backlog = backlog
        self._drain_timeout = drain_timeout
        self._on_message: MessageHandler | None = None
        self._on_batch: BatchHandler | None = None
        self._on_connect: ConnectHandler | None = None
        self._on_close: CloseHandler | None = None
        self._sockets: list[socket.socket] = []
        self._files: list[SocketFile] = []
        self._listeners: list[Listener] = []
        self._core: ServerCore | None = None
        self._loop: EventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._drained: asyncio.Future[None] | None = None

    # --- handlers -----------------------------------------------------------------------------------

    def on_message(self, handler: _M) -> _M:
        """Register ``handler(conn, message: bytes)``, a plain function or ``async def``.

        Messages of one connection are handled in order, one at a time. An exception closes that
        connection, with code ``handler-error``, and no other.
        """
        self._on_message = self._take(handler, self._on_batch or self._on_message)
        return handler

    def on_batch(self, handler: _B) -> _B:
        """Register ``handler(conn, messages: list[bytes])``: all that arrived at once, in one call."""
        self._on_batch = self._take(handler, self._on_batch or self._on_message)
        return handler

    def on_connect(self, handler: _C) -> _C:
        """Register ``handler(conn)``, called before the first message is read."""
        self._on_connect = self._take(handler, self._on_connect)
        return handler

    def on_close(self, handler: _X) -> _X:
        """Register ``handler(conn, reason: CloseReason)``, a plain function, called at the end."""
        self._on_close = self._take(handler, self._on_close)
        return handler

    def _take(self, handler: _T, former: object) -> _T:
        if not callable(handler):
            raise ConfigError(f"a handler is a function, not {type(handler).__name__}")
        if former is not None:
            raise ConfigError("the server has that handler already; on_message and on_batch exclude each other")
        if self._core is not None:
            raise ConfigError("handlers are registered before the server starts")
        return handler

    # --- what it is doing -----------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """The URLs that it listens on, with real ports. Empty before the start and after the end."""
        return [url_of(sock) for sock in self._sockets]

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
    def stats(self) -> dict[str, int]:
        """Counts since the start: connections accepted and open, messages received."""
        core = self._core
        if core is None:
            return {"accepted": 0, "open": 0, "messages": 0}
        stats = core.stats()
        return {"accepted": stats["accepted"], "open": stats["open"], "messages": stats["messages_in"]}

    def _running(self) -> EventLoop:
        if self._loop is None:
            raise WirewayError("the server has not started")
        return self._loop

    # --- start and end --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, and begin to serve. Returns at once.

        :raises WirewayError: the running loop is not a `wireway.EventLoop`, or the server runs already.
        :raises AddressInUseError, AddressError, OSError: see `wireway.net.address.listen`.
        """
        loop = asyncio.get_running_loop()
        if not isinstance(loop, EventLoop):
            raise WirewayError(
                f"a Server runs on a wireway.EventLoop, not on {type(loop).__name__}: "
                "use wireway.run(...) or server.run()"
            )
        if self._core is not None:
            raise WirewayError("the server runs already")
        if not (self._on_batch or self._on_message or self._on_connect):
            raise ConfigError("the server has no handler: decorate one with @server.on_message")
        sockets = listen(self._address, self._backlog)
        self._loop = loop
        self._stop = asyncio.Event()
        self._drained = None
        self._core = ServerCore(
            loop,
            self._framing._native(),
            {
                "message": self._on_message,
                "batch": self._on_batch,
                "connect": self._on_connect,
                "closed": self._closed,
                "wants_close": self._on_close is not None,
            },
            native_options(buffers=Buffers(low=self._low, high=self._high)),
        )
        self._sockets = sockets
        try:
            self._files = [SocketFile.of(sock) for sock in sockets if sock.family == socket.AF_UNIX]
            self._listeners = [Listener(loop, sock, framed=self._core) for sock in sockets]
        except BaseException:
            self._stop_listening()
            self._core = None
            raise

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

    def stop(self) -> None:
        """End `serve`. Returns at once."""
        if self._stop is not None:
            self._stop.set()

    async def close(self) -> None:
        """Stop accepting, let running handlers and queued bytes finish, then close every connection.

        What is not finished after `drain_timeout` seconds is aborted, and its handler cancelled.
        Cancelling `close` does that at once.
        """
        core, loop = self._core, self._loop
        if core is None or loop is None:
            return
        self.stop()
        self._stop_listening()
        try:
            if self._drained is None:
                self._drained = loop.create_future()
                for connection in core.connections():
                    connection._drain_and_close()
                core.when_drained(partial(_settle, self._drained))
            # Shielded: several may wait for it.
            await asyncio.wait_for(asyncio.shield(self._drained), self._drain_timeout)
        except TimeoutError:
            left = core.connections()
            logger.warning("%d connections did not finish in %g s and are aborted", len(left), self._drain_timeout)
        finally:
            for connection in core.connections():
                connection._abort_and_cancel()
            if self._core is core:
                self._core = None

    async def __aenter__(self) -> Server:
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
    ) -> None:
        """Serve on a new loop until SIGINT or SIGTERM, then drain and return.

        :param backend: see `wireway.EventLoop`.
        :param on_started: called once the server listens.
        """
        with asyncio.Runner(debug=debug, loop_factory=partial(new_event_loop, backend)) as runner:
            runner.run(self._serve_until_signal(on_started))

    async def _serve_until_signal(self, on_started: Callable[[Server], None] | None) -> None:
        await self.start()
        loop = self._running()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self.stop)
        if on_started is not None:
            on_started(self)
        await self.serve()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.close()
        for sock in self._sockets:
            sock.close()
        for file in self._files:
            file.remove()
        self._listeners, self._sockets, self._files = [], [], []

    def _closed(self, connection: Connection, evidence: dict[str, Any]) -> None:
        code, why, error = evidence["code"], evidence["why"], evidence["error"]
        reason = CloseReason(code, why, error)
        level = _LEVELS.get(code, logging.DEBUG)
        if logger.isEnabledFor(level):
            exc = error if code == "handler-error" else None
            logger.log(level, "connection %d from %s: %s: %s", connection.id, connection.peer, code, why, exc_info=exc)
        if self._on_close is not None:
            self._on_close(connection, reason)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
