"""Who is in which room, and what was said there: the chat itself, without I/O.

Owns nicknames, rooms, presence, history and every bound of them. Knows no connection: what is to be told goes to a
`Post`, as an event (a dict that JSON can hold; docs/reference/chat-protocol.md lists them).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from wireway import ConfigError

__all__ = ["ChatLimits", "Event", "Mistake", "Person", "Post", "Rooms"]

Event = dict[str, Any]


class Mistake(Exception):  # noqa: N818  (a person's, and told to that person)
    """What somebody asked for can not be. `code` is for programs, the text for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatLimits:
    """The bounds of a chat. Each is a number of people, rooms, messages or characters, at least 1.

    :raises ConfigError: one is below 1.
    """

    nick: int = 24
    """Characters of a nickname."""
    room: int = 32
    """Characters of a room's name."""
    text: int = 1000
    """Characters of a message."""
    history: int = 50
    """Messages of a room that who joins is told."""
    rooms: int = 1000
    """Rooms that exist at once."""
    people: int = 10_000
    """People in one room."""
    joined: int = 20
    """Rooms that one person is in."""
    announced: int = 200
    """In a room with more people than this, who comes and goes is not announced: that would be the square of them."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, it must be at least 1")


@dataclass(slots=True, eq=False)
class Person:
    """Somebody who is connected."""

    nick: str
    outlet: Any
    """What the `Post` needs to reach them."""
    rooms: list[str] = field(default_factory=list)
    """In the order in which they were joined."""


class Post(Protocol):
    """Carries events to people."""

    def to_room(self, room: str, event: Event, sender: Person | None) -> None:
        """To all in a room."""

    def to_person(self, person: Person, event: Event) -> None:
        """To one."""

    def joined(self, person: Person, room: str) -> None:
        """From now on `to_room` reaches them."""

    def left(self, person: Person, room: str) -> None:
        """And from now on no more."""


class _Room:
    def __init__(self, history: int) -> None:
        self.people: dict[Person, None] = {}
        self.history: deque[Event] = deque(maxlen=history)


class Rooms:
    """All rooms. Belongs to one thread."""

    def __init__(self, post: Post, limits: ChatLimits | None = None, now: Callable[[], float] = time.time) -> None:
        self.limits = ChatLimits() if limits is None else limits
        self._post = post
        self._now = now
        self._rooms: dict[str, _Room] = {}
        self._nicks: dict[str, Person] = {}
        self._guests = 0
        self._messages = 0

    # --- people -------------------------------------------------------------------------------------------

    def enter(self, outlet: Any) -> Person:
        """Somebody came. They are called guest and a number until they say otherwise."""
        while True:
            self._guests += 1
            nick = f"guest{self._guests}"
            if nick not in self._nicks:
                break
        person = Person(nick, outlet)
        self._nicks[nick] = person
        self._post.to_person(person, {"type": "welcome", "nick": nick, "rooms": self._counts()})
        return person

    def leave(self, person: Person) -> None:
        """Somebody went, for whatever reason."""
        for room in list(person.rooms):
            self.part(person, room)
        self._nicks.pop(_key(person.nick), None)

    def rename(self, person: Person, nick: str) -> None:
        """Take a nickname.

        :raises Mistake: it is no nickname, or somebody else's.
        """
        _check("nick", nick, self.limits.nick)
        key = _key(nick)
        if self._nicks.get(key, person) is not person:
            raise Mistake("nick-taken", f"somebody else is called {nick}")
        old, person.nick = person.nick, nick
        self._nicks.pop(_key(old), None)
        self._nicks[key] = person
        event = {"type": "renamed", "old": old, "new": nick}
        self._post.to_person(person, event)
        for room in person.rooms:
            if self._is_announced(room):
                self._post.to_room(room, {**event, "room": room}, person)

    # --- rooms ------------------------------------------------------------------------------------------------

    def join(self, person: Person, name: str) -> None:
        """Come into a room, which is made if it is not there. They are told who is there and what was said.

        :raises Mistake: it is no name, or a bound was reached.
        """
        _check("room", name, self.limits.room)
        if name in person.rooms:
            raise Mistake("already-there", f"you are in {name} already")
        if len(person.rooms) >= self.limits.joined:
            raise Mistake("too-many-rooms", f"you are in {self.limits.joined} rooms, which is the most")
        room = self._rooms.get(name)
        if room is None:
            if len(self._rooms) >= self.limits.rooms:
                raise Mistake("too-many-rooms", f"there are {self.limits.rooms} rooms, which is the most")
            room = self._rooms[name] = _Room(self.limits.history)
        if len(room.people) >= self.limits.people:
            raise Mistake("room-full", f"{name} has {self.limits.people} people, which is the most")
        if self._is_announced(name):
            self._post.to_room(name, {"type": "joined", "room": name, "nick": person.nick}, person)
        room.people[person] = None
        person.rooms.append(name)
        self._post.joined(person, name)
        self.who(person, name)
        self._post.to_person(person, {"type": "history", "room": name, "messages": list(room.history)})

    def part(self, person: Person, name: str) -> None:
        """Leave a room. The last one takes it with them, history and all.

        :raises Mistake: they are not in it.
        """
        room = self._room_of(person, name)
        del room.people[person]
        person.rooms.remove(name)
        self._post.left(person, name)
        event = {"type": "left", "room": name, "nick": person.nick}
        self._post.to_person(person, event)
        if not room.people:
            del self._rooms[name]
        elif self._is_announced(name):
            self._post.to_room(name, event, person)

    def who(self, person: Person, name: str) -> None:
        """Tell them who is in a room; of very many the first, and how many.

        :raises Mistake: they are not in it.
        """
        room = self._room_of(person, name)
        nicks = [each.nick for each, _ in zip(room.people, range(self.limits.announced), strict=False)]
        event = {"type": "people", "room": name, "count": len(room.people), "nicks": nicks}
        self._post.to_person(person, event)

    def list(self, person: Person) -> None:
        """Tell them which rooms there are, and how many people are in each."""
        self._post.to_person(person, {"type": "rooms", "rooms": self._counts()})

    # --- messages ---------------------------------------------------------------------------------------------

    def say(self, person: Person, name: str, text: str) -> None:
        """Say something in a room: to all there in the same order, the sender included.

        :raises Mistake: they are not in it, or it is no text.
        """
        room = self._room_of(person, name)
        self._check_text(text)
        self._messages += 1
        event = {
            "type": "message",
            "id": self._messages,
            "room": name,
            "nick": person.nick,
            "text": text,
            "time": round(self._now(), 3),
        }
        room.history.append(event)
        self._post.to_room(name, event, person)

    def tell(self, person: Person, nick: str, text: str) -> None:
        """Say something to one person, wherever they are.

        :raises Mistake: nobody is called so, or it is no text.
        """
        other = self._nicks.get(_key(nick))
        if other is None:
            raise Mistake("no-such-nick", f"nobody here is called {nick}")
        self._check_text(text)
        event = {
            "type": "private",
            "from": person.nick,
            "to": other.nick,
            "text": text,
            "time": round(self._now(), 3),
        }
        self._post.to_person(other, event)
        if other is not person:
            self._post.to_person(person, event)

    # --- what others need ---------------------------------------------------------------------------------------

    def _room_of(self, person: Person, name: str) -> _Room:
        if name not in person.rooms:
            raise Mistake("not-there", f"you are not in {name!r}: join it first")
        return self._rooms[name]

    def _is_announced(self, name: str) -> bool:
        room = self._rooms.get(name)
        return room is not None and len(room.people) <= self.limits.announced

    def _counts(self) -> dict[str, int]:
        return {name: len(room.people) for name, room in sorted(self._rooms.items())[:100]}

    def _check_text(self, text: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise Mistake("bad-text", "there is nothing in the message")
        if len(text) > self.limits.text:
            raise Mistake("bad-text", f"the message has {len(text)} characters, at most {self.limits.text} are taken")


def _key(nick: str) -> str:
    """Under which a nickname is kept: Ann and ann are one."""
    return nick.casefold()


def _check(what: str, name: object, longest: int) -> None:
    if (
        not isinstance(name, str)
        or not (1 <= len(name) <= longest)
        or not name.isprintable()
        or set(name) & set(" /,:")
    ):
        raise Mistake(f"bad-{what}", f"a {what} is 1 to {longest} letters, without spaces and / , :")
