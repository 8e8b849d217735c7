r"""What a person writes and reads: escapes, hex, and nothing that steers a terminal."""

from __future__ import annotations

import pytest

from wireway.cli.talking.words import Input, View, as_text, decode, shown, unescape
from wireway.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "data"),
    [
        (r"a\n\r\t\0\\", b"a\n\r\t\0\\"),
        (r"\x00\xff\x7f", b"\x00\xff\x7f"),
        (r"\u00e9é", "éé".encode()),
        (r"\\x00", rb"\x00"),
        (r"\xc3\xa9", "é".encode()),
        ("", b""),
    ],
)
def test_escapes(typed: str, data: bytes) -> None:
    assert unescape(typed) == data


@pytest.mark.parametrize("typed", [r"\q", "ab\\", r"\x0", r"\u12", r"\ud800"])
def test_what_is_no_escape_says_so(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"is no"):
        unescape(typed)


def test_what_is_shown_can_be_typed_again() -> None:
    every = bytes(range(256)) + "é\u202e\x85".encode() + rb"\x00"
    assert unescape(as_text(every)) == every


def test_nothing_that_is_shown_steers_the_terminal() -> None:
    nasty = b"\x1b]0;title\x07\x9b2J\r\x08" + "\u202e\x9b".encode()
    for view in (View.TEXT, View.HEX):
        for row in shown(nasty, view, lines=True):
            assert row.isprintable(), row


def test_ways_to_type() -> None:
    assert decode("00 ff:0a 0x41", Input.HEX) == b"\0\xff\nA"
    assert decode(r"a\n", Input.TEXT) == rb"a\n"
    assert decode(r"a\n", Input.ESCAPED) == b"a\n"
    with pytest.raises(ConfigError, match="not hex"):
        decode("0g", Input.HEX)


def test_rows() -> None:
    assert shown(b"one\r\ntwo\n", View.TEXT, lines=True) == ["one", "two"]
    assert shown(b"one\ntwo\n", View.TEXT, lines=False) == [r"one\ntwo\n"]
    assert shown(b"", View.HEX, lines=False) == ["(0 bytes)"]
    first, second, rest = shown(b"0123456789abcdef\xff!!", View.HEX, lines=False, most=17)
    assert first == "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|"
    assert second.startswith("00000010  ff ")
    assert rest == "… and 2 more bytes"
