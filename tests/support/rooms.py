"""Owns what the tests of the chat's rooms share: rooms without a server, and a post that keeps what it carries."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from wireway.services.chat import ChatLimits
from wireway.services.chat.rooms import Event, Person, Room, Rooms

__all__ = ["Told", "chat", "types"]


class Told:
    """A post that keeps what it carries: for each person the events, in order."""

    def __init__(self) -> None:
        self.heard: dict[Person, list[Event]] = {}
        self.rooms: dict[str, list[Person]] = {}
        self.ended: list[Person] = []
        self.waiting: list[Callable[[], None]] = []

    def to_room(self, room: Room, event: Event, sender: Person | None) -> None:
        for person in self.rooms.get(room.key, ()):
            if person is not sender or event["type"] == "message":
                self.heard[person].append(event)

    def to_person(self, person: Person, event: Event) -> None:
        self.heard.setdefault(person, []).append(event)

    def named(self, person: Person) -> None:
        """Of no use here."""

    def joined(self, person: Person, room: Room) -> None:
        self.rooms.setdefault(room.key, []).append(person)

    def left(self, person: Person, room: Room) -> None:
        self.rooms[room.key].remove(person)

    def end(self, person: Person) -> None:
        self.ended.append(person)

    def later(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def pause(self) -> None:
        """What waits for a few seconds happens."""
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()

    def take(self, person: Person) -> list[Event]:
        events, self.heard[person] = self.heard[person], []
        return events


def chat(**limits: int) -> tuple[Told, Rooms]:
    told = Told()
    clock = itertools.count(1000)
    return told, Rooms(told, ChatLimits(**limits), now=lambda: float(next(clock)))


def types(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]
