"""A line over which WebSocket is spoken: what comes and goes are whole messages.

The protocol is the `websockets` library's. Owns the handshake of either side, and the messages out of frames. A
WebSocket has no half that can be closed: its Close ends what we say, and what the peer says until it answers with its
own still comes.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

import wireway
from wireway.cli.failing import Exit, Failure
from wireway.cli.talking.line import Line, Lines, Say
from wireway.cli.talking.plan import Web
from wireway.cli.talking.words import as_text

__all__ = ["Binary", "WebSocketLine", "over"]

_quiet = logging.getLogger("wireway.connect.websocket")
_quiet.setLevel(logging.CRITICAL)

_IN_ORDER = (1000, 1001, 1005)
"""Codes of a Close after which nothing is missing: RFC 6455, 7.4.1."""


_BODY = 200
"""Bytes of a refusal's body that are told."""


class Binary(bytes):
    """A message that was not sent as text."""


async def over(bare: Lines, web: Web, say: Say, *, serving: bool) -> Line:
    """The next line, after its handshake. A listening side goes on to the next peer where that fails.

    :raises Failure: the server speaks no WebSocket, or refused.
    """
    while True:
        line = await bare()
        try:
            return await _shake(line, web, say, serving=serving)
        except Failure as failure:
            line.close()
            if not serving:
                raise
            say(str(failure))


async def _shake(line: Line, web: Web, say: Say, *, serving: bool) -> Line:
    names = [Subprotocol(name) for name in web.subprotocols]
    protocol: ClientProtocol | ServerProtocol
    if serving:
        deflate = [ServerPerMessageDeflateFactory()]
        protocol = ServerProtocol(extensions=deflate, subprotocols=names or None, max_size=web.max_size, logger=_quiet)
    else:
        protocol = ClientProtocol(
            parse_uri(web.url),
            extensions=[ClientPerMessageDeflateFactory()],
            subprotocols=names or None,
            max_size=web.max_size,
            logger=_quiet,
        )
        request = protocol.connect()
        for name, value in web.headers:
            if name.lower() in ("host", "user-agent") and name in request.headers:
                del request.headers[name]
            request.headers[name] = value
        protocol.send_request(request)
    whole = WebSocketLine(line, protocol)
    await whole.flush()
    agreed = False
    async for piece in line.pieces():
        protocol.receive_data(piece)
        for event in protocol.events_received():
            if isinstance(event, Request):
                assert isinstance(protocol, ServerProtocol)
                answer = protocol.accept(event)
                for name, value in web.headers:
                    answer.headers[name] = value
                protocol.send_response(answer)
                agreed = answer.status_code == 101
            elif isinstance(event, Response):
                agreed = protocol.handshake_exc is None
            else:
                whole.early.append(event)  # came with the answer
        await whole.flush()
        if protocol.handshake_exc is not None:
            break
        if agreed:
            chosen = f", {protocol.subprotocol}" if protocol.subprotocol else ""
            deflated = ", compressed" if protocol.extensions else ""
            say(f"WebSocket: {web.url if not serving else line.peer}{chosen}{deflated}")
            return whole
    error = protocol.handshake_exc
    who = line.peer if serving else web.url
    raise Failure(f"{who}: no WebSocket: {_why(error) if error else 'it ended before it answered'}", Exit.UNREACHABLE)


def _why(error: BaseException) -> str:
    response = getattr(error, "response", None)
    if isinstance(response, Response):
        text = " ".join((response.body or b"")[:_BODY].decode("ascii", "replace").split())
        said = as_text(text.encode()) if text and "<" not in text else ""
        return f"the server answered {response.status_code} {response.reason_phrase}{f': {said}' if said else ''}"
    return " ".join(str(error.__cause__ or error).split())


class WebSocketLine(Line):
    """Messages instead of bytes."""

    def __init__(self, line: Line, protocol: Protocol) -> None:
        super().__init__(line.connection)
        self._bare, self._protocol = line, protocol
        self.early: list[Frame] = []
        """Came with the end of the handshake."""
        self.begun: list[bytes] = []
        """Fragments of a message that is not whole."""
        self._kind = Opcode.BINARY
        self._pieces = line.pieces()

    @property
    def over(self) -> bool:
        return super().over or self._protocol.state is not State.OPEN

    async def pieces(self) -> AsyncIterator[bytes]:
        for frame in self.early:
            if (message := self._take(frame)) is not None:
                yield message
        self.early.clear()
        while not self._ended():
            piece = await anext(self._pieces, None)
            if piece is None:
                break
            self._protocol.receive_data(piece)
            frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
            await self.flush()
            for frame in frames:
                if (message := self._take(frame)) is not None:
                    yield message
        if self._protocol.close_rcvd is None and not self._bare.over:
            self._protocol.receive_eof()
        self._bare.close()

    def _ended(self) -> bool:
        """The peer said Close, or what it said is no WebSocket: nothing that comes now counts."""
        return self._protocol.close_rcvd is not None or self._protocol.parser_exc is not None

    async def send(self, data: bytes, *, text: bool = False) -> bool:
        if self.over:
            return False
        if text and _is_text(data):
            self._protocol.send_text(data)
        else:
            self._protocol.send_binary(data)
        return await self.flush()

    def half_close(self) -> None:
        if not self.half_closed and self._protocol.state is State.OPEN:
            self.half_closed = True
            self._say_close()

    def close(self) -> None:
        if self._protocol.state is State.OPEN:
            self.half_closed = True  # the peer may go without an answer
            self._say_close()
        self._bare.close()

    def _say_close(self) -> None:
        self._protocol.send_close(1000)
        with suppress(wireway.ConnectionClosedError):
            for data in filter(None, self._protocol.data_to_send()):
                self.connection.send_nowait(data)

    async def flush(self) -> bool:
        """Send what the protocol has to say."""
        return all([await self._bare.send(data) for data in self._protocol.data_to_send()])

    def ending(self) -> str | None:
        close = self._protocol.close_rcvd
        return None if close is None else f"the peer closed the WebSocket: {close}"

    def complaint(self) -> str | None:
        error, close = self._protocol.parser_exc, self._protocol.close_rcvd
        if isinstance(error, WebSocketException | UnicodeDecodeError):
            return f"what came is no WebSocket: {' '.join(str(error).split())}"
        if self.begun:
            size = sum(map(len, self.begun))
            return f"it ended within a message: {len(self.begun)} fragments of it came, {size:,} bytes"
        if close is None:
            return None if self.half_closed else "the peer ended without a WebSocket Close (1006)"
        return None if close.code in _IN_ORDER else self.ending()

    def _take(self, frame: Frame) -> bytes | None:
        """The message that a frame completes."""
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return None
        if frame.opcode is not Opcode.CONT:
            self._kind = frame.opcode
        self.begun.append(bytes(frame.data))
        if not frame.fin:
            return None
        whole = b"".join(self.begun)
        self.begun.clear()
        return whole if self._kind is Opcode.TEXT else Binary(whole)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
