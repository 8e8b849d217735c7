"""Commands and events of the chat as lines and as JSON: what is none is a mistake with a code, and never more."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from support.rooms import chat, types
from support.tree import ROOT
from wireway.services.chat import ChatLimits
from wireway.services.chat.names import Mistake
from wireway.services.chat.wire import as_json, as_lines, obey_json, obey_line


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("bad-json", b""),
        ("bad-json", b"{"),
        ("bad-json", b'{"type":"rooms"}x'),
        ("bad-json", b"\xff"),
        ("bad-json", b'\xef\xbb\xbf{"type":"rooms"}'),
        ("bad-json", b'{"type":"say","room":"den","text":"\xff"}'),
        ("bad-json", b'{"type":"say","room":"den","text":"\xed\xa0\x80"}'),
        ("bad-json", b'{"type":"say","room":"den","text":"\\ud800"}'),
        ("bad-json", b'{"type":"say","room":"den","text":"a\nb"}'),
        ("bad-json", b'{"type":"rooms","x":NaN}'),
        ("bad-json", b'{"type":"rooms","x":Infinity}'),
        ("bad-command", b"[" * 16000),
        ("bad-command", b"[]"),
        ("bad-command", b"null"),
        ("bad-command", b'"rooms"'),
        ("bad-command", b"{}"),
        ("bad-command", b'{"type":5}'),
        ("bad-command", b'{"type":["x"]}'),
        ("bad-command", b'{"type":"say","room":{},"text":"x"}'),
        ("bad-command", b'{"type":"say","room":"den"}'),
        ("bad-command", b'{"type":"say","room":"den","text":null}'),
        ("bad-command", b'{"type":"tell","to":5,"text":"x"}'),
        ("bad-command", b'{"type":"nick","nick":["ann"]}'),
        ("no-such-command", b'{"type":"dance"}'),
        ("no-such-command", b'{"type":"welcome","nick":"x"}'),
        ("bad-text", b'{"type":"say","room":"den","text":"a\\nb"}'),
        ("bad-text", b'{"type":"say","room":"den","text":"\\u001b[2J"}'),
        ("bad-text", b'{"type":"say","room":"den","text":"\\u0000"}'),
        ("bad-nick", b'{"type":"nick","nick":"a\\nb"}'),
        ("bad-room", b'{"type":"join","room":"a\\u2028b"}'),
        ("no-such-nick", b'{"type":"tell","to":"\\u001b]0;x","text":"x"}'),
        ("not-there", b'{"type":"say","room":"\\u001b[2J","text":"x"}'),
        ("not-there", b'{"type":"who","room":"' + "\ufdfa".encode() * 5000 + b'"}'),
    ],
)
def test_what_is_no_command(code: str, message: bytes) -> None:
    told, rooms = chat()
    ann = rooms.enter("a")
    rooms.join(ann, "den")
    told.take(ann)
    with pytest.raises(Mistake) as mistake:
        obey_json(rooms, ann, message)
    assert mistake.value.code == code
    assert str(mistake.value).isprintable()
    assert len(str(mistake.value)) < 300
    assert told.take(ann) == []


@pytest.mark.parametrize("inner", [b"[" * 8000 + b"]" * 8000, b'{"x":' * 3000 + b"1" + b"}" * 3000], ids=["[", "{"])
def test_deep_nesting_harms_nobody(inner: bytes) -> None:
    """How deep a message may be nested is the interpreter's: it is refused, or the unknown member passed over."""
    told, rooms = chat()
    ann = rooms.enter("a")
    told.take(ann)
    code = "fine"
    try:
        obey_json(rooms, ann, b'{"type":"rooms","x":' + inner + b"}")
    except Mistake as mistake:
        code = mistake.code
    assert (code, types(told.take(ann))) in (("bad-json", []), ("fine", ["rooms"]))


def test_commands() -> None:
    told, rooms = chat()
    ann = rooms.enter("a")
    for command in (
        b'{"type":"nick","nick":"ann"}',
        b'{"type":"join","room":"den"}',
        b'{"room":"den","text":"hi","type":"say"}',
        b' {"type": "say", "room": "no", "room": "DEN", "text": "\\u4f60", "more": [1, {"a": null}]} \n',
        b'{"type":"tell","to":"ann","text":"me"}',
        b'{"type":"who","room":"den"}',
        b'{"type":"rooms"}',
        b'{"type":"away","text":"lunch"}',
        b'{"type":"away"}',
        b'{"type":"pong"}',
        b'{"type":"leave","room":"den"}',
    ):
        obey_json(rooms, ann, command)
    assert types(told.take(ann)) == [
        *("welcome", "renamed", "people", "history", "message", "message"),
        *("private", "people", "rooms", "away", "away", "left"),
    ]


def test_json_is_utf8_without_spaces() -> None:
    assert as_json({"type": "x", "text": 'é"\\你'}) == '{"type":"x","text":"é\\"\\\\你"}'.encode()


def test_lines() -> None:
    told, rooms = chat()
    ann = rooms.enter("a")
    lines = (
        b"/nick ann\r",
        b"/join den",
        b" hello there",
        b"//shrug",
        b"/msg ann  to me",
        b"/WHO",
        b"/rooms",
        b"/away at lunch",
        b"/who",
        b"/away",
        b"/leave",
        b"",
        b"   ",
    )
    for line in lines:
        assert obey_line(rooms, ann, line) is None
    text = [line for event in told.take(ann) for line in as_lines(event)]
    assert text[1:] == [
        b"* guest1 is now called ann",
        b"* in den: ann",
        b"[den] ann: hello there",
        b"[den] ann: /shrug",
        b"[ann to ann] to me",
        b"* in den: ann",
        b"* rooms: den (1)",
        b"* ann is away: at lunch",
        b"* in den: ann (away)",
        b"* ann is back",
        b"* ann left den",
    ]
    help_ = obey_line(rooms, ann, b"/help")
    assert help_ is not None
    assert b"* /join ROOM" in b"\n".join(as_lines(help_))


def test_the_room_that_one_talks_in() -> None:
    told, rooms = chat()
    ann = rooms.enter("a")
    for line in (b"/join one", b"/join two", b"in two", b"/join ONE", b"in one", b"/leave", b"in two again"):
        obey_line(rooms, ann, line)
    heard = [(event["room"], event["text"]) for event in told.take(ann) if event["type"] == "message"]
    assert heard == [("two", "in two"), ("one", "in one"), ("two", "in two again")]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("not-there", b"hello"),
        ("not-there", b"/who"),
        ("not-there", b"/leave"),
        ("not-there", b"/leave nowhere"),
        ("bad-room", b"/join"),
        ("bad-nick", b"/nick"),
        ("bad-nick", b"/nick two words"),
        ("no-such-nick", b"/msg"),
        ("bad-text", b"/msg guest1"),
        ("no-such-command", b"/dance"),
        ("no-such-command", b"/"),
        ("no-such-command", b"/\x1b[2J"),
        ("bad-text", b"\xff\xf4\xff\xfd\x06"),  # what telnet sends for Ctrl-C
        ("bad-text", b"caf\xe9"),
    ],
)
def test_lines_that_can_not_be(code: str, line: bytes) -> None:
    _, rooms = chat()
    ann = rooms.enter("a")
    with pytest.raises(Mistake) as mistake:
        obey_line(rooms, ann, line)
    assert mistake.value.code == code
    assert str(mistake.value).isprintable()


def test_a_terminal_is_told_nothing_but_text() -> None:
    """Escapes, controls and lines of others do not reach people at netcat: neither as text nor in a name."""
    told, rooms = chat()
    ann, bob = rooms.enter("a"), rooms.enter("b")
    rooms.join(ann, "den")
    rooms.join(bob, "den")
    told.take(ann)
    for evil in ("\x1b[2J", "x\x1b]0;title\x07", "\x9b2J", "a\r\n* ann left den", "a\u2028b", "\x08\x08\x08ann: hi"):
        for command in (
            {"type": "say", "room": "den", "text": evil},
            {"type": "tell", "to": "guest1", "text": evil},
            {"type": "away", "text": evil},
            {"type": "nick", "nick": evil},
            {"type": "join", "room": evil},
        ):
            with pytest.raises(Mistake):
                obey_json(rooms, bob, json.dumps(command).encode())
    assert told.take(ann) == []


def test_lines_of_events() -> None:
    def lines(**event: Any) -> list[bytes]:
        return as_lines(event)

    assert lines(type="people", room="a", count=5, nicks=["x"], away=[]) == [b"* in a: x and 4 more"]
    assert lines(type="error", code="x", text="no") == [b"! no"]
    assert lines(type="bye", text="the end") == [b"* the end"]
    assert lines(type="count", room="a", count=5) == []
    assert lines(type="history", messages=[]) == []


def test_the_page_of_the_protocol_says_it_all() -> None:
    """Each command, each event, each code and each bound of the code stands on the page, and no other."""
    page = (ROOT / "docs" / "reference" / "chat-protocol.md").read_text()
    chapter = dict(re.findall(r"^## (\w+).*?\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))
    events, codes = chapter["Events"].split("| `code` | |")

    def listed(table: str) -> set[str]:
        return {
            name
            for cell in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
            for name in re.findall(r"`([\w-]+)`", cell)
        }

    source = "".join(path.read_text() for path in (ROOT / "python/wireway/services/chat").glob("*.py"))
    kinds = set(re.findall(r'tag="(\w+)"', source))
    assert listed(chapter["Commands"]) - {"type"} == kinds
    sent = set(re.findall(r'"type": ?"(\w+)"', source)) - {"pong", "help"}
    assert listed(events) - {"type"} == sent
    wrong = set(re.findall(r'Mistake\("([\w-]+)"', source)) | {"bad-nick", "bad-room"}
    assert listed(codes) == wrong
    limits = ChatLimits()
    for bound in (limits.frame(), limits.text_length, limits.rooms, limits.crowd):
        assert f"{bound:,}" in page
    for bound in (limits.nick_length, limits.room_length, limits.joined, limits.announced):
        assert re.search(rf"\b{bound}\b", page)
