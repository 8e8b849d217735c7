"""The bridge from the connections of a `wireway.Server` to an ASGI application.

Owns the order of things on a connection: one request after the other, what is left of a body, when it closes, and how
all end when the server does. What a request and an answer are is native: `HttpParser` and `HttpExchange` of
crates/py/src/http.rs. A request that is there whole, and an application that waits for nothing, cost no Task, no reader
and no Future.

The specification: ASGI 3.0, HTTP & WebSocket 2.5. A `send` after the client has gone raises `ConnectionClosedError`, an
OSError, as it is wanted since 2.4.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from wireway._native import Connection, HttpExchange, HttpParser
from wireway.errors import ConnectionClosedError
from wireway.http.counting import INVALID, RequestCounts
from wireway.http.failing import failed, logger, refuse
from wireway.http.forwarded import Forwarded
from wireway.http.limiting import bounded
from wireway.http.logs import tell, tell_of_refusal
from wireway.http.options import Application, Event, HttpOptions
from wireway.http.receiving import DISCONNECT, Watch, next_bytes
from wireway.http.sending import send_path
from wireway.http.tls import tls_extension
from wireway.net.closing import CloseReason

if TYPE_CHECKING:
    from wireway.http.websocket import Talk

__all__ = ["Bridge"]

_UNBOUNDED = 2**63 - 1
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SKIPPED = 64 * 1024
"""Bytes of a body nobody read that are worth being passed over, so that the connection can go on."""
_SKIP_TIMEOUT = 5.0
"""Seconds that they may take."""
_PLAIN = [(b"content-type", b"text/plain; charset=utf-8")]
_GRACE = 0.5
"""Seconds that a connection at rest stays open when the server ends: a request may be on its way."""


class Bridge:
    """Serves an application. `connect`, `message`, `closed` are the handlers of a `wireway.Server` with `Raw` framing.

    Belongs to the loop's thread.
    """

    def __init__(self, app: Application, options: HttpOptions) -> None:
        self.app = app if options.requests is None else bounded(app, options.requests)
        self.options = options
        self.state: dict[str, Any] = {}
        """What the lifespan left; each request gets a shallow copy."""
        self.context = contextvars.copy_context()
        """That of the server's start: each request begins in it."""
        self.talks: set[asyncio.Task[None]] = set()
        """The applications of WebSockets."""
        self.ends: dict[int, Callable[[], None]] = {}
        """What is called when a connection ends, by its id."""
        self._watches: dict[int, Watch] = {}
        self._log = options.access_log
        self.counts: RequestCounts | None = None
        """Where requests are counted; None: nobody wants to know."""
        self._forwarded = Forwarded(options.forwarded_allow) if options.forwarded_allow else None
        self._connected = 0
        self._ending: asyncio.Event | None = None
        """The server ends; set once no connection is left."""

    def begin(self, state: dict[str, Any]) -> None:
        """The server starts, or starts again. `state` is what the lifespan left."""
        self.state = state
        self.context = contextvars.copy_context()
        self._ending = None

    # --- the handlers of the server ---------------------------------------------------------------------

    def connect(self, conn: Connection) -> None:
        """Give a new connection its parser."""
        options = self.options
        local, peer, secured = conn.local, conn.peer, conn.tls
        extensions: dict[str, Any] = {
            "http.response.early_hint": {},
            "http.response.pathsend": {},
            "http.response.trailers": {},
            "wireway.connection": {"connection": conn},
        }
        if secured is not None:
            extensions["tls"] = tls_extension(secured)
        template: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "scheme": "http" if secured is None else "https",
            "root_path": options.root_path,
            "client": (peer[0], peer[1]) if isinstance(peer, tuple) else None,
            "server": (local[0], local[1]) if isinstance(local, tuple) else (local, None),
            "extensions": extensions,
        }
        if self.state:
            template["state"] = self.state
        believed = None
        if (forwarded := self._forwarded) is not None and forwarded.trusts(peer):
            believed = forwarded.believe
        body = _UNBOUNDED if options.body_size is None else options.body_size
        limits = (options.head_size, options.head_fields, body)
        signature = (options.server_header, options.date_header)
        conn.state = parser = HttpParser(conn, template, self._wait, send_path, believed, limits, signature)
        self._connected += 1
        if self._ending is not None:
            parser.make_last()

    async def message(self, conn: Connection, data: bytes) -> None:
        """Take bytes of a connection, and serve every request that they complete."""
        parser: Any = conn.state
        if type(parser) is not HttpParser:
            await parser.take(data)
            return
        found: Any = parser.feed(data)
        while found is not None or parser.pending:
            exchange = found if isinstance(found, HttpExchange) else await self._incomplete(conn, parser, found)
            if exchange is None:
                return
            if exchange.upgrade and self._begins_to_talk(conn, exchange):
                return
            began = perf_counter() if self._log or self.counts is not None else 0.0
            try:
                await self.app(exchange.scope, exchange.receive, exchange.send)
            except (Exception, asyncio.CancelledError, BaseExceptionGroup) as error:  # noqa: BLE001 - the application's
                failed(conn, exchange.scope, error)
            if not exchange.over:
                self._unanswered(conn, exchange)
            if self.counts is not None:
                self.counts.note(exchange.scope["method"], exchange.status)
                self.counts.seconds.note(perf_counter() - began)
            if self._log:
                tell(exchange, began)
            if not exchange.keep_alive:
                conn.close("the answer was the last one")
                return
            if not parser.body_done and not await self._skip_body(conn, exchange):
                return
            if not parser.pending:
                return
            if contextvars.copy_context() != self.context:
                # What the application has set is not for the next request.
                await asyncio.create_task(self._rest(conn), context=self.context.copy())
                return
            found = parser.next()

    def closed(self, conn: Connection, reason: CloseReason) -> None:
        """Wake who waits for the end of a connection."""
        if self.ends and (call := self.ends.pop(conn.id, None)) is not None:
            call()
        self._connected -= 1
        if self._ending is not None and not self._connected:
            self._ending.set()

    # --- the end of the server --------------------------------------------------------------------------

    async def end(self, connections: Callable[[], list[Connection]], deadline: float) -> None:
        """Let every request end whose first byte is on its way, and tell WebSockets that the server goes.

        :param deadline: of the loop's clock.
        """
        loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        for conn in connections():
            state: HttpParser | Talk = conn.state
            if isinstance(state, HttpParser):
                state.make_last()
            elif state is not None:
                state.go_away()
        if not self._connected:
            return
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + _GRACE)):
                await self._ending.wait()
        except TimeoutError:
            for conn in connections():
                state = conn.state
                if isinstance(state, HttpParser) and not state.answering and not state.pending:
                    conn.close("the server stops")
            try:
                async with asyncio.timeout_at(deadline):
                    await self._ending.wait()
            except TimeoutError:
                return

    async def end_of_talks(self, deadline: float) -> None:
        """Wait until the applications of WebSockets have ended; cancel those that do not."""
        if self.talks:
            left = deadline - asyncio.get_running_loop().time()
            _, late = await asyncio.wait(self.talks, timeout=max(left, 0.0))
            for task in late:
                task.cancel()
            if late:
                logger.warning("%d WebSockets did not end in time and are cancelled", len(late))
                await asyncio.wait(late)

    # --- the parts of a request that wait ---------------------------------------------------------------

    async def _rest(self, conn: Connection) -> None:
        """Serve what came with a request, in a context of its own."""
        await self.message(conn, b"")

    async def _incomplete(self, conn: Connection, parser: HttpParser, found: Any) -> HttpExchange | None:
        """Wait for the rest of a head, bounded; refuse what is not HTTP."""
        try:
            async with asyncio.timeout(self.options.head_timeout):
                while found is None:
                    found = parser.feed(await conn.receive())
        except TimeoutError:
            found = (408, f"the head of the request took longer than {self.options.head_timeout:g} s")
        except ConnectionClosedError:
            return None
        if isinstance(found, tuple):
            self.refuse(conn, *found)
            return None
        assert isinstance(found, HttpExchange)
        return found

    async def _wait(self, exchange: HttpExchange) -> Event:
        """Wait for the next event of a request: `receive` where nothing is there yet."""
        conn: Connection = exchange.connection
        if exchange.over:
            return {"type": DISCONNECT}
        if not exchange.read:
            try:
                return await self._body(conn, exchange)
            except ConnectionClosedError:
                return {"type": DISCONNECT}
        watch = self._watches.get(conn.id)
        if watch is None or watch.exchange is not exchange:
            watch = self._watches[conn.id] = Watch(conn, exchange, self.ends, self._watches)
        await watch.wait()
        return {"type": DISCONNECT}

    async def _body(self, conn: Connection, exchange: HttpExchange) -> Event:
        parser = exchange.parser
        if exchange.expects_continue and not exchange.begun:
            exchange.continued()
            conn.send_nowait(_CONTINUE)
        while True:
            match parser.take_body():
                case None:
                    try:
                        data = await next_bytes(conn, exchange, self.options.body_timeout)
                    except TimeoutError:
                        seconds = f"{self.options.body_timeout:g} s"
                        return self._refuse_body(conn, exchange, 408, f"nothing came of the body for {seconds}")
                    if data is None:
                        return {"type": DISCONNECT}
                    parser.push(data)
                case (int() as status, str() as text):
                    return self._refuse_body(conn, exchange, status, text)
                case (bytes() as data, bool() as more):
                    if not more:
                        exchange.note_read()
                    return {"type": "http.request", "body": data, "more_body": more}

    def _refuse_body(self, conn: Connection, exchange: HttpExchange, status: int, text: str) -> Event:
        if exchange.begun:
            conn.close(f"bad request: {text}")
        else:
            self.refuse(conn, status, text)
        return {"type": DISCONNECT}

    async def _skip_body(self, conn: Connection, exchange: HttpExchange) -> bool:
        """Pass over what nobody read of a body. Returns whether the connection can go on; if not, it was closed."""
        skipped = 0
        parser = exchange.parser
        try:
            async with asyncio.timeout(_SKIP_TIMEOUT):
                while skipped <= _SKIPPED and not exchange.expects_continue:
                    match parser.take_body():
                        case None:
                            parser.push(await conn.receive())
                        case (int(), str() as text):
                            conn.close(f"bad request: {text}")
                            return False
                        case (bytes() as data, bool() as more):
                            if not more:
                                return True
                            skipped += len(data)
        except (TimeoutError, ConnectionClosedError):
            pass
        conn.close("the application did not read the body of the request")
        return False

    def _begins_to_talk(self, conn: Connection, exchange: HttpExchange) -> bool:
        """Begin a WebSocket, or refuse it. False: it is a request like any other."""
        from wireway.http.websocket import begin, is_websocket

        if not is_websocket(exchange.scope):
            return False
        begin(self, conn, exchange)
        return True

    # --- what goes wrong --------------------------------------------------------------------------------

    def note(self, method: str, status: int) -> None:
        """Count a request that was answered without the application, or became a WebSocket."""
        if self.counts is not None:
            self.counts.note(method, status)

    def refuse(self, conn: Connection, status: int, text: str, *more: str, method: str = INVALID) -> None:
        """Answer what is no request, close, and tell of it. `more` are further lines of the head."""
        self.note(method, status)
        refuse(conn, status, text, *more)
        if self._log:
            tell_of_refusal(conn, status, text)

    def _unanswered(self, conn: Connection, exchange: HttpExchange) -> None:
        """Answer in the place of an application that failed, or returned too early."""
        if conn.is_closing:
            return
        if exchange.begun:
            # Half an answer is out. Only the end of the connection tells the client that it is not whole.
            exchange.make_last()
            conn.abort("the application ended in the middle of its answer")
            return
        exchange.reset()
        exchange.make_last()
        try:
            exchange.send({"type": "http.response.start", "status": 500, "headers": _PLAIN})
            exchange.send({"type": "http.response.body", "body": b"Internal Server Error"})
        except ConnectionClosedError:
            return
