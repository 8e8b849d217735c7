"""`explain`: the text for people, what is missing of a frame, and the mistakes that are recognised."""

from __future__ import annotations

from typing import Any

import pytest

import wireway
from support.naming import stable
from wireway.framing import (
    CustomFraming,
    Delimiter,
    FixedLength,
    Frame,
    FrameError,
    Framing,
    LengthPrefix,
    Lines,
    Mbap,
    Need,
    Raw,
    Tpkt,
    Varint,
    explain,
)


def test_the_whole_text() -> None:
    text = """\
LengthPrefix(4), 20 bytes:
  at 0: header 00 00 00 05, the length field says 5, message of 5 bytes: 68 65 6c 6c 6f  |hello|
  at 9: header 00 00 00 0a, the length field says 10, needs 3 more bytes of the body of 10
  left over: 11 bytes: 00 00 00 0a 61 62 63 64 65 66 67  |....abcdefg|"""
    assert str(explain(LengthPrefix(4), b"\0\0\0\5hello\0\0\0\x0aabcdefg")) == text


def test_the_whole_text_of_a_mistake() -> None:
    text = """\
LengthPrefix(4), 18 bytes:
  at 0: header 47 45 54 20, the length field says 1,195,725,856, error: frame of 1195725856 bytes announced, \
the limit is 16777216 bytes
  left over: 18 bytes: 47 45 54 20 2f 20 48 54 54 50 2f 31 2e 31 0d 0a …  |GET / HTTP/1.1..|
  hint: the peer speaks HTTP? 'GET ' is how it begins"""
    assert str(explain(LengthPrefix(4), b"GET / HTTP/1.1\r\n\r\n")) == text


def test_the_values_behind_the_text() -> None:
    explained = explain(Tpkt(), bytearray(b"\3\0\0\x08abcd\3\0\0\x09ab"))
    assert [(frame.offset, frame.header, frame.length, frame.message, frame.size) for frame in explained.frames] == [
        (0, b"\3\0\0\x08", 8, b"abcd", 8)
    ]
    assert (explained.size, explained.rest, explained.missing) == (14, b"\3\0\0\x09ab", 3)
    assert (explained.problem, explained.failed, explained.hint) == ("needs 3 more bytes of the body of 5", False, None)
    whole = explain(Tpkt(), b"\3\0\0\x08abcd")
    assert (whole.rest, whole.missing, whole.problem) == (b"", 0, None)
    assert str(whole).endswith("\n  nothing is left over")


def cut(data: bytes) -> Need | Frame:
    if data[:1] != b"#":
        raise FrameError("a frame begins with #")
    return Need(3 - len(data)) if len(data) < 3 else Frame(5, strip=1)


@pytest.mark.parametrize(
    ("framing", "data", "text"),
    [
        (Raw(), b"ab", "at 0: message of 2 bytes: 61 62  |ab|\n"),
        (Lines(), b"a\r\nb", "at 0: message of 1 byte: 61  |a|\n"),
        (
            Lines(),
            b"a\r\n\nb",
            "at 3: message of 0 bytes\n  at 4: no end of line in 1 byte, at most 65,536 are allowed",
        ),
        (Lines(max_size=2), b"abcde", "at 0: error: no delimiter within 2 bytes, the limit of a message"),
        (Delimiter(b"END"), b"abEN", "Delimiter(b'END'), 4 bytes:\n  at 0: no b'END' in 4 bytes"),
        (FixedLength(4), b"abcdef", "at 4: needs 2 more bytes of the body of 4"),
        (LengthPrefix(4), b"\0\0", "at 0: header 00 00, needs 2 more bytes of the header of 4"),
        (
            LengthPrefix(2, offset=2),
            b"\xca\xfe\0\1a",
            "header ca fe 00 01, the length field says 1, message of 5 bytes",
        ),
        (LengthPrefix(2, offset=2, strip=9), b"\xca\xfe\0\x09abc", "needs 2 more bytes of the header of 9"),
        (LengthPrefix(1, max_size=9), b"\x0a", "error: frame of 10 bytes announced, the limit is 9 bytes"),
        (LengthPrefix(1, max_size=9), b"\x03", "LengthPrefix(1, max_size=9), 1 byte:"),
        (Varint(), b"\x80\x01", "header 80 01, the length field says 128, needs 128 more bytes of the body of 128"),
        (Varint(), b"\x80", "header 80, needs at least 1 more byte of the length"),
        (Varint(), b"\xff" * 5, "error: the varint of the length has more than 32 bits"),
        (Tpkt(), b"\3\0", "header 03 00, needs 2 more bytes of the header of 4"),
        (Tpkt(), b"\4", "header 04, error: TPKT version 4, only version 3 exists (RFC 1006)"),
        (Mbap(), b"\0\1\0\0\0", "header 00 01 00 00 00, needs 1 more byte of the header, up to its length"),
        (Mbap(), b"\0\1\0\0\0\6\x11\3", "header 00 01 00 00 00 06 11, the length field says 6, needs 4 more bytes"),
        (CustomFraming(cut), b"#", "CustomFraming(cut), 1 byte:\n  at 0: the cut function needs 2 more bytes"),
        (CustomFraming(cut), b"#abcd#ab", "at 0: header 23, message of 4 bytes: 61 62 63 64  |abcd|\n  at 5: needs 2"),
        (CustomFraming(cut), b"!", "at 0: error: a frame begins with #"),
    ],
    ids=stable,
)
def test_what_is_said(framing: Framing, data: bytes, text: str) -> None:
    assert text in str(explain(framing, data))


@pytest.mark.parametrize(
    ("framing", "data", "hint"),
    [
        (LengthPrefix(4), b"POST /x HTTP/1.1", "the peer speaks HTTP? 'POST ' is how it begins"),
        (LengthPrefix(2), b"HTTP/1.1 200 OK", "the peer speaks HTTP?"),
        (LengthPrefix(4), b"SSH-2.0-OpenSSH_9.9\r\n", "the peer speaks SSH?"),
        (LengthPrefix(4), b"PROXY TCP4 192.0.2.1", "the peer speaks a PROXY header (v1)?"),
        (LengthPrefix(4), b"\r\n\r\n\0\r\nQUIT\n\x21\x11", "the peer sends a PROXY header (v2)?"),
        (LengthPrefix(4), bytes.fromhex("1603010200010001fc0303"), "the peer speaks TLS? 16 03 is how"),
        (Lines(), bytes.fromhex("1603010200010001fc0303"), "the peer speaks TLS?"),
        (Tpkt(), b"GET / HTTP/1.1\r\n", "the peer speaks HTTP?"),
        (LengthPrefix(4), b"\5\0\0\0hello", "in the other byte order the length field says 5: is byteorder='little'"),
        (LengthPrefix(4), b"\5\0\0\0hel", "in the other byte order the length field says 5: is byteorder='little'"),
        (LengthPrefix(4, byteorder="little"), b"\0\0\0\5hello", "is byteorder='big' meant?"),
        (LengthPrefix(2), b"\5\0hello\1\0a", "byteorder='little' would cut these bytes into whole frames"),
        (LengthPrefix(4), b"\0\0\0\x09hello\0\0\0\x05a", "includes_header=True would cut these bytes"),
        (LengthPrefix(2), b"\0\5hello\0\x09worlds", None),
        (LengthPrefix(4), b"\0\5hello\0\6worlds", "width=2 would cut these bytes"),
        (LengthPrefix(4), b"\5hello\6worlds", "width=1 would cut these bytes"),
        (Varint(), b"\0\0\0\5hello\0\0\0\2yo", None),
        (Varint(), b"\x09\0\0\0", None),
        (Delimiter(b"\r\n"), b"one\ntwo\n", r"the lines end with \n alone? Lines() takes both ends"),
        (Lines(), b"GET / HTTP/1.1", None),
        (LengthPrefix(4), b"\0\0\0\x09hel", None),
        (LengthPrefix(1), bytes([9]) + b"hel", None),
    ],
    ids=stable,
)
def test_common_mistakes_are_recognised(framing: Framing, data: bytes, hint: str | None) -> None:
    explained = explain(framing, data)
    if hint is None:
        assert explained.hint is None
    else:
        assert hint in (explained.hint or "")
        assert str(explained).endswith(f"\n  hint: {explained.hint}")


def test_a_long_stream_is_shown_in_part() -> None:
    explained = explain(LengthPrefix(1), b"\1a" * 1000)
    assert len(explained.frames) == 1000
    assert str(explained).count("\n") == 52
    assert "… and 950 more whole frames" in str(explained)


@pytest.mark.parametrize("wrong", ["lines", 4, LengthPrefix, None], ids=stable)
def test_what_is_no_framing_is_refused(wrong: Any) -> None:
    with pytest.raises(wireway.ConfigError, match="explain: framing is"):
        explain(wrong, b"")
