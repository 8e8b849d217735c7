"""`Chat`: the rooms, reached over lines, JSON and WebSocket.

Owns the three servers. Each message is made into bytes once for each of the three kinds, framed once, and shared by
all connections of that kind (`Server.broadcast`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import wireway
from wireway.http import WebServer
from wireway.services.chat.browsers import Browsers, as_frame, options, slower
from wireway.services.chat.limits import ChatLimits
from wireway.services.chat.names import Mistake, check_name
from wireway.services.chat.rooms import Event, Person, Room, Rooms
from wireway.services.chat.wire import PING, PONG, as_json, as_lines, is_http, obey_json, obey_line

__all__ = ["GROUPS", "Chat"]

GROUPS: Mapping[str, Any] = {
    "timeouts": wireway.Timeouts(write_stall=30.0, close_linger=2.0),
    # A host that vanished is given up after a minute: `nc` answers no ping of ours.
    "socket": wireway.SocketOptions(keepalive=wireway.Keepalive(idle=30, interval=10, count=3)),
    # Beyond what may wait for all people of a server together, who reads slowest goes (`memory-budget`).
    "limits": wireway.Limits(queued_bytes=256 * 1024 * 1024),
}
"""What differs from wireway's own."""
_PAUSE = 2.0
"""Seconds between two counts of a crowd."""

Addresses = str | Sequence[str]
Obey = Callable[[Rooms, Person, bytes], Event | None]


@dataclass(frozen=True, slots=True)
class _Face:
    """One of the three kinds of connection: its server, and how an event is written for it."""

    server: wireway.Server
    write: Callable[[Event], list[bytes]]
    echoes: bool = True
    """Whether who says something gets it too: programs do, as a receipt; a person sees what was typed."""


class _Leads(wireway.Server):
    """The first of the servers: it starts and ends the others with itself, so that `run` runs them all."""

    chat: Chat
    others: tuple[wireway.Server, ...] = ()

    async def start(self) -> None:
        """See `Server.start`. None listens if one can not."""
        self.chat._leaving = False
        try:
            for other in self.others:
                await other.start()
            await super().start()
        except BaseException:
            await self._close_others()
            raise

    async def close(self) -> None:
        """See `Server.close`."""
        self.chat._say_farewell()
        await asyncio.gather(super().close(), self._close_others())

    async def _close_others(self) -> None:
        await asyncio.gather(*(other.close() for other in self.others))


class _LeadingWeb(_Leads, WebServer):
    """The same, if browsers have the only one."""


class Chat:
    """A chat with rooms. Everything belongs to the loop's thread; the rooms live in this process and nowhere else.

    `server` is the one to start, run and close: the others follow it. Addresses are URLs as `wireway.Server` has them,
    one or several for each kind; None: there is none. At least one is given.

    :param lines: for lines of text, as `nc` sends them.
    :param json: for JSON objects after a length of four bytes, big-endian.
    :param web: for browsers: the page at ``/``, the WebSocket at ``/chat``.
    :param room: the room that everybody is in at first; None: they are in none.
    :param limits: the bounds.
    :param heartbeat: seconds of silence after which programs and browsers are asked for a sign of life; after as many
        more without one they are gone. None: they are not asked.
    :param origins: sites whose pages may talk to this chat, as ``https://example.org``, beside its own; ``*``: all.
    :param tls: for addresses of ``tls://``.
    :param groups: what else `wireway.Server` takes, by its name, for all of them: ``{"access": wireway.Access(...)}``.
    :raises ConfigError: an address or a limit is wrong.
    """

    def __init__(
        self,
        lines: Addresses | None = None,
        json: Addresses | None = None,
        web: Addresses | None = None,
        *,
        room: str | None = "lobby",
        limits: ChatLimits | None = None,
        heartbeat: float | None = 30.0,
        origins: Sequence[str] = (),
        tls: wireway.Tls | None = None,
        groups: Mapping[str, Any] | None = None,
    ) -> None:
        self.limits = limits = ChatLimits() if limits is None else limits
        self.rooms = Rooms(self, limits)
        try:
            self._first = None if room is None else check_name("room", room, limits.room_length)
        except Mistake as mistake:
            raise wireway.ConfigError(f"Chat: room is {room!r}: {mistake}") from None
        self._leaving = False
        self._timer: asyncio.TimerHandle | None = None
        frame = limits.frame()

        shared = {"buffers": wireway.Buffers(), **GROUPS, **(groups or {})}
        gate: wireway.Limits = shared["limits"]
        shared["limits"] = replace(
            gate,
            message_rate=gate.message_rate or limits.rate,
            per_address=gate.per_address or limits.per_address,
        )
        waiting: wireway.Buffers = shared["buffers"]
        shared["buffers"] = replace(waiting, hard=waiting.hard or limits.queue())

        def common(address: Addresses) -> dict[str, Any]:
            secured = any(each.startswith("tls:") for each in ([address] if isinstance(address, str) else address))
            return {"address": address, "tls": tls if secured else None, **shared}

        self.lines: wireway.Server | None = None
        self.json: wireway.Server | None = None
        self.web: WebServer | None = None
        self._faces: list[_Face] = []
        if lines is not None:
            self.lines = _Leads(framing=wireway.Lines(max_size=frame), **common(lines))
            self._serve(_Face(self.lines, as_lines, echoes=False), obey_line)
        if json is not None:
            ping = None if heartbeat is None else wireway.Heartbeat(every=heartbeat, ping=PING, pong=PONG)
            kind = wireway.Server if self._faces else _Leads
            self.json = kind(framing=wireway.LengthPrefix(4, max_size=frame), heartbeat=ping, **common(json))
            self._serve(_Face(self.json, lambda event: [as_json(event)]), obey_json)
        if web is not None:
            browsers = Browsers(
                lambda conn: self._enter(face, conn),
                lambda person, message: self._try(person, partial(obey_json, self.rooms, person, message)),
                self.rooms.leave,
                rate=limits.rate,
                origins=origins,
            )
            server = WebServer if self._faces else _LeadingWeb
            about: dict[str, Any] = {**common(web), "limits": slower(shared["limits"], limits)}
            self.web = server(app=browsers, http=options(heartbeat, frame), lifespan="off", **about)
            face = _Face(self.web, lambda event: [as_frame(as_json(event))])
            self._faces.append(face)
        if not self._faces:
            raise wireway.ConfigError("Chat: give an address for lines, json or web")
        leader, *others = (face.server for face in self._faces)
        assert isinstance(leader, _Leads)
        self.server: wireway.Server = leader
        self.others = leader.others = tuple(others)
        leader.chat = self

    # --- the post of the rooms --------------------------------------------------------------------------------

    def to_room(self, room: Room, event: Event, sender: Person | None) -> None:
        """To all in a room: written once for each kind of connection."""
        if self._leaving:
            return
        for face in self._faces:
            own: tuple[wireway.Connection, ...] = ()
            if sender is not None and sender.outlet[0] is face and not (face.echoes and event["type"] == "message"):
                own = (sender.outlet[1],)
            for data in face.write(event):
                face.server.broadcast(data, room.key, exclude=own)

    def to_person(self, person: Person, event: Event) -> None:
        """To one."""
        face, conn = person.outlet
        _send(face, conn, event)

    def named(self, person: Person) -> None:
        """`wireway top` shows who it is."""
        person.outlet[1].user = person.nick

    def joined(self, person: Person, room: Room) -> None:
        """They hear the room from now on."""
        person.outlet[1].join(room.key)

    def left(self, person: Person, room: Room) -> None:
        """And no more."""
        person.outlet[1].leave(room.key)

    def end(self, person: Person) -> None:
        """They want to go."""
        person.outlet[1].close("they left the chat")

    def later(self, callback: Callable[[], None]) -> None:
        """In a few seconds."""
        self._timer = asyncio.get_running_loop().call_later(_PAUSE, callback)

    # --- connections ------------------------------------------------------------------------------------------

    def _serve(self, face: _Face, obey: Obey) -> None:
        self._faces.append(face)

        @face.server.on_connect
        def come(conn: wireway.Connection) -> None:
            conn.state = self._enter(face, conn)
            if conn.state is None:
                conn.close("the chat is full")

        @face.server.on_message
        def take(conn: wireway.Connection, message: bytes) -> None:
            person: Person | None = conn.state
            if person is None:
                return
            if is_http(message) and conn.stats["messages_in"] <= 1:
                conn.state = None  # what follows is nobody's
                self.rooms.leave(person)
                conn.close("a page of another site, or a browser, at the port for lines")
                return
            self._try(person, partial(obey, self.rooms, person, message))

        @face.server.on_close
        def go(conn: wireway.Connection, reason: wireway.CloseReason) -> None:
            if conn.state is not None:
                self.rooms.leave(conn.state)

    def _enter(self, face: _Face, conn: wireway.Connection) -> Person | None:
        try:
            person = self.rooms.enter((face, conn))
        except Mistake as mistake:
            _send(face, conn, _error(mistake))
            return None
        if self._first is not None:
            self._try(person, partial(self.rooms.join, person, self._first))
        return person

    def _try(self, person: Person, command: Callable[[], Event | None]) -> None:
        try:
            answer = command()
        except Mistake as mistake:
            answer = _error(mistake)
        if answer is not None:
            self.to_person(person, answer)

    def _say_farewell(self) -> None:
        """Tell everybody that it ends; who leaves from then on is told to nobody."""
        if not self._leaving:
            self._leaving = True
            self.rooms.tell_everybody({"type": "bye", "text": "the server is going away"})
        if self._timer is not None:
            self._timer.cancel()


def _error(mistake: Mistake) -> Event:
    return {"type": "error", "code": mistake.code, "text": str(mistake)}


def _send(face: _Face, conn: wireway.Connection, event: Event) -> None:
    for data in face.write(event):
        if not conn.is_closing:
            conn.send_nowait(data)
