"""The rooms of the chat by themselves: who hears what, and every bound."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import wireway
from wireway.services.chat import ChatLimits
from wireway.services.chat.rooms import Event, Mistake, Person, Rooms
from wireway.services.chat.wire import as_json, as_line, obey_json, obey_line


class Told:
    """A post that keeps what it carries: for each person the events, in order."""

    def __init__(self) -> None:
        self.heard: dict[Person, list[Event]] = {}
        self.rooms: dict[str, list[Person]] = {}

    def to_room(self, room: str, event: Event, sender: Person | None) -> None:
        for person in self.rooms.get(room, ()):
            if person is not sender or event["type"] == "message":
                self.heard[person].append(event)

    def to_person(self, person: Person, event: Event) -> None:
        self.heard.setdefault(person, []).append(event)

    def joined(self, person: Person, room: str) -> None:
        self.rooms.setdefault(room, []).append(person)

    def left(self, person: Person, room: str) -> None:
        self.rooms[room].remove(person)

    def take(self, person: Person) -> list[Event]:
        events, self.heard[person] = self.heard[person], []
        return events


def chat(**limits: int) -> tuple[Told, Rooms]:
    told = Told()
    clock = itertools.count(1000)
    return told, Rooms(told, ChatLimits(**limits), now=lambda: float(next(clock)))


def types(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]


def test_a_conversation() -> None:
    told, rooms = chat()
    ann, bob = rooms.enter("a"), rooms.enter("b")
    rooms.rename(ann, "ann")
    rooms.join(ann, "den")
    rooms.say(ann, "den", "first")
    assert types(told.take(ann)) == ["welcome", "renamed", "people", "history", "message"]
    rooms.join(bob, "den")
    assert told.take(ann) == [{"type": "joined", "room": "den", "nick": "guest2"}]
    welcome, people, history = told.take(bob)
    assert welcome == {"type": "welcome", "nick": "guest2", "rooms": {}}
    assert people == {"type": "people", "room": "den", "count": 2, "nicks": ["ann", "guest2"]}
    said = {"type": "message", "id": 1, "room": "den", "nick": "ann", "text": "first", "time": 1000.0}
    assert history == {"type": "history", "room": "den", "messages": [said]}
    rooms.say(bob, "den", "hello")
    assert told.take(ann) == told.take(bob) == [{**said, "id": 2, "nick": "guest2", "text": "hello", "time": 1001.0}]
    rooms.rename(bob, "Bob")
    assert told.take(ann) == [{"type": "renamed", "old": "guest2", "new": "Bob", "room": "den"}]
    told.take(bob)
    rooms.tell(ann, "bob", "psst")
    private = {"type": "private", "from": "ann", "to": "Bob", "text": "psst", "time": 1002.0}
    assert told.take(ann) == told.take(bob) == [private]
    rooms.leave(bob)
    assert told.take(ann) == [{"type": "left", "room": "den", "nick": "Bob"}]
    rooms.part(ann, "den")
    rooms.list(ann)
    assert told.take(ann)[-1] == {"type": "rooms", "rooms": {}}
    carl = rooms.enter("c")
    rooms.rename(carl, "BOB")  # the name is free again
    rooms.join(carl, "den")
    assert told.take(carl)[-1] == {"type": "history", "room": "den", "messages": []}  # it went with the last one


@pytest.mark.parametrize(
    ("code", "limits", "what"),
    [
        ("bad-nick", {}, lambda rooms, ann: rooms.rename(ann, "")),
        ("bad-nick", {}, lambda rooms, ann: rooms.rename(ann, "a b")),
        ("bad-nick", {}, lambda rooms, ann: rooms.rename(ann, "a\nb")),
        ("bad-nick", {"nick": 3}, lambda rooms, ann: rooms.rename(ann, "four")),
        ("bad-nick", {}, lambda rooms, ann: rooms.rename(ann, None)),
        ("nick-taken", {}, lambda rooms, ann: rooms.rename(ann, "GUEST2")),
        ("bad-room", {}, lambda rooms, ann: rooms.join(ann, "a/b")),
        ("bad-room", {"room": 3}, lambda rooms, ann: rooms.join(ann, "four")),
        ("already-there", {}, lambda rooms, ann: rooms.join(ann, "den")),
        ("too-many-rooms", {"joined": 1}, lambda rooms, ann: rooms.join(ann, "more")),
        ("too-many-rooms", {"rooms": 1}, lambda rooms, ann: rooms.join(ann, "more")),
        ("not-there", {}, lambda rooms, ann: rooms.say(ann, "other", "hi")),
        ("not-there", {}, lambda rooms, ann: rooms.part(ann, "other")),
        ("not-there", {}, lambda rooms, ann: rooms.who(ann, "other")),
        ("bad-text", {}, lambda rooms, ann: rooms.say(ann, "den", "  ")),
        ("bad-text", {}, lambda rooms, ann: rooms.say(ann, "den", None)),
        ("bad-text", {"text": 2}, lambda rooms, ann: rooms.say(ann, "den", "abc")),
        ("no-such-nick", {}, lambda rooms, ann: rooms.tell(ann, "eve", "hi")),
        ("no-such-command", {}, lambda rooms, ann: obey_line(rooms, ann, b"/dance")),
        ("bad-json", {}, lambda rooms, ann: obey_json(rooms, ann, b"{")),
        ("bad-json", {}, lambda rooms, ann: obey_json(rooms, ann, b"\xff")),
        ("bad-json", {}, lambda rooms, ann: obey_json(rooms, ann, b"[]")),
        ("no-such-command", {}, lambda rooms, ann: obey_json(rooms, ann, b'{"type": ["x"]}')),
        ("no-such-nick", {}, lambda rooms, ann: obey_json(rooms, ann, b'{"type": "tell", "to": 5, "text": "x"}')),
        ("not-there", {}, lambda rooms, ann: obey_json(rooms, ann, b'{"type": "say", "room": {}, "text": "x"}')),
    ],
)
def test_mistakes(code: str, limits: dict[str, int], what: Any) -> None:
    _, rooms = chat(**limits)
    ann = rooms.enter("a")
    rooms.enter("b")
    rooms.join(ann, "den")
    with pytest.raises(Mistake) as mistake:
        what(rooms, ann)
    assert mistake.value.code == code


def test_a_room_that_is_full() -> None:
    told, rooms = chat(people=2, announced=1)
    people = [rooms.enter(number) for number in range(3)]
    rooms.join(people[0], "den")
    rooms.join(people[1], "den")
    with pytest.raises(Mistake, match="2 people"):
        rooms.join(people[2], "den")
    told.take(people[0])
    rooms.who(people[0], "den")
    assert told.take(people[0]) == [{"type": "people", "room": "den", "count": 2, "nicks": ["guest1"]}]
    rooms.rename(people[1], "bob")
    assert told.take(people[0]) == []  # too many to be announced to each other


def test_history_is_bounded() -> None:
    told, rooms = chat(history=2)
    ann, bob = rooms.enter("a"), rooms.enter("b")
    rooms.join(ann, "den")
    for text in ("1", "2", "3"):
        rooms.say(ann, "den", text)
    rooms.join(bob, "den")
    assert [message["text"] for message in told.take(bob)[-1]["messages"]] == ["2", "3"]


def test_lines() -> None:
    told, rooms = chat()
    ann = rooms.enter("a")
    for line in (
        b"/nick ann\r",
        b"/join den",
        b" hello \x07there",
        b"/msg ann to me",
        b"/who",
        b"/rooms",
        b"/leave",
        b"",
    ):
        obey_line(rooms, ann, line)
    text = [as_line(event) for event in told.take(ann)]
    assert text[1:] == [
        b"* guest1 is now called ann",
        b"* in den: ann",
        None,
        b"[den] ann: hello there",
        b"[ann to ann] to me",
        b"* in den: ann",
        b"* rooms: den (1)",
        b"* ann left den",
    ]
    with pytest.raises(Mistake, match="no room"):
        obey_line(rooms, ann, b"hello")
    with pytest.raises(Mistake, match="/join ROOM"):
        obey_line(rooms, ann, b"/help")
    assert as_line({"type": "people", "room": "a", "count": 5, "nicks": ["x"]}) == b"* in a: x and 4 more"
    assert as_line({"type": "error", "code": "x", "text": "no"}) == b"! no"
    assert as_json({"type": "x", "text": "é"}) == '{"type":"x","text":"é"}'.encode()


def test_a_limit_that_is_wrong() -> None:
    with pytest.raises(wireway.ConfigError, match="history is 0"):
        ChatLimits(history=0)
