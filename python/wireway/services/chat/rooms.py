"""Who is in which room, and what was said there: the chat itself, without I/O.

Owns nicknames, rooms, presence and history. Knows no connection: what is to be told goes to a `Post`, as an event (a
dict that JSON can hold; docs/reference/chat-protocol.md lists them).
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from wireway.services.chat.limits import LISTED, ChatLimits
from wireway.services.chat.names import Mistake, check_name, check_text, key_of

__all__ = ["Event", "Person", "Post", "Room", "Rooms"]

Event = dict[str, Any]
_LONG_ENOUGH = 1000
"""Characters of a name that are looked at, when it is only looked for."""


@dataclass(slots=True, eq=False)
class Person:
    """Somebody who is connected."""

    nick: str
    outlet: Any
    """What the `Post` needs to reach them."""
    rooms: dict[str, Room] = field(default_factory=dict)
    """By key. The last one is where they talk who name no room."""
    away: str | None = None
    """Why they do not answer, as long as they do not."""


@dataclass(slots=True, eq=False)
class Room:
    """A room, which is there as long as somebody is in it."""

    key: str
    """Under which it is kept: the same for Den and den."""
    name: str
    """As its first person wrote it."""
    history: deque[Event]
    people: dict[Person, None] = field(default_factory=dict)


class Post(Protocol):
    """Carries events to people."""

    def to_room(self, room: Room, event: Event, sender: Person | None) -> None:
        """To all in a room."""

    def to_person(self, person: Person, event: Event) -> None:
        """To one."""

    def named(self, person: Person) -> None:
        """They are called otherwise now."""

    def joined(self, person: Person, room: Room) -> None:
        """From now on `to_room` reaches them."""

    def left(self, person: Person, room: Room) -> None:
        """And from now on no more."""

    def end(self, person: Person) -> None:
        """They want to go."""

    def later(self, callback: Callable[[], None]) -> None:
        """Call it in a few seconds."""


class Rooms:
    """All rooms. Belongs to one thread."""

    def __init__(self, post: Post, limits: ChatLimits | None = None, now: Callable[[], float] = time.time) -> None:
        self.limits = ChatLimits() if limits is None else limits
        self._post = post
        self._now = now
        self._rooms: dict[str, Room] = {}
        self._nicks: dict[str, Person] = {}
        self._crowds: dict[Room, None] = {}
        """Rooms where somebody came or went and nobody was told."""
        self._guests = 0
        self._last_id = self._said = 0

    # --- people -------------------------------------------------------------------------------------------

    @property
    def counts(self) -> tuple[int, int, int]:
        """Rooms, people, and messages that were said."""
        return len(self._rooms), len(self._nicks), self._said

    def enter(self, outlet: Any) -> Person:
        """Somebody came. They are called guest and a number until they say otherwise.

        :raises Mistake: there are too many.
        """
        if len(self._nicks) >= self.limits.people:
            raise Mistake("full", f"{self.limits.people:,} people are here, which is the most: come back later")
        while True:
            self._guests += 1
            nick = f"guest{self._guests}"
            if nick not in self._nicks:
                break
        self._nicks[nick] = person = Person(nick, outlet)
        self._post.named(person)
        limits = {name: getattr(self.limits, f"{name}_length") for name in ("nick", "room", "text")}
        self._post.to_person(person, {"type": "welcome", "nick": nick, "rooms": self._counts(), "limits": limits})
        return person

    def leave(self, person: Person) -> None:
        """Somebody went, for whatever reason."""
        for room in list(person.rooms.values()):
            self._part(person, room)
        if self._nicks.get(key := key_of(person.nick)) is person:
            del self._nicks[key]

    def rename(self, person: Person, nick: str) -> None:
        """Take a nickname.

        :raises Mistake: it is no nickname, or somebody else's.
        """
        nick = check_name("nick", nick, self.limits.nick_length)
        key = key_of(nick)
        if self._nicks.get(key, person) is not person:
            raise Mistake("nick-taken", f"somebody else is called {nick}")
        del self._nicks[key_of(person.nick)]
        self._nicks[key] = person
        old, person.nick = person.nick, nick
        self._post.named(person)
        self._tell_all(person, {"type": "renamed", "old": old, "new": nick})

    def away(self, person: Person, text: str) -> None:
        """They will not answer for a while; with nothing in the text they are back.

        :raises Mistake: it is no text.
        """
        person.away = check_text(text, self.limits.text_length) if text.strip() else None
        self._tell_all(person, {"type": "away", "nick": person.nick, "text": person.away or ""})

    def quit(self, person: Person) -> None:
        """They want to go."""
        self._post.end(person)

    def tell_everybody(self, event: Event) -> None:
        """Tell all who are connected, in a room or in none."""
        for person in list(self._nicks.values()):  # who can not take it any more may leave at that
            self._post.to_person(person, event)

    def _tell_all(self, person: Person, event: Event) -> None:
        """To them, and to all who see them."""
        self._post.to_person(person, event)
        for room in list(person.rooms.values()):
            if self._is_announced(room):
                self._post.to_room(room, {**event, "room": room.name}, person)

    # --- rooms ------------------------------------------------------------------------------------------------

    def join(self, person: Person, name: str) -> None:
        """Come into a room, which is made if it is not there. They are told who is there and what was said.

        :raises Mistake: it is no name, they are there already, or a bound was reached.
        """
        name = check_name("room", name, self.limits.room_length)
        key = key_of(name)
        if key in person.rooms:
            raise Mistake("already-there", f"you are in {person.rooms[key].name} already")
        if len(person.rooms) >= self.limits.joined:
            raise Mistake("too-many-rooms", f"you are in {self.limits.joined} rooms, which is the most")
        room = self._rooms.get(key)
        if room is None:
            if len(self._rooms) >= self.limits.rooms:
                raise Mistake("too-many-rooms", f"there are {self.limits.rooms:,} rooms, which is the most")
            room = self._rooms[key] = Room(key, name, deque(maxlen=self.limits.history))
        if len(room.people) >= self.limits.crowd:
            raise Mistake("room-full", f"{room.name} has {self.limits.crowd:,} people, which is the most")
        room.people[person] = None
        person.rooms[key] = room
        event = {"type": "joined", "room": room.name, "nick": person.nick}
        self._moved(room, event if person.away is None else {**event, "away": person.away}, person)
        self._post.joined(person, room)
        self._post.to_person(person, self._people(room))
        self._remember(person, room)

    def part(self, person: Person, name: str) -> None:
        """Leave a room. The last one takes it with them, history and all.

        :raises Mistake: they are not in it.
        """
        room = self._room_of(person, name)
        self._part(person, room)
        self._post.to_person(person, {"type": "left", "room": room.name, "nick": person.nick})

    def _part(self, person: Person, room: Room) -> None:
        del room.people[person], person.rooms[room.key]
        self._post.left(person, room)
        if room.people:
            self._moved(room, {"type": "left", "room": room.name, "nick": person.nick}, person)
        else:
            del self._rooms[room.key]
            self._crowds.pop(room, None)

    def turn_to(self, person: Person, name: str) -> bool:
        """Make a room the one where they talk who name none. False if they are not in it."""
        room = person.rooms.pop(key := key_of(name[:_LONG_ENOUGH]), None)
        if room is not None:
            person.rooms[key] = room
        return room is not None

    def who(self, person: Person, name: str) -> None:
        """Tell them who is in a room; of very many the first, and how many.

        :raises Mistake: they are not in it.
        """
        self._post.to_person(person, self._people(self._room_of(person, name)))

    def list(self, person: Person) -> None:
        """Tell them which rooms there are, and how many people are in each."""
        self._post.to_person(person, {"type": "rooms", "rooms": self._counts()})

    def _moved(self, room: Room, event: Event, person: Person) -> None:
        """Somebody came or went. In a crowd only how many there are is told, and not each time."""
        if self._is_announced(room) and room not in self._crowds:
            self._post.to_room(room, event, person)
        else:
            if not self._crowds:
                self._post.later(self._tell_crowds)
            self._crowds[room] = None

    def _tell_crowds(self) -> None:
        crowds, self._crowds = self._crowds, {}
        for room in crowds:
            if self._is_announced(room):  # few enough again: from here on each is announced
                self._post.to_room(room, self._people(room), None)
            else:
                self._post.to_room(room, {"type": "count", "room": room.name, "count": len(room.people)}, None)

    # --- messages ---------------------------------------------------------------------------------------------

    def say(self, person: Person, name: str, text: str) -> None:
        """Say something in a room: to all there in the same order, the sender included.

        :raises Mistake: they are not in it, or it is no text.
        """
        room = self._room_of(person, name)
        text = check_text(text, self.limits.text_length)
        now = self._now()
        # Microseconds, and always more than before: ids grow over a restart too.
        self._last_id = max(self._last_id + 1, int(now * 1_000_000))
        event = {
            "type": "message",
            "id": self._last_id,
            "room": room.name,
            "nick": person.nick,
            "text": text,
            "time": round(now, 3),
        }
        self._said += 1
        room.history.append(event)
        self._post.to_room(room, event, person)

    def tell(self, person: Person, nick: str, text: str) -> None:
        """Say something to one person, wherever they are.

        :raises Mistake: nobody is called so, or it is no text.
        """
        other = self._nicks.get(key_of(nick[:_LONG_ENOUGH]))
        if other is None:
            raise Mistake("no-such-nick", f"nobody here is called {_shown(nick)}")
        text = check_text(text, self.limits.text_length)
        event = {
            "type": "private",
            "from": person.nick,
            "to": other.nick,
            "text": text,
            "time": round(self._now(), 3),
        }
        self._post.to_person(other, event)
        if other is not person:
            self._post.to_person(person, event if other.away is None else {**event, "away": other.away})

    def _remember(self, person: Person, room: Room) -> None:
        """Tell what was said, the oldest first, in as many events as it takes: none is too long for its carrier."""
        pages: list[list[Event]] = [[]]
        free = most = self.limits.frame() - self.limits.spoken(0)
        for message in room.history:
            size = self.limits.spoken(len(message["text"]))
            if size > free and pages[-1]:
                pages.append([])
                free = most
            pages[-1].append(message)
            free -= size
        for left, messages in zip(range(len(pages) - 1, -1, -1), pages, strict=True):
            event = {"type": "history", "room": room.name, "messages": messages, "more": left > 0}
            self._post.to_person(person, event)

    # --- what others need ---------------------------------------------------------------------------------------

    def _room_of(self, person: Person, name: str) -> Room:
        room = person.rooms.get(key_of(name[:_LONG_ENOUGH]))
        if room is None:
            raise Mistake("not-there", f"you are not in {_shown(name)}: join it first")
        return room

    def _is_announced(self, room: Room) -> bool:
        return len(room.people) <= self.limits.announced

    def _people(self, room: Room) -> Event:
        listed = list(islice(room.people, self.limits.announced))
        return {
            "type": "people",
            "room": room.name,
            "count": len(room.people),
            "nicks": [person.nick for person in listed],
            "away": [person.nick for person in listed if person.away is not None],
        }

    def _counts(self) -> dict[str, int]:
        """The rooms with the most people."""
        largest = heapq.nsmallest(LISTED, self._rooms.values(), key=lambda room: (-len(room.people), room.name))
        return {room.name: len(room.people) for room in largest}


def _shown(name: str) -> str:
    """A name that may be none, as it is told to who gave it."""
    return name if name.isprintable() and len(name) <= 100 else "that"
