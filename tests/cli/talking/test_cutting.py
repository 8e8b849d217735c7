"""The stream to messages, and what is said of half a frame."""

from __future__ import annotations

import pytest

import wireway
from wireway.cli.talking.cutting import Cutter
from wireway.framing import FrameError

FRAMINGS = [
    wireway.LengthPrefix(4),
    wireway.LengthPrefix(2, byteorder="little"),
    wireway.Varint(),
    wireway.Lines(),
    wireway.Delimiter(b"\r\n"),
]


@pytest.mark.parametrize("framing", FRAMINGS, ids=repr)
def test_bytes_that_wait_are_those_of_the_begun_frame(framing: wireway.Framing) -> None:
    cutter = Cutter(framing)
    whole, begun = cutter.encode(b"whole"), cutter.encode(b"begun")
    assert cutter.feed(whole + begun[:3]) == [b"whole"]
    assert cutter.waiting == 3
    assert begun[:3].hex(" ") in cutter.unfinished()
    for index in range(3, len(begun) - 1):
        assert cutter.feed(begun[index : index + 1]) == []
        assert cutter.waiting == index + 1
    assert cutter.feed(begun[-1:]) == [b"begun"]
    assert cutter.waiting == 0
    assert cutter.messages == 2


def test_it_is_told_how_many_are_missing() -> None:
    cutter = Cutter(wireway.LengthPrefix(4))
    cutter.feed(b"\0\0\0\x0ahel")
    assert cutter.missing() == 7
    assert "the length field says 10, needs 7 more bytes of the body of 10" in cutter.unfinished()


def test_a_large_frame_is_not_shown_whole() -> None:
    cutter = Cutter(wireway.LengthPrefix(4))
    cutter.feed((1_000_000).to_bytes(4) + bytes(900_000))
    assert cutter.missing() == 100_000
    assert cutter.unfinished() == "900,004 bytes of an unfinished frame: 100,000 more are missing"


def test_what_is_no_frame_leaves_the_messages_before_it() -> None:
    cutter = Cutter(wireway.Tpkt())
    with pytest.raises(FrameError) as raised:
        cutter.feed(cutter.encode(b"abc") + b"GET / HTTP/1.1")
    assert raised.value.messages == [b"abc"]
    assert cutter.messages == 1
    assert "error" in cutter.unfinished()
    assert "HTTP" in cutter.unfinished()


def test_another_framing_from_here_on() -> None:
    cutter = Cutter(wireway.Lines())
    assert cutter.feed(b"hello\n\0\0\0\2hi\0\0") == [b"hello"]
    assert cutter.switch(wireway.LengthPrefix(4)) == [b"hi"]
    assert cutter.waiting == 2


def test_raw_waits_for_nothing() -> None:
    cutter = Cutter(wireway.Raw())
    assert cutter.feed(b"ab") == [b"ab"]
    assert cutter.waiting == 0
    assert cutter.encode(b"x") == b"x"
