"""Each framing, with the messages that it can carry, for the property tests."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st

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
)

__all__ = ["CASES", "EXAMPLES", "LIMIT", "cut_stars", "ids", "wrap_stars"]

LIMIT = 300
"""The `max_size` of all of them, in bytes, unless the protocol has its own."""

EXAMPLES = settings(derandomize=True, database=None, deadline=None, max_examples=80)


def cut_stars(data: bytes) -> Need | Frame:
    """A framing of the tests' own: as many `*` as the message has bytes, a `:`, the message."""
    end = data.find(b":")
    if (after := data.lstrip(b"*")[:1]) not in (b"", b":"):
        raise FrameError(f"{after!r} is no star")
    return Need(1) if end < 0 else Frame(2 * end + 1, strip=end + 1)


def wrap_stars(message: bytes) -> bytes:
    if 2 * len(message) + 1 > LIMIT:
        raise FrameError("too many stars")
    return b"*" * len(message) + b":" + message


def bringing(before: bytes, width: int, more: int = 0) -> Callable[[bytes], bytes]:
    """Make a whole frame of a body: the message of a framing that strips nothing."""
    return lambda body: before + (len(body) + more).to_bytes(width) + body


def adu(body: bytes) -> bytes:
    return bringing(b"\x12\x34\0\0", 2)(b"\x01\x03" + body)


anything = st.binary(max_size=LIMIT)
# Bytes that stand in delimiters come often, so that nearly-delimiters do.
texts = st.lists(st.sampled_from([b"\r", b"\n", b"\0", b"a", b"END", b"EN"]), max_size=30).map(b"".join)


def free_of(delimiter: bytes) -> st.SearchStrategy[bytes]:
    """Messages that a delimiter may follow."""
    return (texts | anything).filter(lambda text: (text + delimiter).find(delimiter) == len(text) <= LIMIT)


CASES: list[tuple[Framing, st.SearchStrategy[bytes]]] = [
    (Lines(max_size=LIMIT), free_of(b"\n").filter(lambda line: not line.endswith(b"\r"))),
    (Lines(keep=True, max_size=LIMIT), free_of(b"\n").map(lambda line: line + b"\n")),
    *(
        (Delimiter(delimiter, max_size=LIMIT), free_of(delimiter))
        for delimiter in (b"\0", b"\r\n", b"END", b"\n\n", bytes(16))
    ),
    (Delimiter(b"\r\n", keep=True, max_size=LIMIT), free_of(b"\r\n").map(lambda text: text + b"\r\n")),
    (FixedLength(7), st.binary(min_size=7, max_size=7)),
    *((LengthPrefix(width, max_size=LIMIT), st.binary(max_size=min(LIMIT, 255))) for width in (1, 2, 3, 4, 8)),
    (LengthPrefix(2, byteorder="little", max_size=LIMIT), anything),
    (LengthPrefix(4, includes_header=True, max_size=LIMIT), anything),
    (LengthPrefix(2, adjustment=1, max_size=LIMIT), st.binary(min_size=1, max_size=LIMIT)),
    (LengthPrefix(2, strip=0, max_size=LIMIT), st.binary(max_size=LIMIT - 2).map(bringing(b"", 2))),
    (LengthPrefix(2, offset=1, max_size=LIMIT), st.binary(max_size=LIMIT - 3).map(bringing(b"\xca", 2))),
    (
        LengthPrefix(4, offset=30, includes_header=True, max_size=LIMIT),
        st.binary(max_size=LIMIT - 34).map(bringing(bytes(30), 4, 34)),
    ),
    (Varint(max_size=LIMIT), anything),
    (Varint(max_bytes=10, max_size=LIMIT), anything),
    (Tpkt(max_size=LIMIT), st.binary(min_size=3, max_size=LIMIT)),
    (Mbap(), st.binary(max_size=252).map(adu)),
    (CustomFraming(cut_stars, wrap=wrap_stars, max_size=LIMIT), st.binary(max_size=(LIMIT - 1) // 2)),
]


def ids(value: object) -> str | None:
    """A framing's name in the list of tests."""
    return repr(value) if isinstance(value, Framing) and not isinstance(value, Raw | CustomFraming) else None
