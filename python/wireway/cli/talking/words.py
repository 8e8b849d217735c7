r"""What a person writes and reads: typed text with escapes to bytes, bytes to text or hex.

Owns that nothing which a peer sends can steer the terminal. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from wireway.errors import ConfigError
from wireway.framing.escapes import unescape

__all__ = ["ENDS", "Eol", "Input", "View", "as_hex", "as_text", "brief", "decode", "hex_lines", "shown", "unescape"]

_ROW = 16
_MOST = 4096


class Input(StrEnum):
    """How what is typed, or stands in stdin, becomes bytes."""

    BYTES = "bytes"
    """As it is, without regard to lines."""
    TEXT = "text"
    """Each line is a message as it stands."""
    ESCAPED = "escaped"
    r"""Each line is a message; ``\n``, ``\x00`` and their like are bytes."""
    HEX = "hex"
    """Each line is a message in hex; spaces do not count."""


class Eol(StrEnum):
    """What follows each line that is sent without framing."""

    NONE = "none"
    LF = "lf"
    CRLF = "crlf"


ENDS = {Eol.NONE: b"", Eol.LF: b"\n", Eol.CRLF: b"\r\n"}


class View(StrEnum):
    """How what came is shown."""

    TEXT = "text"
    """Text; what can not be printed as an escape."""
    HEX = "hex"
    """Offset, hex and text, as of `hexdump -C`."""
    BYTES = "bytes"
    """As it came; a message of a framing with the end of a line after it."""


def decode(line: str, how: Input) -> bytes:
    """One typed line as the bytes of a message.

    :raises ConfigError: it can not be read that way.
    """
    match how:
        case Input.ESCAPED:
            return unescape(line)
        case Input.HEX:
            try:
                return bytes.fromhex(line.replace("0x", " ").replace(":", " "))
            except ValueError:
                raise ConfigError(f"{line!r} is not hex: write pairs of digits, such as 00 ff 0a") from None
        case _:
            return line.encode("utf-8", "surrogateescape")


def as_text(data: bytes) -> str:
    r"""Printable text: what is no UTF-8 as ``\xHH``, control characters as escapes. Nothing else."""
    names = {10: r"\n", 13: r"\r", 9: r"\t", 0: r"\0"}
    text = data.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    parts = []
    for char in text:
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif char == "\\":
            parts.append("\\\\")
        elif char.isprintable():
            parts.append(char)
        else:
            parts.append(names.get(code) or (f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"))
    return "".join(parts)


def as_hex(data: bytes) -> Iterator[str]:
    """Rows of 16 bytes: offset, hex, text."""
    for offset in range(0, len(data), _ROW):
        row = data[offset : offset + _ROW]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        left, right = row[:8].hex(" "), row[8:].hex(" ")
        yield f"{offset:08x}  {left:<23}  {right:<23}  |{text}|"


def brief(data: bytes) -> str:
    """The first bytes, as hex and as text."""
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data[:_ROW])
    dots = " …" if len(data) > _ROW else ""
    return f"{data[:_ROW].hex(' ')}{dots} |{text}|"


def hex_lines(data: bytes) -> list[str]:
    """The rows of a message; one that says so where it is empty."""
    return list(as_hex(data)) or ["(0 bytes)"]


def shown(data: bytes, view: View, *, lines: bool, most: int = _MOST) -> list[str]:
    """What a message looks like, in lines for a terminal or a log.

    :param lines: an end of line within `data` is one; else it is shown as an escape.
    :param most: bytes that are shown; what is more is counted.
    """
    front, more = data[:most], len(data) - most
    if view is View.HEX:
        rows = hex_lines(front)
    elif lines:
        rows = [as_text(row.removesuffix(b"\r")) for row in front.removesuffix(b"\n").split(b"\n")]
    else:
        rows = [as_text(front)]
    return [*rows, f"… and {more:,} more bytes"] if more > 0 else rows
