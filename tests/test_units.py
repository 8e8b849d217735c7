"""Durations and sizes as people write them."""

from __future__ import annotations

import re

import pytest

import wireway
from wireway.units import _SIZE, _TIME, duration, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("500ms", 0.5), ("2m", 120), ("1h30m", 5400), (" 1.5 s ", 1.5), ("250us", 0.00025), ("10", 10)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)
    assert re.search(_TIME, text)


@pytest.mark.parametrize("text", ["", "s", "10 sec", "64KiB", "1m x", "-1s", "1,5s", "m30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(wireway.ConfigError, match=r"is no time: write .*500ms"):
        duration(text)
    assert not re.search(_TIME, text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("512", 512), ("64KiB", 65536), ("4 MiB", 1 << 22), ("1.5KiB", 1536), ("64kB", 64000), ("1gb", 10**9), ("7B", 7)],
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count
    assert re.search(_SIZE, text)


@pytest.mark.parametrize("text", ["", "64K", "10s", "1 foo", "-1", "KiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(wireway.ConfigError, match=r"is no size: write .*64KiB \(of 1024\)|64KiB"):
        size(text)
    assert not re.search(_SIZE, text)


def test_half_a_byte() -> None:
    with pytest.raises(wireway.ConfigError, match="whole number of bytes"):
        size("0.3B")
