"""Framings are values: checked when they are made, frozen, comparable. What they do to a stream: tests/net."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

import wireway
from wireway import LengthPrefix, Raw

VALUES = [Raw(), LengthPrefix(), LengthPrefix(2, byteorder="little", max_size=9)]


def test_the_defaults() -> None:
    framing = LengthPrefix()
    assert (framing.width, framing.byteorder, framing.max_size) == (4, "big", 16 * 1024 * 1024)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("byteorder", ["big", "little"])
def test_what_is_allowed(width: int, byteorder: Any) -> None:
    framing = LengthPrefix(width, byteorder=byteorder, max_size=1)
    assert (framing.width, framing.byteorder, framing.max_size) == (width, byteorder, 1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"width": 0}, "width is 0, allowed are 1, 2, 3, 4 and 8 bytes"),
        ({"width": 5}, "width is 5,"),
        ({"width": -4}, "width is -4,"),
        ({"width": "4"}, "width is '4',"),
        ({"width": None}, "width is None,"),
        ({"width": 4.0}, "width is 4.0,"),
        ({"width": True}, "width is True,"),
        ({"byteorder": "network"}, "byteorder is 'network', allowed are 'big' and 'little'"),
        ({"byteorder": None}, "byteorder is None,"),
        ({"max_size": 0}, "max_size is 0, it must be at least 1 byte"),
        ({"max_size": -1}, "max_size is -1,"),
        ({"max_size": 1.5}, "max_size is 1.5,"),
        ({"max_size": "1 MiB"}, "max_size is '1 MiB',"),
        ({"max_size": True}, "max_size is True,"),
    ],
    ids=str,
)
def test_what_is_refused_is_named_with_its_value(options: dict[str, Any], text: str) -> None:
    with pytest.raises(wireway.ConfigError) as caught:
        LengthPrefix(**options)
    assert f"LengthPrefix: {text}" in str(caught.value)


def test_only_the_width_may_be_given_by_its_place() -> None:
    with pytest.raises(TypeError):
        LengthPrefix(4, "big")  # type: ignore[misc]
    with pytest.raises(TypeError):
        Raw(1)  # type: ignore[call-arg]


@pytest.mark.parametrize("framing", VALUES, ids=repr)
def test_a_framing_is_a_value(framing: wireway.Framing) -> None:
    assert copy.copy(framing) == framing
    assert pickle.loads(pickle.dumps(framing)) == framing
    assert len({framing, copy.copy(framing)}) == 1
    assert eval(repr(framing), {"Raw": Raw, "LengthPrefix": LengthPrefix}) == framing
    assert [framing == other for other in VALUES].count(True) == 1


@pytest.mark.parametrize("framing", VALUES, ids=repr)
def test_a_framing_does_not_change(framing: wireway.Framing) -> None:
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        framing.width = 8  # type: ignore[misc,union-attr]


def test_a_largest_message_beyond_what_the_width_can_say_is_allowed() -> None:
    """The width limits it then: nothing is lost by a generous limit."""
    assert LengthPrefix(1, max_size=1 << 40).max_size == 1 << 40


@pytest.mark.parametrize("wrong", ["lines", 4, LengthPrefix, b"\n"], ids=repr)
def test_a_server_refuses_what_is_no_framing(wrong: Any) -> None:
    with pytest.raises(wireway.ConfigError, match=r"must be wireway.Raw\(\) or wireway.LengthPrefix"):
        wireway.Server("tcp://127.0.0.1:0", framing=wrong)
