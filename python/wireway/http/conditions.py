"""What a client asks for of a file: under which conditions, in which coding, which ranges (RFC 9110, 12 to 14).

Owns how these fields are read. What can not be read is as if it were not there, as the specification has it. Knows no
files: only a tag, a time and a size.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import pairwise

__all__ = ["Fields", "Span", "codings", "precondition", "ranges"]

Fields = Mapping[bytes, str]
"""Fields of a request by their lower-case names; several of one name are joined with commas."""
Span = tuple[int, int]
"""The first byte and the one after the last."""

_MOST = 32
"""Ranges in one request. More, or such as overlap, are a way to be sent much for little: the whole file is sent."""
_DIGITS = 19


def precondition(fields: Fields, etag: str, modified: int) -> int | None:
    """304 or 412 if the client's conditions say that the file is not to be sent (RFC 9110, 13.2.2).

    :param etag: a strong tag, with its quotes.
    :param modified: seconds since 1970.
    """
    if (wanted := fields.get(b"if-match")) is not None:
        if wanted.strip() != "*" and etag not in _tags(wanted):
            return 412
    elif (date := _date(fields.get(b"if-unmodified-since"))) is not None and modified > date:
        return 412
    if (known := fields.get(b"if-none-match")) is not None:
        if known.strip() == "*" or etag in [tag.removeprefix("W/") for tag in _tags(known)]:
            return 304
    elif (date := _date(fields.get(b"if-modified-since"))) is not None and modified <= date:
        return 304
    return None


def _tags(text: str) -> list[str]:
    return [tag.strip() for tag in text.split(",")]


def _date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def ranges(fields: Fields, etag: str, modified: int, size: int) -> list[Span] | None:
    """The ranges that are wanted, in their order; none of them in the file: an empty list. None: the whole file."""
    text = fields.get(b"range")
    if text is None:
        return None
    if (condition := fields.get(b"if-range")) is not None:
        said = condition.strip()
        # A date must be the very one that we told.
        if said != etag and (said.startswith(('"', "W/")) or _date(said) != modified):
            return None
    unit, equals, rest = text.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    spans: list[Span] = []
    parts = [part.strip() for part in rest.split(",") if part.strip()]
    if not parts or len(parts) > _MOST:
        return None
    for part in parts:
        first, dash, last = part.partition("-")
        if not dash or not (first or last) or not all(_is_number(word) or not word for word in (first, last)):
            return None
        if not first:
            start, end = max(size - int(last), 0), size
        else:
            start, end = int(first), min(int(last) + 1, size) if last else size
            if last and int(last) < start:
                return None
        if start < end:
            spans.append((start, end))
    ordered = sorted(spans)
    if any(after[0] < before[1] for before, after in pairwise(ordered)):
        return None
    return spans


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= _DIGITS


def codings(text: str | None, offered: Collection[str]) -> list[str]:
    """Those of the offered codings that a client takes and likes better than none, the best first.

    Equally liked, they come in the order of `offered`.
    """
    if text is None:
        return []
    liked: dict[str, float] = {}
    for word in text.lower().split(","):
        coding, _, parameters = word.strip().partition(";")
        quality = 1.0
        for parameter in parameters.split(";"):
            name, _, value = parameter.strip().partition("=")
            if name.strip() == "q":
                quality = _quality(value.strip())
        liked.setdefault(coding.strip().removeprefix("x-"), quality)
    everything = liked.get("*", 0.0)
    plain = liked.get("identity", 0.0)
    taken = [coding for coding in offered if (quality := liked.get(coding, everything)) > 0 and quality >= plain]
    return sorted(taken, key=lambda coding: -liked.get(coding, everything))


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
