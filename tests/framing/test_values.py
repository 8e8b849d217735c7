"""Framings are values: checked when they are made, frozen, comparable."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

import wireway
from support.naming import stable
from wireway import framing as framings
from wireway._native import FrameSplitter
from wireway.framing import (
    CustomFraming,
    Delimiter,
    FixedLength,
    Frame,
    Framing,
    LengthPrefix,
    Lines,
    Mbap,
    Need,
    Raw,
    Tpkt,
    Varint,
)

MIB = 1 << 20


def cut(data: bytes) -> Need | Frame:
    return Frame(1)


VALUES: list[Framing] = [
    Raw(),
    Lines(),
    Lines(keep=True),
    Delimiter(b"\n"),
    Delimiter(b"\r\n", keep=True, max_size=9),
    FixedLength(4),
    LengthPrefix(),
    LengthPrefix(2, byteorder="little", max_size=9),
    LengthPrefix(2, offset=3, includes_header=True, adjustment=-1, strip=5),
    Varint(),
    Varint(max_bytes=10),
    Tpkt(),
    Tpkt(max_size=3),
    Mbap(),
    CustomFraming(cut),
    CustomFraming(cut, wrap=bytes, max_size=9),
]


def test_the_defaults() -> None:
    prefix = LengthPrefix()
    assert (prefix.width, prefix.byteorder, prefix.max_size, prefix.strip) == (4, "big", 16 * MIB, None)
    assert (Lines().max_size, Delimiter(b"x").max_size) == (64 * 1024, 64 * 1024)
    assert (Varint().max_bytes, Varint().max_size) == (5, 16 * MIB)
    assert (Tpkt().max_size, Mbap().max_size) == (65531, 260)
    assert CustomFraming(cut).max_size == 16 * MIB


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("byteorder", ["big", "little"])
def test_what_is_allowed(width: int, byteorder: Any) -> None:
    framing = LengthPrefix(width, byteorder=byteorder, max_size=1)
    assert (framing.width, framing.byteorder, framing.max_size) == (width, byteorder, 1)


SIZES: list[tuple[type, dict[str, Any]]] = [
    (Lines, {}),
    (Delimiter, {"delimiter": b"x"}),
    (LengthPrefix, {}),
    (Varint, {}),
    (CustomFraming, {"cut": cut}),
]


@pytest.mark.parametrize(("kind", "options"), SIZES, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("wrong", [0, -1, 1.5, "1 MiB", True, None])
def test_a_size_is_at_least_a_byte(kind: type, options: dict[str, Any], wrong: Any) -> None:
    with pytest.raises(wireway.ConfigError) as caught:
        kind(**options, max_size=wrong)
    assert str(caught.value) == f"{kind.__name__}: max_size is {wrong!r}, it must be at least 1 byte"


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (LengthPrefix, {"width": 0}, "width is 0, allowed are 1, 2, 3, 4 and 8 bytes"),
        (LengthPrefix, {"width": 5}, "width is 5,"),
        (LengthPrefix, {"width": -4}, "width is -4,"),
        (LengthPrefix, {"width": "4"}, "width is '4',"),
        (LengthPrefix, {"width": None}, "width is None,"),
        (LengthPrefix, {"width": 4.0}, "width is 4.0,"),
        (LengthPrefix, {"width": True}, "width is True,"),
        (LengthPrefix, {"byteorder": "network"}, "byteorder is 'network', allowed are 'big' and 'little'"),
        (LengthPrefix, {"byteorder": None}, "byteorder is None,"),
        (LengthPrefix, {"offset": -1}, "offset is -1, it must be 0 to 65536 bytes"),
        (LengthPrefix, {"offset": 65537}, "offset is 65537,"),
        (LengthPrefix, {"includes_header": 1}, "includes_header is 1, allowed are True and False"),
        (LengthPrefix, {"adjustment": 65537}, "adjustment is 65537, it must be -65536 to 65536 bytes"),
        (LengthPrefix, {"strip": -1}, "strip is -1, it must be 0 to 65536 bytes"),
        (Lines, {"keep": 1}, "keep is 1, allowed are True and False"),
        (Delimiter, {"delimiter": b""}, "delimiter is b'', it must be 1 to 16 bytes"),
        (Delimiter, {"delimiter": bytes(17)}, "it must be 1 to 16 bytes"),
        (Delimiter, {"delimiter": "\n"}, r"delimiter is '\n', it must be 1 to 16 bytes"),
        (Delimiter, {"delimiter": b"x", "keep": None}, "keep is None,"),
        (FixedLength, {"size": 0}, "size is 0, it must be"),
        (FixedLength, {"size": 1 << 64}, "it must be 1 to"),
        (Varint, {"max_bytes": 4}, "max_bytes is 4, allowed are 5 (32 bits) and 10 (64 bits)"),
        (Tpkt, {"max_size": 2}, "max_size is 2, it must be 3 to 65531 bytes"),
        (Tpkt, {"max_size": 65532}, "max_size is 65532,"),
        (Mbap, {"max_size": 7}, "max_size is 7, it must be 8 to 65541 bytes"),
        (CustomFraming, {"cut": 5}, "cut is 5, it must be a function of the bytes at hand"),
        (CustomFraming, {"cut": cut, "wrap": b""}, "wrap is b'', it must be a function of a message, or None"),
    ],
    ids=stable,
)
def test_what_is_refused_is_named_with_its_value(kind: type, options: dict[str, Any], text: str) -> None:
    with pytest.raises(wireway.ConfigError) as caught:
        kind(**options)
    assert f"{kind.__name__}: {text}" in str(caught.value) or text in str(caught.value)
    assert str(caught.value).startswith(kind.__name__)


def test_what_is_stripped_unless_told() -> None:
    """The length field if it comes first; else nothing, so that a message can be sent again."""
    for prefix, strip in [
        (LengthPrefix(2), 2),
        (LengthPrefix(2, offset=3), 0),
        (LengthPrefix(2, offset=3, strip=5), 5),
        (LengthPrefix(2, strip=0), 0),
    ]:
        assert prefix._native()[-1] == strip


def test_only_the_first_option_may_be_given_by_its_place() -> None:
    for kind, places in [(LengthPrefix, (4, "big")), (Raw, (1,)), (Lines, (True,)), (Varint, (5,)), (Tpkt, (9,))]:
        with pytest.raises(TypeError):
            kind(*places)
    with pytest.raises(TypeError):
        Delimiter(b"x", True)  # type: ignore[call-arg,misc]


@pytest.mark.parametrize("framing", VALUES, ids=stable)
def test_a_framing_is_a_value(framing: Framing) -> None:
    assert copy.copy(framing) == framing
    assert pickle.loads(pickle.dumps(framing)) == framing
    assert len({framing, copy.copy(framing)}) == 1
    assert [framing == other for other in VALUES].count(True) == 1
    if not isinstance(framing, CustomFraming):
        assert eval(repr(framing), vars(framings)) == framing


@pytest.mark.parametrize("framing", VALUES, ids=stable)
def test_a_framing_does_not_change(framing: Framing) -> None:
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        framing.width = 8  # type: ignore[misc,union-attr]


@pytest.mark.parametrize("framing", VALUES, ids=stable)
def test_the_native_half_knows_it(framing: Framing) -> None:
    assert isinstance(framing, Framing)
    assert FrameSplitter(framing._native()).pending == 0


def test_a_largest_message_beyond_what_can_be_is_allowed() -> None:
    """The width limits it then: nothing is lost by a generous limit."""
    generous: list[Framing] = [LengthPrefix(1, max_size=1 << 70), Lines(max_size=1 << 70), Varint(max_size=1 << 70)]
    for framing in generous:
        splitter = FrameSplitter(framing._native())
        assert splitter.feed(splitter.encode(b"abc")) == [b"abc"]


@pytest.mark.parametrize("wrong", ["lines", 4, LengthPrefix, b"\n"], ids=stable)
def test_a_server_refuses_what_is_no_framing(wrong: Any) -> None:
    with pytest.raises(wireway.ConfigError, match="framing is "):
        wireway.Server("tcp://127.0.0.1:0", framing=wrong)
