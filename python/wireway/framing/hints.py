"""The common mistakes behind bytes that do not fit: another protocol, another byte order, another layout.

A hint is a guess, and says so by its question mark. Knows only the bytes at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from wireway._native import FrameSplitter
from wireway.framing.failure import FrameError
from wireway.framing.kinds import Framing
from wireway.framing.lengths import LengthPrefix, Varint
from wireway.framing.plain import Delimiter, Lines, Raw

__all__ = ["hint_for"]

_TRIED = 64 * 1024
"""Other layouts are tried on no more bytes than this."""

_TEXT: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    (
        "HTTP",
        (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"PRI ", b"HTTP/"),
    ),
    ("SSH", (b"SSH-",)),
    ("a PROXY header (v1)", (b"PROXY ",)),
)
_PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"


def hint_for(framing: Framing, data: bytes, rest: bytes, *, failed: bool) -> str | None:
    """What may be behind ``rest``, the end of ``data``, at which a frame should begin and none is whole."""
    return _foreign(framing, rest) or _line_end(framing, rest) or _layout(framing, data, rest, failed)


def _foreign(framing: Framing, data: bytes) -> str | None:
    """Another protocol, by its first bytes."""
    # The major version 3 and a record of a handshake: RFC 8446, section 5.1.
    if data[:2] == b"\x16\x03" and data[2:3] <= b"\x04" and data[5:6] in (b"", b"\x01"):
        return "the peer speaks TLS? 16 03 is how a ClientHello begins"
    if data.startswith(_PROXY_V2):
        return "the peer sends a PROXY header (v2)? The server's proxy_protocol is off"
    if isinstance(framing, Raw | Lines | Delimiter):
        return None
    for name, starts in _TEXT:
        for start in starts:
            if data.startswith(start):
                return f"the peer speaks {name}? {start.decode()!r} is how it begins"
    return None


def _line_end(framing: Framing, data: bytes) -> str | None:
    if isinstance(framing, Delimiter) and framing.delimiter == b"\r\n" and b"\n" in data:
        return r"the lines end with \n alone? Lines() takes both ends"
    return None


def _layout(framing: Framing, data: bytes, rest: bytes, failed: bool) -> str | None:
    """The other byte order, if its length makes sense, or another layout of the length that cuts all of the bytes."""
    if not isinstance(framing, LengthPrefix | Varint):
        return None
    if isinstance(framing, LengthPrefix) and failed and (text := _order(framing, rest)):
        return text
    if len(data) <= _TRIED:
        for other, text in _others(framing):
            if _cuts_all(other, data):
                return f"{text} would cut these bytes into whole frames: is that meant?"
    return None


def _order(framing: LengthPrefix, data: bytes) -> str | None:
    """The other byte order, if its length is one that is often seen."""
    swapped = _swapped(framing)
    length = int.from_bytes(data[framing.offset : framing.offset + framing.width], swapped.byteorder)
    try:
        FrameSplitter.look(swapped._native(), data)
    except FrameError:
        return None
    if framing.width == 1 or length > _TRIED:
        return None
    return f"in the other byte order the length field says {length:,}: is byteorder={swapped.byteorder!r} meant?"


def _others(framing: LengthPrefix | Varint) -> Iterator[tuple[Framing, str]]:
    """Layouts near this one, the likeliest first."""
    if isinstance(framing, Varint):
        yield LengthPrefix(4, max_size=framing.max_size), "LengthPrefix(4)"
        return
    if framing.width > 1:
        swapped = _swapped(framing)
        yield swapped, f"byteorder={swapped.byteorder!r}"
    including = not framing.includes_header
    yield replace(framing, includes_header=including), f"includes_header={including}"
    orders: tuple[Literal["big", "little"], ...] = ("big", "little")
    for width in (4, 2, 1, 8):
        for order in orders[: 1 if width == 1 else 2]:
            if width != framing.width:
                wanted = f"width={width}" if order == framing.byteorder else f"width={width}, byteorder={order!r}"
                yield replace(framing, width=width, byteorder=order), wanted
    if framing.offset == 0:
        yield Varint(max_size=framing.max_size), "Varint()"


def _swapped(framing: LengthPrefix) -> LengthPrefix:
    return replace(framing, byteorder="little" if framing.byteorder == "big" else "big")


def _cuts_all(framing: Framing, data: bytes) -> bool:
    """Whether all of it is whole frames, and not only empty ones: zeros would be that for nearly every layout."""
    splitter = FrameSplitter(framing._native())
    try:
        messages = splitter.feed(data)
    except FrameError:
        return False
    return splitter.pending == 0 and any(messages)
