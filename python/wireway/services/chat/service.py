"""`Chat`: the rooms, reached over lines, JSON and WebSocket.

Owns the three servers. Each message is made into bytes once for each of the three kinds, framed once, and shared by
all connections of that kind (`Server.broadcast`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files
from typing import Any

import wireway
from wireway.http import HttpOptions, WebServer
from wireway.services.chat.rooms import ChatLimits, Event, Mistake, Person, Rooms
from wireway.services.chat.wire import as_json, as_line, obey_json, obey_line

__all__ = ["Chat"]

_LONGEST = 16 * 1024
"""Bytes of a line or of a JSON object."""
_TIMEOUTS = wireway.Timeouts(write_stall=30.0, close_linger=2.0)
_SLOW = wireway.Buffers(hard=4 * 1024 * 1024)
"""Who does not read as fast as the rooms speak is closed (`queue-full`) before they cost more than this."""


class _Face:
    """One of the three kinds of connection: its server, and how an event is written for it."""

    def __init__(self, server: wireway.Server, write: Callable[[Event], bytes | None], *, echoes: bool) -> None:
        self.server = server
        self.write = write
        self.echoes = echoes
        """Whether who says something gets it too: programs do, as a receipt; a person sees what was typed."""


class _Lines(wireway.Server):
    """The first of the servers: it starts and ends the others with itself, so that `run` runs them all."""

    others: tuple[wireway.Server, ...] = ()

    async def start(self) -> None:
        """See `Server.start`."""
        await asyncio.gather(*(other.start() for other in self.others))
        try:
            await super().start()
        except BaseException:
            await self._close_others()
            raise

    async def close(self) -> None:
        """See `Server.close`."""
        await asyncio.gather(super().close(), self._close_others())

    async def _close_others(self) -> None:
        await asyncio.gather(*(other.close() for other in self.others))


class Chat:
    """A chat with rooms. Everything belongs to the loop's thread; the rooms live in this process and nowhere else.

    :param lines: address for lines of text, as `nc` sends them.
    :param json: address for JSON objects after a length of four bytes, big-endian. None: none.
    :param web: address for browsers: the page at ``/``, the WebSocket at ``/chat``. None: none.
    :param room: the room that everybody is in at first.
    :param rate: messages a second that one connection may send on average; who sends more waits.
    :raises ConfigError: an address or a limit is wrong.
    """

    def __init__(
        self,
        lines: str,
        json: str | None = None,
        web: str | None = None,
        *,
        room: str = "lobby",
        limits: ChatLimits | None = None,
        rate: float | None = 20.0,
        backlog: int = 4096,
    ) -> None:
        self.rooms = Rooms(self, limits)
        self._first = room
        bounds = wireway.Limits(message_rate=rate)
        common: dict[str, Any] = {
            "timeouts": _TIMEOUTS,
            "buffers": _SLOW,
            "socket": wireway.SocketOptions(backlog=backlog),
        }
        self.server = _Lines(lines, framing=wireway.Lines(max_size=_LONGEST), limits=bounds, **common)
        self._lines = self._face(self.server, as_line, obey_line, echoes=False)
        self._faces = [self._lines]
        self.json: wireway.Server | None = None
        self.web: WebServer | None = None
        if json is not None:
            framing = wireway.LengthPrefix(4, max_size=_LONGEST)
            self.json = wireway.Server(json, framing=framing, limits=bounds, **common)
            self._faces.append(self._face(self.json, as_json, obey_json, echoes=True))
        if web is not None:
            options = HttpOptions(message_size=_LONGEST)
            self.web = WebServer(web, self._browse, http=options, lifespan="off", limits=bounds, **common)
            self._web = _Face(self.web, lambda event: _text_frame(as_json(event)), echoes=True)
            self._faces.append(self._web)
        self.server.others = tuple(face.server for face in self._faces[1:])

    # --- the post of the rooms --------------------------------------------------------------------------------

    def to_room(self, room: str, event: Event, sender: Person | None) -> None:
        """To all in a room: written once for each kind of connection."""
        for face in self._faces:
            data = face.write(event)
            if data is None:
                continue
            mute = sender is not None and (not face.echoes or event["type"] != "message")
            own = [sender.outlet[1]] if mute and sender is not None and sender.outlet[0] is face else []
            face.server.broadcast(data, room, exclude=own)

    def to_person(self, person: Person, event: Event) -> None:
        """To one."""
        face, conn = person.outlet
        data = face.write(event)
        if data is not None and not conn.is_closing:
            conn.send_nowait(data)

    def joined(self, person: Person, room: str) -> None:
        """They hear the room from now on."""
        person.outlet[1].join(room)

    def left(self, person: Person, room: str) -> None:
        """And no more."""
        person.outlet[1].leave(room)

    # --- connections ------------------------------------------------------------------------------------------

    def _enter(self, face: _Face, conn: wireway.Connection) -> Person:
        person = self.rooms.enter((face, conn))
        self.rooms.join(person, self._first)
        return person

    def _face(
        self,
        server: wireway.Server,
        write: Callable[[Event], bytes | None],
        obey: Callable[[Rooms, Person, bytes], None],
        *,
        echoes: bool,
    ) -> _Face:
        face = _Face(server, write, echoes=echoes)

        @server.on_connect
        def come(conn: wireway.Connection) -> None:
            conn.state = self._enter(face, conn)

        @server.on_message
        def obeys(conn: wireway.Connection, message: bytes) -> None:
            self._obey(conn.state, obey, message)

        @server.on_close
        def go(conn: wireway.Connection, reason: wireway.CloseReason) -> None:
            if conn.state is not None:
                self.rooms.leave(conn.state)

        return face

    def _obey(self, person: Person, obey: Callable[[Rooms, Person, bytes], None], message: bytes) -> None:
        try:
            obey(self.rooms, person, message)
        except Mistake as mistake:
            self.to_person(person, {"type": "error", "code": mistake.code, "text": str(mistake)})

    # --- browsers ---------------------------------------------------------------------------------------------

    async def _browse(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] == "websocket" and scope["path"] == "/chat":
            await self._talk(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            found = scope["path"] == "/"
            headers = [(b"content-type", b"text/html; charset=utf-8" if found else b"text/plain")]
            await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
            await send({"type": "http.response.body", "body": _page() if found else b"Not Found\n"})

    async def _talk(
        self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        person = self._enter(self._web, scope["extensions"]["wireway.connection"]["connection"])
        try:
            while (event := await receive())["type"] == "websocket.receive":
                self._obey(person, obey_json, (event.get("text") or "").encode())
        finally:
            self.rooms.leave(person)


def _text_frame(data: bytes) -> bytes:
    """A text frame of RFC 6455, 5.2: final, not masked, as a server sends it."""
    size = len(data)
    if size < 126:
        return bytes((0x81, size)) + data
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + data
    return b"\x81\x7f" + size.to_bytes(8, "big") + data


@cache
def _page() -> bytes:
    return files("wireway.services.chat").joinpath("page.html").read_bytes()
