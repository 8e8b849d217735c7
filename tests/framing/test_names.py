"""The names of framings, as options have them."""

from __future__ import annotations

from dataclasses import MISSING, fields

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
    "length:4:le:offset=2:whole:adjust=-4:strip=0:max=100": wireway.LengthPrefix(
        4, byteorder="little", offset=2, includes_header=True, adjustment=-4, strip=0, max_size=100
    ),
    "varint:10": wireway.Varint(max_bytes=10),
    "lines:keep:max=80": wireway.Lines(keep=True, max_size=80),
    "delimiter:454e44:keep": wireway.Delimiter(b"END", keep=True),
    "tpkt:max=9": wireway.Tpkt(max_size=9),
    "mbap:max=300": wireway.Mbap(max_size=300),
}


@pytest.mark.parametrize(("name", "framing"), NAMED.items())
def test_each_name_is_its_framing(name: str, framing: wireway.Framing) -> None:
    assert framing_of(name) == framing
    assert framing_name(framing) == name
    assert framing_of(name.upper()) == framing


def test_shorter_and_longer_names() -> None:
    assert framing_of("length") == framing_of("length:4:be") == wireway.LengthPrefix(4)
    assert framing_of("length:le") == wireway.LengthPrefix(4, byteorder="little")
    assert framing_of("delimiter:0x00") == wireway.Delimiter(b"\0")
    assert framing_of(r"delimiter:\r\n") == wireway.Delimiter(b"\r\n")
    assert framing_of(r"delimiter:text=End\x3a") == wireway.Delimiter(b"End:")


def test_every_parameter_of_a_framing_has_a_word() -> None:
    """A parameter that is added to a class must be named here too."""
    plain = {"length:2:le:offset=1:whole:adjust=1:strip=1:max=9", "varint:10:max=9", "lines:keep:max=9"}
    for name in plain | {"fixed:9", "delimiter:00:keep:max=9", "tpkt:max=9", "mbap:max=9"}:
        found = framing_of(name)
        for item in fields(found):
            if item.default is not MISSING:
                assert getattr(found, item.name) != item.default, item


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
        ("length:4:me", "'me' is not known there: known are be, big, le, little, offset="),
        ("fixed", "its size is missing: write fixed:64"),
        ("fixed:0", "size"),
        ("delimiter:xy", "not hex"),
        ("delimiter:", "1 to 16 bytes"),
        (r"delimiter:\q", "is no escape"),
        ("raw:1", "nothing more is taken"),
        ("lines:4", "known are keep, max="),
        ("length:le:be", "byteorder stands there twice"),
        ("length:4:offset=x", "no number"),
        ("length:4:max=0", "max_size"),
        ("", "write one of raw"),
    ],
)
def test_a_wrong_name_says_what_to_write(name: str, said: str) -> None:
    with pytest.raises(wireway.ConfigError, match=said):
        framing_of(name)
