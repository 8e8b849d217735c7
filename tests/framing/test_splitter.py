"""`FrameSplitter`: what it keeps, what it says after an error, and how the framing is switched in mid-stream."""

from __future__ import annotations

import pickle

import pytest

from wireway._native import FrameSplitter
from wireway.framing import Delimiter, FixedLength, FrameError, Framing, LengthPrefix, Lines, Raw, Varint


def splitter_of(framing: Framing) -> FrameSplitter:
    return FrameSplitter(framing._native())


def test_it_takes_as_many_messages_as_it_is_asked_for() -> None:
    splitter = splitter_of(Lines())
    assert splitter.feed(b"a\nb\nc\nd", most=1) == [b"a"]
    assert splitter.pending == 5
    assert splitter.feed(b"", most=0) == []
    assert splitter.feed(b"\n", most=2) == [b"b", b"c"]
    assert splitter.feed(b"") == [b"d"]
    assert splitter.pending == 0


def test_messages_before_an_error_are_not_lost_and_the_error_stays() -> None:
    splitter = splitter_of(LengthPrefix(1, max_size=3))
    with pytest.raises(FrameError) as caught:
        splitter.feed(b"\x01a\x02bc\x04defg\x01h")
    assert caught.value.messages == [b"a", b"bc"]
    assert caught.value.code == "frame-too-large"
    assert str(caught.value) == "frame of 4 bytes announced, the limit is 3 bytes"
    with pytest.raises(FrameError, match="4 bytes announced") as caught:
        splitter.feed(b"\x01h")
    assert caught.value.messages == []


def test_the_error_is_a_value_error_that_can_be_pickled() -> None:
    error = FrameError("too much", "frame-too-large", [b"a"])
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.code, again.messages) == ("too much", "frame-too-large", [b"a"])
    assert (FrameError("x").code, FrameError("x").messages) == ("bad-frame", [])


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_switch_in_mid_stream_loses_nothing(cut: int) -> None:
    """A line of text, then length prefixes: as a protocol with a greeting has it, wherever the stream is cut."""
    stream = b"HELLO\n\0\x03abc\0\x01d"
    splitter = splitter_of(Lines())
    lines = splitter.feed(stream[:cut], most=1) or splitter.feed(stream[cut:], most=1)
    assert lines == [b"HELLO"]
    splitter.switch(LengthPrefix(2)._native())
    rest = stream[cut:] if cut >= 6 else b""
    assert splitter.feed(rest) == [b"abc", b"d"]
    assert splitter.pending == 0


@pytest.mark.parametrize(
    ("framing", "begun"),
    [
        (LengthPrefix(4), b"\0\0"),
        (LengthPrefix(4), b"\0\0\0\x09hel"),
        (LengthPrefix(4, offset=30), bytes(33)),
        (LengthPrefix(2, offset=30, strip=32), bytes(31) + b"\x09" + b"hel"),
        (LengthPrefix(2, offset=30), bytes(31) + b"\x09" + b"hel"),
        (FixedLength(90), b"hel"),
        (Lines(), b"x" * 100),
        (Delimiter(b"END"), b"helEN"),
        (Varint(), b"\x80\x80"),
        (Varint(), b"\x80\x01hel"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("step", [1, 2, 1000])
def test_a_switch_gives_back_every_byte_of_a_begun_frame(framing: Framing, begun: bytes, step: int) -> None:
    splitter = splitter_of(framing)
    for start in range(0, len(begun), step):
        assert splitter.feed(begun[start : start + step]) == []
    assert splitter.pending == len(begun)
    splitter.switch(Raw()._native())
    assert splitter.pending == len(begun)
    assert splitter.feed(b"") == [begun]
    assert splitter.pending == 0


def test_what_native_does_not_know_is_refused() -> None:
    for wrong in [
        ("lines",),
        ("no such",),
        ("length", 5, "big", 1, 0, False, 0, 5),
        ("fixed", 0),
        ("delimiter", b"", 1, False),
    ]:
        with pytest.raises(ValueError, match=r"."):
            FrameSplitter(wrong)


def test_look_says_what_stands_at_the_front() -> None:
    native = LengthPrefix(2)._native()
    assert FrameSplitter.look(native, b"\0") == 2
    assert FrameSplitter.look(native, b"\0\x09a") == (2, 9, 0)
    assert FrameSplitter.look(Lines()._native(), b"abc\r\nd") == (0, 3, 2)
    with pytest.raises(FrameError):
        FrameSplitter.look(LengthPrefix(2, max_size=8)._native(), b"\0\x09a")
