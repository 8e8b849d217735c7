"""Events and commands as bytes: lines for people with netcat, JSON for programs. Pure functions."""

from __future__ import annotations

import json
import time
from typing import Any

from wireway.services.chat.rooms import Event, Mistake, Person, Rooms

__all__ = ["as_json", "as_line", "obey_json", "obey_line"]

HELP = (
    "/nick NAME, /join ROOM, /leave [ROOM], /msg NICK TEXT, /who [ROOM], /rooms, /help; "
    "all else is said in the room that you joined last"
)


def as_json(event: Event) -> bytes:
    """One JSON object, UTF-8."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def as_line(event: Event) -> bytes | None:
    """A line for people, without its end; None for what they need not see."""
    match event:
        case {"type": "welcome", "nick": nick}:
            text = f"* welcome, {nick}. {HELP}"
        case {"type": "message", "room": room, "nick": nick, "text": said}:
            text = f"[{room}] {nick}: {said}"
        case {"type": "private", "from": sender, "to": to, "text": said}:
            text = f"[{sender} to {to}] {said}"
        case {"type": "joined", "room": room, "nick": nick}:
            text = f"* {nick} came into {room}"
        case {"type": "left", "room": room, "nick": nick}:
            text = f"* {nick} left {room}"
        case {"type": "renamed", "old": old, "new": new}:
            text = f"* {old} is now called {new}"
        case {"type": "people", "room": room, "count": count, "nicks": nicks}:
            more = f" and {count - len(nicks)} more" if count > len(nicks) else ""
            text = f"* in {room}: {', '.join(nicks)}{more}"
        case {"type": "history", "messages": messages}:
            lines = [f"  {_clock(each)} {each['nick']}: {each['text']}" for each in messages]
            if not lines:
                return None
            text = "\n".join(["* said before:", *lines])
        case {"type": "rooms", "rooms": rooms}:
            text = "* rooms: " + (", ".join(f"{name} ({count})" for name, count in rooms.items()) or "none yet")
        case {"type": "error", "text": wrong}:
            text = f"! {wrong}"
        case _:
            return None
    return text.encode()


def _clock(event: Event) -> str:
    return time.strftime("%H:%M", time.localtime(event["time"]))


def obey_line(rooms: Rooms, person: Person, line: bytes) -> None:
    """Do what a line says.

    :raises Mistake: it can not be done.
    """
    text = "".join(each for each in line.decode("utf-8", "replace").strip() if each.isprintable())
    if not text:
        return
    if not text.startswith("/"):
        rooms.say(person, _current(person), text)
        return
    command, _, rest = text[1:].partition(" ")
    rest = rest.strip()
    match command:
        case "nick":
            rooms.rename(person, rest)
        case "join":
            rooms.join(person, rest)
        case "leave":
            rooms.part(person, rest or _current(person))
        case "msg":
            nick, _, said = rest.partition(" ")
            rooms.tell(person, nick, said)
        case "who":
            rooms.who(person, rest or _current(person))
        case "rooms":
            rooms.list(person)
        case "help":
            raise Mistake("help", HELP)
        case _:
            raise Mistake("no-such-command", f"there is no /{command}: {HELP}")


def _current(person: Person) -> str:
    if not person.rooms:
        raise Mistake("not-there", "you are in no room: /join one")
    return person.rooms[-1]


def obey_json(rooms: Rooms, person: Person, message: bytes) -> None:
    """Do what a JSON object says.

    :raises Mistake: it is none, or it can not be done.
    """
    try:
        command: Any = json.loads(message)
    except ValueError:
        raise Mistake("bad-json", "that is no JSON in UTF-8") from None
    if not isinstance(command, dict):
        raise Mistake("bad-json", "a command is an object")
    given: dict[str, Any] = {"type": None, "room": None, "nick": None, "to": None, "text": None, **command}
    match given["type"]:
        case "nick":
            rooms.rename(person, given["nick"])
        case "join":
            rooms.join(person, given["room"])
        case "leave":
            rooms.part(person, given["room"])
        case "say":
            rooms.say(person, given["room"], given["text"])
        case "tell":
            to = given["to"]
            rooms.tell(person, to if isinstance(to, str) else "", given["text"])
        case "who":
            rooms.who(person, given["room"])
        case "rooms":
            rooms.list(person)
        case other:
            raise Mistake("no-such-command", f"there is no command {other!r}")
