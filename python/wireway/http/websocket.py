"""WebSocket for ASGI applications. The protocol itself is the `websockets` library's, without I/O.

Owns the events between it and the application, pings, and how a connection ends.

```text
   Asked ── websocket.accept ──> Open ── a Close of either side ──> Ended
     └── websocket.close, websocket.http.response.* ──> refused, and closed
```
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from websockets.datastructures import Headers
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol

from wireway._native import Connection, HttpExchange
from wireway.errors import ConnectionClosedError
from wireway.http.options import Event, Scope

if TYPE_CHECKING:
    from wireway.http.asgi import Bridge

__all__ = ["is_websocket", "serve_websocket"]

logger = logging.getLogger("wireway.http")

_GONE = 1006
_FAREWELL = 5.0
"""Seconds that the peer has to answer our Close."""


def is_websocket(scope: Scope) -> bool:
    """Whether a request with `Connection: upgrade` asks for a WebSocket."""
    return scope["method"] == "GET" and any(
        name == b"upgrade" and value.strip().lower() == b"websocket" for name, value in scope["headers"]
    )


async def serve_websocket(bridge: Bridge, conn: Connection, exchange: HttpExchange) -> None:
    """Serve one WebSocket to its end, and close its connection."""
    scope = exchange.scope
    # The library checks the handshake: version, key, upgrade.
    handshake = ServerProtocol(extensions=[ServerPerMessageDeflateFactory()], logger=_quiet)
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    response = handshake.accept(Request(scope["path"], Headers(fields)))
    if response.status_code != 101:
        from wireway.http.asgi import refuse

        bridge.note("GET", response.status_code)
        refuse(conn, response.status_code, (response.body or b"").decode(errors="replace").strip())
        return
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["extensions"] = {**scope["extensions"], "websocket.http.response": {}}
    scope["subprotocols"] = [
        word.strip() for name, value in fields if name == "sec-websocket-protocol" for word in value.split(",")
    ]
    method = scope.pop("method")
    talk = _Talk(bridge, conn, exchange, handshake, response.headers)
    try:
        await bridge.app(scope, talk.receive, talk.send)
    except Exception as error:
        if not (isinstance(error, ConnectionClosedError) and conn.is_closing):
            logger.error("the application failed at the WebSocket %s", scope["path"], exc_info=error)
        await talk.fail()
    else:
        await talk.finish()
    finally:
        scope["method"] = method
        talk.stop_pinging()


_quiet = logging.getLogger("wireway.http.websocket")
_quiet.setLevel(logging.CRITICAL)


class _Talk:
    """One WebSocket, between its connection and its application."""

    def __init__(
        self,
        bridge: Bridge,
        conn: Connection,
        exchange: HttpExchange,
        handshake: ServerProtocol,
        headers: Headers,
    ) -> None:
        self._bridge = bridge
        self._conn = conn
        self._exchange = exchange
        self._headers = headers
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=bridge.options.message_size, logger=_quiet)
        self._protocol.extensions = handshake.extensions
        self._asked = False
        self._open = False
        self._refused = False
        self._frames: list[Frame] = []
        self._parts: list[bytes] = []
        self._kind = Opcode.TEXT
        self._pinger: asyncio.TimerHandle | None = None
        self._heard = True

    # --- what the application calls ---------------------------------------------------------------------

    async def receive(self) -> Event:
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        while True:
            while self._frames:
                event = self._event(self._frames.pop(0))
                if event is not None:
                    return event
            if self._refused or self._protocol.state is State.CLOSED:
                return self._disconnected()
            try:
                self._take(await self._conn.receive())
            except ConnectionClosedError:
                return self._disconnected()

    async def send(self, event: Event) -> None:
        kind = event["type"]
        if not self._open and not self._refused:
            await self._answer(kind, event)
        elif self._refused:
            if kind != "websocket.http.response.body":
                raise RuntimeError(f"{kind!r} after the handshake was refused")
            await self._exchange.send({**event, "type": "http.response.body"})
        elif kind == "websocket.send":
            if self._protocol.state is not State.OPEN or self._conn.is_closing:
                raise ConnectionClosedError("the WebSocket is closed")
            text = event.get("text")
            if text is not None:
                self._protocol.send_text(text.encode())
            else:
                self._protocol.send_binary(event["bytes"])
            await self._flush()
        elif kind == "websocket.close":
            await self._say_close(event.get("code", 1000), event.get("reason") or "")
        else:
            raise ValueError(f"{kind!r} can not be sent over a WebSocket that is open")

    # --- the handshake ----------------------------------------------------------------------------------

    async def _answer(self, kind: str, event: Event) -> None:
        if kind == "websocket.accept":
            await self._accept(event)
        elif kind == "websocket.close":
            self._refused = True
            self._bridge.note("GET", 403)
            await self._exchange.send({"type": "http.response.start", "status": 403, "headers": _CLOSING})
            await self._exchange.send({"type": "http.response.body"})
        elif kind == "websocket.http.response.start":
            self._refused = True
            self._bridge.note("GET", event["status"])
            headers = [*event.get("headers", ()), *_CLOSING]
            await self._exchange.send({"type": "http.response.start", "status": event["status"], "headers": headers})
        else:
            raise ValueError(f"{kind!r} came before websocket.accept")

    async def _accept(self, event: Event) -> None:
        self._bridge.note("GET", 101)
        lines = ["HTTP/1.1 101 Switching Protocols"]
        given = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.get("headers", ())]
        if (subprotocol := event.get("subprotocol")) is not None:
            given.append(("Sec-WebSocket-Protocol", subprotocol))
        for name, value in [*self._headers.raw_items(), *given]:
            if any(character in name + value for character in "\r\n\0"):
                raise ValueError(f"the header {name!r} has a line end or a zero byte")
            lines.append(f"{name}: {value}")
        self._open = True
        await self._conn.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if rest := self._exchange.parser.rest():
            self._take(rest)
        if self._bridge.options.ping is not None:
            self._ping_later(self._bridge.options.ping)

    # --- frames -----------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        """Hand bytes to the protocol; it answers pings and Closes by itself."""
        self._heard = True
        self._protocol.receive_data(data)
        self._frames += [frame for frame in self._protocol.events_received() if isinstance(frame, Frame)]
        self._flush_nowait()

    def _event(self, frame: Frame) -> Event | None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                if frame.opcode is not Opcode.CONT:
                    self._kind = frame.opcode
                self._parts.append(bytes(frame.data))
                if not frame.fin:
                    return None
                data, self._parts = b"".join(self._parts), []
                if self._kind is Opcode.BINARY:
                    return {"type": "websocket.receive", "bytes": data}
                try:
                    return {"type": "websocket.receive", "text": data.decode()}
                except UnicodeDecodeError:
                    self._protocol.fail(1007, "the text is not UTF-8")
                    self._flush_nowait()
                    return self._disconnected()
            case Opcode.CLOSE:
                return self._disconnected()
        return None

    def _disconnected(self) -> Event:
        close = self._protocol.close_rcvd or self._protocol.close_sent
        if close is None:
            return {"type": "websocket.disconnect", "code": _GONE, "reason": ""}
        return {"type": "websocket.disconnect", "code": int(close.code), "reason": close.reason}

    async def _flush(self) -> None:
        self._flush_nowait()
        if not self._conn.is_closing:
            await self._conn.drain()

    def _flush_nowait(self) -> None:
        pieces = self._protocol.data_to_send()
        if self._conn.is_closing:
            return
        if data := b"".join(pieces):
            self._conn.send_nowait(data)
        if b"" in pieces:  # that is how the protocol says that TCP is to be closed
            self._conn.close("the WebSocket is closed")

    # --- pings ------------------------------------------------------------------------------------------

    def _ping_later(self, seconds: float) -> None:
        self._pinger = asyncio.get_running_loop().call_later(seconds, self._ping, seconds)

    def _ping(self, seconds: float) -> None:
        if self._conn.is_closing or self._protocol.state is not State.OPEN:
            return
        if not self._heard:
            self._conn.abort("the peer of a WebSocket answered no ping")
            return
        self._heard = False
        self._protocol.send_ping(b"")
        self._flush_nowait()
        self._ping_later(seconds)

    def stop_pinging(self) -> None:
        if self._pinger is not None:
            self._pinger.cancel()

    # --- the end ----------------------------------------------------------------------------------------

    async def _say_close(self, code: int, reason: str) -> None:
        if self._protocol.state is not State.OPEN:
            return
        try:
            self._protocol.send_close(code, reason)
        except ProtocolError as error:
            raise ValueError(f"a WebSocket can not be closed with {code}: {error}") from None
        await self._flush()

    async def fail(self) -> None:
        """End what the application left behind when it failed."""
        if self._conn.is_closing:
            return
        if self._open:
            await self._finish(1011, "the application failed")
        elif not self._exchange.begun:
            self._exchange.reset()
            self._bridge.note("GET", 500)
            body = b"Internal Server Error"
            self._exchange.send({"type": "http.response.start", "status": 500, "headers": _CLOSING})
            self._exchange.send({"type": "http.response.body", "body": body})
            self._conn.close("the application failed")
        else:
            self._conn.abort("the application failed in the middle of its answer")

    async def finish(self) -> None:
        """End what the application has left."""
        if self._conn.is_closing:
            return
        if self._open:
            await self._finish(1000, "")
        elif not self._refused:
            await self.fail()
        else:
            self._conn.close("the handshake was refused")

    async def _finish(self, code: int, reason: str) -> None:
        """Close in order: our Close, the peer's, then the connection (RFC 6455, 7.1.1: the server closes first)."""
        try:
            await self._say_close(code, reason)
            async with asyncio.timeout(_FAREWELL):
                while self._protocol.close_rcvd is None and self._protocol.state is not State.CLOSED:
                    self._take(await self._conn.receive())
                    self._frames.clear()
        except (TimeoutError, ConnectionClosedError):
            pass
        self._conn.close("the WebSocket is closed")


_CLOSING: list[Any] = [(b"connection", b"close")]
