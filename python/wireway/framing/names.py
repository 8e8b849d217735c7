"""Framings by name, as options of the command and of the configuration file have them: `framing_of("length:4")`.

Owns the names and what is said of a wrong one. Knows no socket and no file.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from wireway.errors import ConfigError
from wireway.framing.custom import CustomFraming
from wireway.framing.kinds import Framing
from wireway.framing.lengths import LengthPrefix, Varint
from wireway.framing.plain import Delimiter, FixedLength, Lines, Raw
from wireway.framing.protocols import Mbap, Tpkt

__all__ = ["FRAMING_NAMES", "framing_name", "framing_of"]

FRAMING_NAMES = "raw, lines, length:N[:le], varint, fixed:N, tpkt, mbap, delimiter:XX"
"""What `framing_of` reads, for help and for errors."""

_KINDS = ("raw", "lines", "length", "varint", "fixed", "tpkt", "mbap", "delimiter")


def framing_of(text: str, max_size: int | None = None) -> Framing:
    """The framing of that name.

    ``raw``, ``lines``, ``length:4`` (big-endian; ``length`` is the same), ``length:2:le`` (little-endian), ``varint``,
    ``fixed:64`` (bytes), ``tpkt``, ``mbap``, ``delimiter:0d0a`` (bytes in hex).

    :param max_size: the largest message in bytes; the framing's own limit unless told.
    :raises ConfigError: `text` names none, a number in it is wrong, or the framing has no limit to be set.
    """
    kind, *rest = text.strip().lower().split(":")
    found: Framing
    match kind, rest:
        case "raw", []:
            found = Raw()
        case "lines", []:
            found = Lines()
        case "length", []:
            found = LengthPrefix(4)
        case "length", [width]:
            found = LengthPrefix(_number(text, width))
        case "length", [width, "be" | "big"]:
            found = LengthPrefix(_number(text, width))
        case "length", [width, "le" | "little"]:
            found = LengthPrefix(_number(text, width), byteorder="little")
        case "varint", []:
            found = Varint()
        case "fixed", [size]:
            found = FixedLength(_number(text, size))
        case "tpkt", []:
            found = Tpkt()
        case "mbap", []:
            found = Mbap()
        case "delimiter", [digits]:
            found = Delimiter(_hex(text, digits))
        case _:
            near = difflib.get_close_matches(kind, _KINDS, 1)
            guess = f"; did you mean {near[0]}?" if near and near[0] != kind else ""
            raise ConfigError(f"framing {text!r} is none: write one of {FRAMING_NAMES}{guess}")
    if max_size is None:
        return found
    if isinstance(found, Raw | FixedLength | CustomFraming):
        raise ConfigError(f"framing {text!r} has no largest message to be set")
    return replace(found, max_size=max_size)


def framing_name(framing: Framing) -> str:
    """The name that `framing_of` reads, for people: what only a program can say (strip, offset) is left out."""
    match framing:
        case LengthPrefix():
            return f"length:{framing.width}{':le' if framing.byteorder == 'little' else ''}"
        case FixedLength():
            return f"fixed:{framing.size}"
        case Delimiter():
            return f"delimiter:{framing.delimiter.hex()}"
    return type(framing).__name__.lower()


def _number(text: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise ConfigError(f"framing {text!r}: {digits!r} is no number of bytes, write for example length:4")
    return int(digits)


def _hex(text: str, digits: str) -> bytes:
    try:
        return bytes.fromhex(digits.removeprefix("0x"))
    except ValueError:
        what = f"framing {text!r}: {digits!r} is not hex, write for example delimiter:0d0a"
        raise ConfigError(what) from None
