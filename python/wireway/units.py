"""Durations and sizes, as people write them: `30s`, `500ms`, `64KiB`. And the types that say which an option is.

Owns the words for units. Knows no option.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from wireway.errors import ConfigError

__all__ = ["Bytes", "BytesAtOnce", "BytesPerSecond", "PerSecond", "Seconds", "Unit", "WholeSeconds", "duration", "size"]

_SECONDS = {
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_BYTES = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Zµμ]+)\s*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_HOW_LONG = "write a number of seconds, or 500ms, 30s, 2m, 1h30m, 1d"
_HOW_MUCH = "write a number of bytes, or 500B, 64KiB, 4MiB, 1GiB (of 1024), or 64kB, 4MB, 1GB (of 1000)"


def duration(text: str) -> float:
    """Seconds of ``30s``, ``500ms``, ``2m``, ``1h30m``, ``1.5``.

    :raises ConfigError: it is no time.
    """
    said = text.strip()
    if _NUMBER.fullmatch(said):
        return float(said)
    parts = _PART.findall(said)
    if not parts or _PART.sub("", said) or any(unit.lower() not in _SECONDS for _, unit in parts):
        raise ConfigError(f"{text!r} is no time: {_HOW_LONG}")
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts)


def size(text: str) -> int:
    """Bytes of ``64KiB``, ``4 MiB``, ``1GB``, ``512``.

    :raises ConfigError: it is no size, or no whole number of bytes.
    """
    said = text.strip()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", said)
    if found is None or (found[2] and found[2].lower() not in _BYTES):
        raise ConfigError(f"{text!r} is no size: {_HOW_MUCH}")
    each = _BYTES[found[2].lower() or "b"]
    value = float(found[1]) * each if "." in found[1] else int(found[1]) * each
    if value != int(value):
        raise ConfigError(f"{text!r} is no whole number of bytes: {_HOW_MUCH}")
    return int(value)


@dataclass(frozen=True, slots=True)
class Unit:
    """What a number of an option counts."""

    name: str
    """For people: ``seconds``, ``bytes``, ``a second``."""
    read: Callable[[str], float] | None = None
    """From what a person writes instead of a number; None: numbers only."""
    pattern: str | None = None
    """What such a text looks like, for editors: a regular expression of JSON Schema."""


_TIME = r"^\s*(\d+(\.\d+)?\s*(us|µs|ms|s|m|min|h|d)\s*)+$|^\s*\d+(\.\d+)?\s*$"
_SIZE = r"^\s*\d+(\.\d+)?\s*(([kKmMgGtT][iI]?)?[bB])?\s*$"

Seconds = Annotated[float, Unit("seconds", duration, _TIME)]
"""A duration: a number of seconds; in files also `30s`."""
WholeSeconds = Annotated[int, Unit("whole seconds", duration, _TIME)]
"""A duration of which the kernel takes whole seconds only."""
Bytes = Annotated[int, Unit("bytes", size, _SIZE)]
"""A size: a number of bytes; in files also `64KiB`."""
BytesAtOnce = Annotated[float, Unit("bytes", size, _SIZE)]
"""A size that need not be whole."""
BytesPerSecond = Annotated[float, Unit("bytes a second", size, _SIZE)]
"""A rate in bytes; in files also `1MiB`."""
PerSecond = Annotated[float, Unit("a second")]
"""A rate."""


def duration_text(seconds: float) -> str:
    """The shortest text of a duration that `duration` reads as the same number: ``1.5s``, ``2m``."""
    for unit, each in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= each and seconds % each == 0:
            return f"{seconds // each:.0f}{unit}"
    if 0 < seconds < 1 and (seconds * 1000).is_integer():
        return f"{seconds * 1000:.0f}ms"
    return f"{repr(float(seconds)).removesuffix('.0')}s" if "e" not in repr(float(seconds)) else f"{seconds:f}s"


def size_text(count: float) -> str:
    """The text of a size that `size` reads as the same number: ``64KiB``, ``1000B``."""
    for unit, each in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= each and count % each == 0:
            return f"{count // each:.0f}{unit}"
    return f"{count:.0f}B"
