"""The bridge from the connections of a `wireway.Server` to an ASGI application.

Owns the order of things on a connection: one request after the other, what is left of a body, when it closes. What a
request and an answer are is native: `HttpParser` and `HttpExchange` of crates/py/src/http.rs. A request that is there
whole, and an application that waits for nothing, cost no Task, no reader and no Future.

The specification: ASGI 3.0, HTTP & WebSocket 2.4. A `send` after the client has gone raises `ConnectionClosedError`, an
OSError, as 2.4 wants it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from time import perf_counter
from typing import Any

from wireway._native import Connection, HttpExchange, HttpParser
from wireway.errors import ConnectionClosedError
from wireway.http.counting import INVALID, RequestCounts
from wireway.http.options import Application, Event, HttpOptions
from wireway.net.closing import CloseReason

__all__ = ["Bridge"]

logger = logging.getLogger("wireway.http")
access = logging.getLogger("wireway.access")

_UNBOUNDED = 2**63 - 1
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_KEPT = 64 * 1024
"""Bytes of following requests that are kept while the application waits for the client's end."""
_SKIPPED = 64 * 1024
"""Bytes of a body nobody read that are worth being passed over, so that the connection can go on."""
_SKIP_TIMEOUT = 5.0
"""Seconds that they may take."""
_DISCONNECT = "http.disconnect"


class Bridge:
    """Serves an application. `connect`, `message`, `closed` are the handlers of a `wireway.Server` with `Raw` framing.

    Belongs to the loop's thread.
    """

    def __init__(self, app: Application, options: HttpOptions) -> None:
        self.app = app
        self.options = options
        self.state: dict[str, Any] = {}
        """What the lifespan left; each request gets a shallow copy."""
        self.context = contextvars.copy_context()
        """That of the server's start: each request begins in it."""
        self._ends: dict[int, asyncio.Event] = {}
        self._log = options.access_log
        self.counts: RequestCounts | None = None
        """Where requests are counted; None: nobody wants to know."""

    # --- the handlers of the server ---------------------------------------------------------------------

    def connect(self, conn: Connection) -> None:
        """Give a new connection its parser."""
        options = self.options
        local, peer = conn.local, conn.peer
        template: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "scheme": "http" if conn.tls is None else "https",
            "root_path": options.root_path,
            "client": (peer[0], peer[1]) if isinstance(peer, tuple) else None,
            "server": (local[0], local[1]) if isinstance(local, tuple) else (local, None),
            "extensions": {"wireway.connection": {"connection": conn}},
        }
        if self.state:
            template["state"] = self.state
        body = _UNBOUNDED if options.body_size is None else options.body_size
        conn.state = HttpParser(conn, template, self._wait, options.head_size, options.head_fields, body)

    async def message(self, conn: Connection, data: bytes) -> None:
        """Take bytes of a connection, and serve every request that they complete."""
        parser: HttpParser = conn.state
        found: Any = parser.feed(data)
        while found is not None or parser.pending:
            exchange = found if isinstance(found, HttpExchange) else await self._incomplete(conn, parser, found)
            if exchange is None:
                return
            if exchange.upgrade:
                if await self._upgrade(conn, exchange):
                    return
            else:
                began = 0.0 if self.counts is None else perf_counter()
                try:
                    await self.app(exchange.scope, exchange.receive, exchange.send)
                except Exception as error:  # noqa: BLE001 - the application's: it is told, and the server goes on
                    self._failed(conn, exchange, error)
                if not exchange.over:
                    self._unanswered(conn, exchange)
                if self.counts is not None:
                    self.counts.note(exchange.scope["method"], exchange.status)
                    self.counts.seconds.note(perf_counter() - began)
            if self._log:
                self._tell(exchange)
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
        if self._ends and (event := self._ends.pop(conn.id, None)) is not None:
            event.set()

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
            self._refuse(conn, *found)
            return None
        assert isinstance(found, HttpExchange)
        return found

    async def _wait(self, exchange: HttpExchange) -> Event:
        """Wait for the next event of a request: `receive` where nothing is there yet."""
        conn: Connection = exchange.connection
        parser = exchange.parser
        try:
            if exchange.over:
                return {"type": _DISCONNECT}
            if not exchange.read:
                return await self._body(conn, parser, exchange)
            while parser.pending <= _KEPT:
                parser.push(await conn.receive())
        except ConnectionClosedError:
            return {"type": _DISCONNECT}
        await self._end_of(conn)
        return {"type": _DISCONNECT}

    async def _body(self, conn: Connection, parser: HttpParser, exchange: HttpExchange) -> Event:
        if exchange.expects_continue:
            exchange.continued()
            conn.send_nowait(_CONTINUE)
        while True:
            match parser.take_body():
                case None:
                    parser.push(await conn.receive())
                case (int() as status, str() as text):
                    if exchange.begun:
                        conn.close(f"bad request: {text}")
                    else:
                        self._refuse(conn, status, text)
                    return {"type": _DISCONNECT}
                case (bytes() as data, bool() as more):
                    if not more:
                        exchange.note_read()
                    return {"type": "http.request", "body": data, "more_body": more}

    async def _end_of(self, conn: Connection) -> None:
        if not conn.is_closing:
            await self._ends.setdefault(conn.id, asyncio.Event()).wait()

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

    async def _upgrade(self, conn: Connection, exchange: HttpExchange) -> bool:
        """Serve a WebSocket. False: it is a request like any other, and was answered."""
        from wireway.http.websocket import is_websocket, serve_websocket

        if is_websocket(exchange.scope):
            await serve_websocket(self, conn, exchange)
            return True
        try:
            await self.app(exchange.scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - the application's: it is told, and the server goes on
            self._failed(conn, exchange, error)
        if not exchange.over:
            self._unanswered(conn, exchange)
        return False

    # --- what goes wrong --------------------------------------------------------------------------------

    def _failed(self, conn: Connection, exchange: HttpExchange, error: Exception) -> None:
        if isinstance(error, ConnectionClosedError) and conn.is_closing:
            return  # the client has gone: that is no failure of the application
        method, path = exchange.scope["method"], exchange.scope["path"]
        logger.error("the application failed at %s %s", method, path, exc_info=error)

    def note(self, method: str, status: int) -> None:
        """Count a request that was answered without the application, or became a WebSocket."""
        if self.counts is not None:
            self.counts.note(method, status)

    def _refuse(self, conn: Connection, status: int, text: str) -> None:
        self.note(INVALID, status)
        refuse(conn, status, text)

    def _unanswered(self, conn: Connection, exchange: HttpExchange) -> None:
        """Answer in the place of an application that failed, or returned too early."""
        if conn.is_closing:
            return
        if exchange.begun:
            # Half an answer is out. Only the end of the connection tells the client that it is not whole.
            conn.abort("the application ended in the middle of its answer")
            return
        exchange.reset()
        body = b"Internal Server Error"
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        try:
            exchange.send({"type": "http.response.start", "status": 500, "headers": headers})
            exchange.send({"type": "http.response.body", "body": body})
        except ConnectionClosedError:
            return

    def _tell(self, exchange: HttpExchange) -> None:
        scope = exchange.scope
        client = scope["client"]
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        access.info(
            *('%s - "%s %s HTTP/%s" %d %d', f"{client[0]}:{client[1]}" if client else "-", scope["method"]),
            *(target.decode("ascii", "replace"), scope["http_version"], exchange.status, exchange.sent),
        )


def refuse(conn: Connection, status: int, text: str) -> None:
    """Answer what is no request of HTTP/1.1, and close: what comes after it means nothing."""
    body = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Bad Request')}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    try:
        conn.send_nowait(head.encode() + body)
    except ConnectionClosedError:
        return
    conn.close(f"bad request: {status}: {text}")


_REASONS = {
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}
