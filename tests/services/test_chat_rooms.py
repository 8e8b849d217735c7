"""The rooms of the chat by themselves: who hears what, and every bound."""

from __future__ import annotations

from typing import Any

import pytest

import wireway
from support.rooms import Told, chat, types
from wireway.services.chat import ChatLimits
from wireway.services.chat.names import Mistake
from wireway.services.chat.rooms import Event, Person, Rooms
from wireway.services.chat.wire import as_json, as_lines


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
    limits = {"nick": 24, "room": 32, "text": 1000}
    assert welcome == {"type": "welcome", "nick": "guest2", "rooms": {}, "limits": limits}
    assert people == {"type": "people", "room": "den", "count": 2, "nicks": ["ann", "guest2"], "away": []}
    said = {"type": "message", "id": 1_000_000_000, "room": "den", "nick": "ann", "text": "first", "time": 1000.0}
    assert history == {"type": "history", "room": "den", "messages": [said], "more": False}
    rooms.say(bob, "den", "hello")
    assert (
        told.take(ann)
        == told.take(bob)
        == [{**said, "id": 1_001_000_000, "nick": "guest2", "text": "hello", "time": 1001.0}]
    )
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
    assert told.take(carl)[-1] == {
        "type": "history",
        "room": "den",
        "messages": [],
        "more": False,
    }  # it went with the last one


@pytest.mark.parametrize(
    ("code", "limits", "what"),
    [
        ("bad-nick", {}, lambda rooms, ann: rooms.rename(ann, "")),
        ("bad-nick", {}, lambda rooms, ann: rooms.rename(ann, "a\nb")),
        ("bad-nick", {"nick_length": 3}, lambda rooms, ann: rooms.rename(ann, "four")),
        ("nick-taken", {}, lambda rooms, ann: rooms.rename(ann, "GUEST2")),
        ("bad-room", {}, lambda rooms, ann: rooms.join(ann, "a/b")),
        ("bad-room", {"room_length": 3}, lambda rooms, ann: rooms.join(ann, "four")),
        ("already-there", {}, lambda rooms, ann: rooms.join(ann, "DEN")),
        ("too-many-rooms", {"joined": 1}, lambda rooms, ann: rooms.join(ann, "more")),
        ("too-many-rooms", {"rooms": 1}, lambda rooms, ann: rooms.join(ann, "more")),
        ("full", {"people": 2}, lambda rooms, ann: rooms.enter("c")),
        ("not-there", {}, lambda rooms, ann: rooms.say(ann, "other", "hi")),
        ("not-there", {}, lambda rooms, ann: rooms.part(ann, "other")),
        ("not-there", {}, lambda rooms, ann: rooms.who(ann, "other")),
        ("bad-text", {}, lambda rooms, ann: rooms.say(ann, "den", "  ")),
        ("bad-text", {"text_length": 2}, lambda rooms, ann: rooms.say(ann, "den", "abc")),
        ("bad-text", {"text_length": 2}, lambda rooms, ann: rooms.tell(ann, "guest2", "abc")),
        ("bad-text", {"text_length": 2}, lambda rooms, ann: rooms.away(ann, "abc")),
        ("no-such-nick", {}, lambda rooms, ann: rooms.tell(ann, "eve", "hi")),
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
    _, rooms = chat(crowd=2)
    people = [rooms.enter(number) for number in range(3)]
    rooms.join(people[0], "den")
    rooms.join(people[1], "den")
    with pytest.raises(Mistake, match="2 people"):
        rooms.join(people[2], "den")
    rooms.leave(people[0])
    rooms.join(people[2], "den")


def test_a_crowd_is_counted_and_not_announced() -> None:
    told, rooms = chat(announced=2)
    people = [rooms.enter(number) for number in range(5)]
    rooms.join(people[0], "den")
    rooms.join(people[1], "den")
    told.take(people[0])
    rooms.join(people[2], "den")
    rooms.join(people[3], "den")
    rooms.rename(people[3], "bob")
    assert told.take(people[0]) == []
    assert told.take(people[3])[1] == {
        "type": "people",
        "room": "den",
        "count": 4,
        "nicks": ["guest1", "guest2"],
        "away": [],
    }
    told.pause()
    assert told.take(people[0]) == [{"type": "count", "room": "den", "count": 4}]
    rooms.leave(people[3])
    rooms.join(people[4], "den")
    rooms.part(people[4], "den")
    rooms.leave(people[2])
    assert told.take(people[0]) == []
    told.pause()  # few again: who is there is told anew, since nobody was told who went
    (event,) = told.take(people[0])
    assert (event["type"], event["nicks"]) == ("people", ["guest1", "guest2"])
    rooms.leave(people[1])
    assert types(told.take(people[0])) == ["left"]
    assert told.waiting == []


def test_away() -> None:
    told, rooms = chat()
    ann, bob = rooms.enter("a"), rooms.enter("b")
    rooms.join(ann, "den")
    rooms.join(bob, "den")
    told.take(ann), told.take(bob)
    rooms.away(ann, "lunch")
    assert told.take(ann) == [{"type": "away", "nick": "guest1", "text": "lunch"}]
    assert told.take(bob) == [{"type": "away", "nick": "guest1", "text": "lunch", "room": "den"}]
    rooms.who(bob, "DEN")
    assert told.take(bob)[0]["away"] == ["guest1"]
    rooms.tell(bob, "guest1", "hi")
    assert told.take(bob)[0]["away"] == "lunch"
    assert "away" not in told.take(ann)[0]
    rooms.join(bob, "other")
    rooms.join(ann, "other")
    assert told.take(bob)[-1] == {"type": "joined", "room": "other", "nick": "guest1", "away": "lunch"}
    rooms.away(ann, " ")
    assert told.take(bob)[0] == {"type": "away", "nick": "guest1", "text": "", "room": "den"}


def test_a_name_is_free_when_its_owner_has_gone() -> None:
    _, rooms = chat()
    ann, bob = rooms.enter("a"), rooms.enter("b")
    rooms.rename(ann, "Straße")
    with pytest.raises(Mistake):
        rooms.rename(bob, "STRASSE")
    rooms.rename(ann, "strasse")  # one's own in another form
    rooms.leave(ann)
    rooms.rename(bob, "STRASSE")
    rooms.rename(bob, "guest3")
    assert rooms.enter("c").nick == "guest4"  # the name of a guest may be taken by then


def test_rooms_are_the_same_in_capitals() -> None:
    told, rooms = chat()
    ann, bob = rooms.enter("a"), rooms.enter("b")
    rooms.join(ann, "Den")
    rooms.join(bob, "DEN")
    told.take(ann)
    rooms.say(bob, "den", "hi")
    assert told.take(ann)[0]["room"] == "Den"
    rooms.list(ann)
    assert told.take(ann)[0]["rooms"] == {"Den": 2}


def test_the_largest_rooms_are_listed() -> None:
    told, rooms = chat(joined=200)
    ann, bob = rooms.enter("a"), rooms.enter("b")
    for number in range(150):
        rooms.join(ann, f"room{number}")
    rooms.join(bob, "room149")
    rooms.list(ann)
    listed = told.take(ann)[-1]["rooms"]
    assert len(listed) == 100
    assert next(iter(listed.items())) == ("room149", 2)


def test_ids_grow_though_the_clock_stands() -> None:
    told = Told()
    rooms = Rooms(told, ChatLimits(), now=lambda: 5.0)
    ann = rooms.enter("a")
    rooms.join(ann, "den")
    for _ in range(3):
        rooms.say(ann, "den", "hi")
    assert [event["id"] for event in told.take(ann)[-3:]] == [5_000_000, 5_000_001, 5_000_002]
    assert rooms.counts == (1, 1, 3)


def test_a_long_history_is_told_in_parts() -> None:
    """No event is longer than a frame may be, whatever was said."""
    told, rooms = chat()
    ann, bob = rooms.enter("a"), rooms.enter("b")
    rooms.rename(ann, "\U0001f600" * 24)
    rooms.join(ann, "\U0001f600" * 32)
    room = "\U0001f600" * 32
    for _ in range(60):
        rooms.say(ann, room, "\U0001f600" * 1000)
    rooms.join(bob, room)
    parts = [event for event in told.take(bob) if event["type"] == "history"]
    assert sum(len(part["messages"]) for part in parts) == 50
    assert [part["more"] for part in parts] == [True] * (len(parts) - 1) + [False]
    ids = [message["id"] for part in parts for message in part["messages"]]
    assert ids == sorted(ids)
    assert max(len(as_json(part)) for part in parts) <= rooms.limits.frame()


def test_no_event_is_longer_than_a_frame() -> None:
    """The worst that names and texts can be: letters of four bytes, and those that JSON escapes."""
    for letter in ("\U0001f600", '"'):
        told, rooms = chat(text_length=3000, people=500)
        people = [rooms.enter(number) for number in range(205)]
        for number, person in enumerate(people):
            rooms.rename(person, f"{letter * 21}{number}")
            rooms.away(person, letter * 3000)
            rooms.join(person, letter * 32)
        for number, person in enumerate(people[:6]):
            for other in range(19):
                rooms.join(person, f"{letter * 28}{number}.{other}")
        rooms.say(people[0], letter * 32, letter * 3000)
        rooms.tell(people[0], people[1].nick, letter * 3000)
        rooms.who(people[0], letter * 32)
        rooms.list(people[0])
        longest = max(
            max(len(as_json(event)), *map(len, as_lines(event) or [b""]))
            for heard in told.heard.values()
            for event in heard
        )
        assert 12_000 < longest <= rooms.limits.frame()


def test_history_is_bounded() -> None:
    told, rooms = chat(history=2)
    ann, bob = rooms.enter("a"), rooms.enter("b")
    rooms.join(ann, "den")
    for text in ("1", "2", "3"):
        rooms.say(ann, "den", text)
    rooms.join(bob, "den")
    assert [message["text"] for message in told.take(bob)[-1]["messages"]] == ["2", "3"]


@pytest.mark.parametrize(
    "limits", [{"history": 0}, {"rate": 0}, {"rate": "20"}, {"text_length": True}, {"people": 1.5}, {"per_address": 0}]
)
def test_a_limit_that_is_wrong(limits: dict[str, Any]) -> None:
    with pytest.raises(wireway.ConfigError, match=next(iter(limits))):
        ChatLimits(**limits)
    assert ChatLimits(rate=None, per_address=None).rate is None


def test_somebody_goes_while_they_are_told() -> None:
    """What is sent to somebody may be what closes them: their connection takes no more."""
    told, rooms = chat()
    ann, bob, carl = (rooms.enter(name) for name in "abc")
    for person in (ann, bob, carl):
        rooms.join(person, "den")
        rooms.join(person, "other")
    to_person = told.to_person

    def closes(person: Person, event: Event) -> None:
        to_person(person, event)
        if person is bob and bob.rooms:
            rooms.leave(bob)

    told.to_person = closes  # type: ignore[method-assign]
    told.take(carl)
    rooms.tell_everybody({"type": "bye", "text": "the end"})
    assert types(told.take(carl)) == ["left", "left", "bye"]
    assert rooms.counts[:2] == (2, 2)
    bob = rooms.enter("b")
    rooms.join(bob, "den")
    assert rooms.counts[1] == 2  # gone as soon as they were told who is there
