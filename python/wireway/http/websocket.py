"""WebSocket for ASGI applications. The protocol itself is the `websockets` library's, without I/O.

Owns the events between it and the application, pings, and how a connection ends. The application has a Task of its own;
what comes is taken whether it listens or not, so pings are answered and a Close is seen. What it has not asked for yet
is kept, so much of it; then reading stops, and TCP tells the peer.

```text
   Asked ── websocket.accept ──> Open ── a Close of either side ──> Ended
     └── websocket.close, websocket.http.response.* ──> refused, and closed
```
"""

from __future__ import annotations

import asyncio
import codecs
import io
import logging
import re
from collections import deque
from time import perf_counter
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
from wireway.http.failing import failed
from wireway.http.logs import tell_of_talk
from wireway.http.options import Event, Scope

if TYPE_CHECKING:
    from wireway.http.asgi import Bridge

__all__ = ["Talk", "begin", "is_websocket"]

_GONE = 1006
_FAILED = 1011
_GOING_AWAY = 1001
"""The server goes (RFC 6455, 7.4.1)."""
_FAREWELL = 5.0
"""Seconds that the peer has to answer our Close."""
_MESSAGES = 32
"""Messages that wait for the application before reading stops."""
_BYTES = 256 * 1024
"""Bytes of them."""
_EARLY = 64 * 1024
"""Bytes that may come before the application has accepted."""
_COMPRESSED = {"server_max_window_bits": 12, "client_max_window_bits": 12, "compress_settings": {"memLevel": 5}}
"""How much memory compression may take: 16 KB a direction instead of 300, for a tenth more bytes."""

_quiet = logging.getLogger("wireway.http.websocket")
_quiet.setLevel(logging.CRITICAL)


def is_websocket(scope: Scope) -> bool:
    """Whether a request with `Connection: upgrade` asks for a WebSocket."""
    return scope["method"] == "GET" and any(
        name == b"upgrade" and b"websocket" in [word.strip() for word in value.lower().split(b",")]
        for name, value in scope["headers"]
    )


def begin(bridge: Bridge, conn: Connection, exchange: HttpExchange) -> None:
    """Check a handshake, and hand the connection to its application; refuse what is none."""
    scope = exchange.scope
    began = perf_counter()
    # The library checks the handshake: version, key, upgrade.
    extensions = [ServerPerMessageDeflateFactory(**_COMPRESSED)] if bridge.options.compression else []  # type: ignore[arg-type]
    handshake = ServerProtocol(extensions=extensions, logger=_quiet)
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    response = handshake.accept(Request(scope["path"], Headers(fields)))
    status, text = response.status_code, (response.body or b"").decode(errors="replace").strip()
    more = ("sec-websocket-version: 13",) if status == 426 else ()
    if not exchange.parser.body_done:
        status, text, more = 400, "a handshake of WebSocket has no body", ()
    if status != 101:
        bridge.refuse(conn, status, text, *more, method="GET")
        return
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    for name in [name for name in scope["extensions"] if name.startswith("http.")]:
        del scope["extensions"][name]
    scope["extensions"]["websocket.http.response"] = {}
    scope["subprotocols"] = [
        word.strip() for name, value in fields if name == "sec-websocket-protocol" for word in value.split(",")
    ]
    del scope["method"]
    talk = Talk(bridge, conn, exchange, handshake, response.headers, began)
    conn.state = talk
    conn._be_patient(True)  # pings find out whether the peer lives
    bridge.ends[conn.id] = talk.lost
    task = asyncio.get_running_loop().create_task(talk.run(), name="websocket", context=bridge.context.copy())
    bridge.talks.add(task)
    task.add_done_callback(bridge.talks.discard)


class Talk:
    """One WebSocket, between its connection and its application. Belongs to the loop's thread."""

    def __init__(
        self,
        bridge: Bridge,
        conn: Connection,
        exchange: HttpExchange,
        handshake: ServerProtocol,
        headers: Headers,
        began: float,
    ) -> None:
        self._bridge = bridge
        self._conn = conn
        self._exchange = exchange
        self._headers = headers
        self._began = began
        self._protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=bridge.options.message_size, logger=_quiet)
        self._protocol.extensions = handshake.extensions
        self._asked = False
        self._open = False
        self._refused = False
        self._going = False
        """The server ends."""
        self._gone = False
        """The connection has ended."""
        self._unheard = False
        """Nobody will ask for messages any more."""
        self._early = bytearray()
        self._text: codecs.IncrementalDecoder | None = None
        self._parts: io.StringIO | io.BytesIO = io.BytesIO()
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._news, self._room, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._pinger: asyncio.TimerHandle | None = None
        self._heard = True

    async def run(self) -> None:
        """Run the application to its end, and close the connection."""
        scope = self._exchange.scope
        try:
            await self._bridge.app(scope, self.receive, self.send)
        except (Exception, asyncio.CancelledError, BaseExceptionGroup) as error:  # noqa: BLE001 - the application's
            failed(self._conn, scope, error)
            await self._finish(_FAILED, "the application failed")
        else:
            await self._finish(1000, "")
        finally:
            if self._pinger is not None:
                self._pinger.cancel()
            if not self._conn.is_closing:
                self._conn.close("the WebSocket is closed")

    # --- what the application calls ---------------------------------------------------------------------

    async def receive(self) -> Event:
        """ASGI's `receive`."""
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        while True:
            if self._events:
                event = self._events.popleft()
                self._bytes -= _size(event)
                if self._has_room():
                    self._room.set()
                return event
            if self._refused or self._gone or self._protocol.state is not State.OPEN:
                return self._disconnected()
            self._news.clear()
            await self._news.wait()

    async def send(self, event: Event) -> None:
        """ASGI's `send`."""
        kind = event["type"]
        if self._refused:
            if not kind.startswith("websocket.http.response."):
                raise ConnectionClosedError(f"{kind!r} after the handshake was refused")
            await self._exchange.send({**event, "type": kind.removeprefix("websocket.")})
        elif not self._open:
            await self._answer(kind, event)
        elif kind == "websocket.send":
            if self._protocol.state is not State.OPEN or self._conn.is_closing:
                raise ConnectionClosedError("the WebSocket is closed")
            text: str | None = event.get("text")
            data: Any = event.get("bytes")
            if (text is None) == (data is None):
                raise ValueError("websocket.send has either text or bytes")
            if text is not None:
                self._protocol.send_text(text.encode())
            else:
                self._protocol.send_binary(data)
            self._flush()
            if not self._conn.is_closing:
                await self._conn.drain()
        elif kind == "websocket.close":
            self._say_close(event.get("code", 1000), event.get("reason") or "")
        else:
            raise ValueError(f"{kind!r} can not be sent over a WebSocket that is open")

    # --- the handshake ----------------------------------------------------------------------------------

    async def _answer(self, kind: str, event: Event) -> None:
        if kind == "websocket.accept":
            self._accept(event)
        elif kind == "websocket.close":
            await self._deny({"status": 403})
            await self._exchange.send({"type": "http.response.body"})
        elif kind == "websocket.http.response.start":
            await self._deny(event)
        else:
            raise ValueError(f"{kind!r} came before websocket.accept")

    async def _deny(self, event: Event) -> None:
        self._exchange.make_last()
        await self._exchange.send({**event, "type": "http.response.start"})
        self._refused = True
        self._tell(event["status"])

    def _accept(self, event: Event) -> None:
        if self._conn.is_closing:
            raise ConnectionClosedError("the client has gone before its WebSocket was accepted")
        lines = ["HTTP/1.1 101 Switching Protocols"]
        given = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.get("headers", ())]
        if (subprotocol := event.get("subprotocol")) is not None:
            given = [pair for pair in given if pair[0].lower() != "sec-websocket-protocol"]
            given.append(("Sec-WebSocket-Protocol", subprotocol))
        for name, value in [*self._headers.raw_items(), *given]:
            if not _TOKEN(name) or _CONTROL(value):
                raise ValueError(f"the header {name!r} has no name, or a line end or another control character")
            lines.append(f"{name}: {value}")
        self._open = True
        self._conn.send_nowait("\r\n".join([*lines, "", ""]).encode("latin-1"))
        self._tell(101)
        if early := self._exchange.parser.rest() + bytes(self._early):
            self._digest(early)
        self._early.clear()
        self._room.set()
        if self._going:
            self.go_away()
        elif self._bridge.options.ping is not None:
            self._ping_later(self._bridge.options.ping)

    def _tell(self, status: int) -> None:
        self._bridge.note("GET", status)
        if self._bridge.options.access_log:
            tell_of_talk(self._exchange.scope, status, self._began)

    # --- what comes -------------------------------------------------------------------------------------

    async def take(self, data: bytes) -> None:
        """Take bytes of the connection. Ends when more may come."""
        if self._open:
            self._digest(data)
        elif not self._refused:
            self._early += data
        while not self._has_room() and not self._gone:
            self._room.clear()
            await self._room.wait()
            self._heard = True  # until now it was us who did not listen

    def _has_room(self) -> bool:
        if self._unheard or self._refused:
            return True
        if not self._open:
            return len(self._early) <= _EARLY
        return len(self._events) < _MESSAGES and self._bytes < _BYTES

    def _digest(self, data: bytes) -> None:
        """Hand bytes to the protocol; it answers pings and Closes by itself."""
        self._heard = True
        self._protocol.receive_data(data)
        for frame in self._protocol.events_received():
            if isinstance(frame, Frame) and not self._unheard:
                self._frame(frame)
        self._flush()
        if self._protocol.state is not State.OPEN:
            self._news.set()
            if self._protocol.close_rcvd is not None:
                self._ended.set()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is Opcode.TEXT:
            self._text, self._parts = _utf8(), io.StringIO()
        elif frame.opcode is Opcode.BINARY:
            self._text, self._parts = None, io.BytesIO()
        if self._text is None:
            self._parts.write(frame.data)  # type: ignore[arg-type]
        else:
            try:
                self._parts.write(self._text.decode(frame.data, frame.fin))  # type: ignore[arg-type]
            except UnicodeDecodeError:
                # At once, even if more of the message is to come.
                self._protocol.fail(1007, "the text is not UTF-8")
                self._unheard = True
                return
        if frame.fin:
            kind = "bytes" if self._text is None else "text"
            event: Event = {"type": "websocket.receive", kind: self._parts.getvalue()}
            self._parts = io.BytesIO()
            self._events.append(event)
            self._bytes += _size(event)
            self._news.set()

    def _disconnected(self) -> Event:
        close = self._protocol.close_rcvd or self._protocol.close_sent
        code, reason = (_GONE, "") if close is None else (int(close.code), close.reason)
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    def _flush(self) -> None:
        pieces = self._protocol.data_to_send()
        if self._conn.is_closing:
            return
        if data := b"".join(pieces):
            self._conn.send_nowait(data)
        if b"" in pieces:  # that is how the protocol says that TCP is to be closed
            self._ended.set()
            self._conn.close("the WebSocket is closed")

    # --- pings ------------------------------------------------------------------------------------------

    def _ping_later(self, seconds: float) -> None:
        self._pinger = asyncio.get_running_loop().call_later(seconds, self._ping, seconds)

    def _ping(self, seconds: float) -> None:
        if self._conn.is_closing or self._protocol.state is not State.OPEN:
            return
        if not self._heard and self._has_room():
            self._conn.abort("the peer of a WebSocket answered no ping")
            return
        self._heard = False
        self._protocol.send_ping(b"")
        self._flush()
        self._ping_later(seconds)

    # --- the end ----------------------------------------------------------------------------------------

    def lost(self) -> None:
        """The connection has ended."""
        self._gone = True
        for event in (self._news, self._room, self._ended):
            event.set()

    def go_away(self) -> None:
        """The server ends: say so, and let the application end."""
        self._going = True
        if self._open:
            self._say_close(_GOING_AWAY, "the server stops")
            self._news.set()

    def _say_close(self, code: int, reason: str) -> None:
        if self._protocol.state is not State.OPEN or self._conn.is_closing:
            return
        try:
            self._protocol.send_close(code, reason)
        except ProtocolError as error:
            raise ValueError(f"a WebSocket can not be closed with {code}: {error}") from None
        self._flush()

    async def _finish(self, code: int, reason: str) -> None:
        """End what the application has left: our Close, the peer's, then the connection (RFC 6455, 7.1.1)."""
        self._unheard = True
        self._room.set()
        if self._conn.is_closing:
            return
        if self._open:
            self._say_close(code, reason)
            try:
                async with asyncio.timeout(_FAREWELL):
                    await self._ended.wait()
            except TimeoutError:
                pass
        elif not self._exchange.begun:
            self._exchange.reset()
            self._exchange.make_last()
            try:
                self._exchange.send({"type": "http.response.start", "status": 500, "headers": _PLAIN})
                self._exchange.send({"type": "http.response.body", "body": b"Internal Server Error"})
            except ConnectionClosedError:
                return
            self._tell(500)
        elif not self._exchange.over:
            self._conn.abort("the application ended in the middle of its answer")


_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+").fullmatch
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search
_utf8 = codecs.getincrementaldecoder("utf-8")
_PLAIN: list[Any] = [(b"content-type", b"text/plain; charset=utf-8")]


def _size(event: Event) -> int:
    return len(event.get("text") or event.get("bytes") or b"")
