"""Events and commands as bytes: lines for people with netcat, JSON for programs. Pure functions."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec

from wireway.services.chat.names import Mistake
from wireway.services.chat.rooms import Event, Person, Rooms

__all__ = ["PING", "PONG", "as_json", "as_lines", "is_http", "obey_json", "obey_line"]

HELP = (
    "/nick NAME         be called so",
    "/join ROOM         go there, or back there; what you type is said where you went last",
    "/leave [ROOM]      leave it",
    "/msg NICK TEXT     to one person, wherever they are",
    "/who [ROOM]        who is there",
    "/rooms             which rooms there are",
    "/away [TEXT]       tell that you do not answer; without a text: that you are back",
    "/quit              go",
    "//TEXT             say something that begins with a slash",
)

_REQUEST = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r?")

# --- lines ----------------------------------------------------------------------------------------------------------


def as_lines(event: Event) -> list[bytes]:
    """Lines for people, without their ends; none for what they need not see."""
    match event:
        case {"type": "welcome", "nick": nick}:
            lines = [f"* welcome, {nick}. Type, and all in the room read it; /help lists the commands"]
        case {"type": "message", "room": room, "nick": nick, "text": said}:
            lines = [f"[{room}] {nick}: {said}"]
        case {"type": "private", "from": sender, "to": to, "text": said}:
            lines = [f"[{sender} to {to}] {said}"]
            if "away" in event:
                lines.append(f"* {to} is away: {event['away']}")
        case {"type": "joined", "room": room, "nick": nick}:
            lines = [f"* {nick} came into {room}"]
        case {"type": "left", "room": room, "nick": nick}:
            lines = [f"* {nick} left {room}"]
        case {"type": "renamed", "old": old, "new": new}:
            lines = [f"* {old} is now called {new}"]
        case {"type": "away", "nick": nick, "text": why}:
            lines = [f"* {nick} is away: {why}" if why else f"* {nick} is back"]
        case {"type": "people", "room": room, "count": count, "nicks": nicks, "away": away}:
            gone = set(away)
            names = ", ".join(f"{nick} (away)" if nick in gone else nick for nick in nicks)
            lines = [f"* in {room}: {names}" + (f" and {count - len(nicks)} more" if count > len(nicks) else "")]
        case {"type": "history", "messages": messages}:
            lines = [f"  {_clock(each)} [{each['room']}] {each['nick']}: {each['text']}" for each in messages]
        case {"type": "rooms", "rooms": rooms}:
            lines = ["* rooms: " + (", ".join(f"{name} ({count})" for name, count in rooms.items()) or "none yet")]
        case {"type": "bye", "text": why}:
            lines = [f"* {why}"]
        case {"type": "help"}:
            lines = [f"* {line}" for line in HELP]
        case {"type": "error", "text": wrong}:
            lines = [f"! {wrong}"]
        case _:
            lines = []
    return [line.encode() for line in lines]


def _clock(event: Event) -> str:
    return time.strftime("%H:%M", time.localtime(event["time"]))


def obey_line(rooms: Rooms, person: Person, line: bytes) -> Event | None:
    """Do what a line says. Returns what only the asker is told.

    :raises Mistake: it can not be done.
    """
    try:
        text = line.decode().strip()
    except UnicodeDecodeError:
        raise Mistake("bad-text", "that is no UTF-8: nothing was said") from None
    if not text:
        return None
    if not text.startswith("/") or text.startswith("//"):
        rooms.say(person, _current(person), text.removeprefix("/"))
        return None
    command, _, rest = text[1:].partition(" ")
    rest = rest.strip()
    match command.lower():
        case "nick":
            rooms.rename(person, rest)
        case "join":
            if rooms.turn_to(person, rest):
                rooms.who(person, rest)
            else:
                rooms.join(person, rest)
        case "leave":
            rooms.part(person, rest or _current(person))
        case "msg":
            nick, _, said = rest.partition(" ")
            rooms.tell(person, nick, said.strip())
        case "who":
            rooms.who(person, rest or _current(person))
        case "rooms":
            rooms.list(person)
        case "away":
            rooms.away(person, rest)
        case "quit":
            rooms.quit(person)
        case "help":
            return {"type": "help"}
        case other:
            name = f"/{other}" if other.isprintable() and len(other) < 20 else "such command"
            raise Mistake("no-such-command", f"there is no {name}: /help lists what there is")
    return None


def is_http(line: bytes) -> bool:
    """Whether a first line is that of a request: a page of another site can send a form to any port, and its lines
    would be said here."""
    return _REQUEST.fullmatch(line) is not None


def _current(person: Person) -> str:
    if not person.rooms:
        raise Mistake("not-there", "you are in no room: /join one")
    return next(reversed(person.rooms.values())).name


# --- JSON -----------------------------------------------------------------------------------------------------------


class _Command(msgspec.Struct, tag_field="type"):
    """What programs and browsers send. Members that are not listed are passed over; of two the last one counts."""


class _Nick(_Command, tag="nick"):
    nick: str


class _Join(_Command, tag="join"):
    room: str


class _Leave(_Command, tag="leave"):
    room: str


class _Say(_Command, tag="say"):
    room: str
    text: str


class _Tell(_Command, tag="tell"):
    to: str
    text: str


class _Who(_Command, tag="who"):
    room: str


class _Rooms(_Command, tag="rooms"):
    pass


class _Away(_Command, tag="away"):
    text: str = ""


class _Pong(_Command, tag="pong"):
    pass


class _Any(msgspec.Struct):
    type: str


_decode = msgspec.json.Decoder(_Nick | _Join | _Leave | _Say | _Tell | _Who | _Rooms | _Away | _Pong).decode
_encode = msgspec.json.Encoder().encode
_KINDS = frozenset({"nick", "join", "leave", "say", "tell", "who", "rooms", "away", "pong"})

PING = b'{"type":"ping"}'
"""What a silent program is asked."""
PONG = b'{"type":"pong"}'
"""And what it answers."""


def as_json(event: Event) -> bytes:
    """One JSON object, UTF-8."""
    return _encode(event)


def obey_json(rooms: Rooms, person: Person, message: bytes) -> None:
    """Do what a JSON object says.

    :raises Mistake: it is none, or it can not be done.
    """
    match _command(message):
        case _Say(room=room, text=text):
            rooms.say(person, room, text)
        case _Tell(to=to, text=text):
            rooms.tell(person, to, text)
        case _Nick(nick=nick):
            rooms.rename(person, nick)
        case _Join(room=room):
            rooms.join(person, room)
        case _Leave(room=room):
            rooms.part(person, room)
        case _Who(room=room):
            rooms.who(person, room)
        case _Rooms():
            rooms.list(person)
        case _Away(text=text):
            rooms.away(person, text)


def _command(message: bytes) -> Any:
    try:
        return _decode(message)
    except msgspec.ValidationError as error:
        try:
            kind = msgspec.json.decode(message, type=_Any).type
        except (msgspec.DecodeError, RecursionError):
            kind = None
        if kind is not None and kind not in _KINDS:
            raise Mistake("no-such-command", f"there is no such command: {', '.join(sorted(_KINDS))}") from None
        raise Mistake("bad-command", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Mistake("bad-json", "that is no JSON in UTF-8, or it is nested too deeply") from None
