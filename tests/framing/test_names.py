"""The names of framings, as options have them."""

from __future__ import annotations

import pytest

import wireway
from wireway.framing.names import framing_name, framing_of

NAMED = {
    "raw": wireway.Raw(),
    "lines": wireway.Lines(),
    "length:4": wireway.LengthPrefix(4),
    "length:2:le": wireway.LengthPrefix(2, byteorder="little"),
    "varint": wireway.Varint(),
    "fixed:64": wireway.FixedLength(64),
    "tpkt": wireway.Tpkt(),
    "mbap": wireway.Mbap(),
    "delimiter:0d0a": wireway.Delimiter(b"\r\n"),
}


@pytest.mark.parametrize(("name", "framing"), NAMED.items())
def test_each_name_is_its_framing(name: str, framing: wireway.Framing) -> None:
    assert framing_of(name) == framing
    assert framing_name(framing) == name
    assert framing_of(name.upper()) == framing


def test_shorter_and_longer_names() -> None:
    assert framing_of("length") == framing_of("length:4:be") == wireway.LengthPrefix(4)
    assert framing_of("delimiter:0x00") == wireway.Delimiter(b"\0")


def test_the_largest_message() -> None:
    assert framing_of("lines", 99) == wireway.Lines(max_size=99)
    assert framing_of("tpkt", 99) == wireway.Tpkt(max_size=99)
    with pytest.raises(wireway.ConfigError, match="no largest message"):
        framing_of("fixed:4", 99)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("line", "did you mean lines"),
        ("length:four", "no number"),
        ("length:5", "allowed are 1, 2, 3, 4 and 8"),
        ("length:4:me", "write one of raw"),
        ("fixed", "write one of raw"),
        ("fixed:0", "size"),
        ("delimiter:xy", "not hex"),
        ("delimiter:", "1 to 16 bytes"),
        ("", "write one of raw"),
    ],
)
def test_a_wrong_name_says_what_to_write(name: str, said: str) -> None:
    with pytest.raises(wireway.ConfigError, match=said):
        framing_of(name)
