"""How each receive was cut, in words."""

from __future__ import annotations

from contextlib import suppress

import pytest

import wireway
from wireway.cli.talking.cutting import Cutter
from wireway.framing import FrameError


def told(framing: wireway.Framing, *receives: bytes) -> list[str]:
    cutter = Cutter(framing)
    cutter.explains = True
    said: list[str] = []
    for data in receives:
        with suppress(FrameError):
            cutter.feed(data)
        said += cutter.explained()
    return said


def test_sticky_and_half_packets() -> None:
    said = told(wireway.LengthPrefix(2), b"\0\1a\0\2bc\0\3d", b"ef", b"\0\1g")
    assert said == [
        "receive 1: 10 bytes, 0 to 10: 2 whole frames and a frame that is cut off",
        "  at 0: header 00 01, the length field says 1, message of 1 byte: 61  |a|",
        "  at 3: header 00 02, the length field says 2, message of 2 bytes: 62 63  |bc|",
        "  at 7: 3 bytes of a frame: header 00 03, the length field says 3, needs 2 more bytes of the body of 3",
        "receive 2: 2 bytes, 10 to 12: 1 whole frame, which came in 2 receives",
        "  at 7: header 00 03, the length field says 3, message of 3 bytes: 64 65 66  |def|",
        "receive 3: 3 bytes, 12 to 15: 1 whole frame",
        "  at 12: header 00 01, the length field says 1, message of 1 byte: 67  |g|",
    ]


def test_one_byte_at_a_time() -> None:
    said = told(wireway.Lines(), b"a", b"b", b"\nc")
    assert said[0].endswith(": a frame that is cut off")
    assert said[2].endswith(": more of a frame that is cut off")
    assert "1 whole frame, which came in 3 receives and a frame that is cut off" in said[4]


def test_what_is_no_frame() -> None:
    said = told(wireway.LengthPrefix(4, max_size=9), b"\0\0\0\1a", b"\0\0\0\x0a")
    assert said[2] == "receive 2: 4 bytes, 5 to 9: what is no frame"
    assert said[3].startswith("  at 5: 4 bytes of a frame: header 00 00 00 0a, the length field says 10, error: ")
    assert "the limit is 9 bytes" in said[3]


def test_large_frames_are_counted_right() -> None:
    size = 1_000_000
    said = told(wireway.LengthPrefix(4), size.to_bytes(4) + bytes(100_000), bytes(size - 100_000) + b"\0\0")
    assert said[1] == "  at 0: 100,004 bytes of a frame: needs 900,000 more bytes"
    assert said[2] == (
        "receive 2: 900,002 bytes, 100,004 to 1,000,006: "
        "1 whole frame, which came in 2 receives and a frame that is cut off"
    )
    assert said[-1] == "  at 1,000,004: 2 bytes of a frame: header 00 00, needs 2 more bytes of the header of 4"


def test_many_frames_are_not_all_told() -> None:
    said = told(wireway.LengthPrefix(1), b"\1a" * 50)
    assert len(said) == 22
    assert said[-1] == "  … and 30 more"


def test_raw_and_another_framing_in_mid_stream() -> None:
    assert told(wireway.Raw(), b"ab") == ["receive 1: 2 bytes, 0 to 2: 61 62 |ab|"]
    cutter = Cutter(wireway.LengthPrefix(4))
    cutter.feed(b"\0\1a\0")  # unexplained, and counted all the same
    cutter.explains = True
    cutter.switch(wireway.LengthPrefix(2))
    assert cutter.explained() == [
        "receive 2: 4 bytes, 0 to 4: 1 whole frame and a frame that is cut off",
        "  at 0: header 00 01, the length field says 1, message of 1 byte: 61  |a|",
        "  at 3: 1 byte of a frame: header 00, needs 1 more byte of the header of 2",
    ]
    assert cutter.explained() == []


def test_what_is_lost_is_handed_out_and_can_be_cut_again() -> None:
    cutter = Cutter(wireway.Tpkt())
    with pytest.raises(FrameError):
        cutter.feed(b"\0\1a")
    assert cutter.lost
    assert cutter.refused().startswith("what came is no frame: at 0: header 00 01 61, ")
    assert cutter.feed(b"\0\1b") == [b"\0\1b"]
    assert cutter.waiting == 0
    assert cutter.switch(wireway.LengthPrefix(2)) == [b"a", b"b"]
    assert not cutter.lost
