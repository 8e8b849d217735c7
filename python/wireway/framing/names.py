r"""Framings by name, as options of the command and of the configuration file have them: `framing_of("length:4")`.

Owns the names and what is said of a wrong one. Knows no socket, no command and no file.

A name is the kind and what it takes, with colons between: ``length:2:le:offset=4:whole``. Every parameter of the
framing's class has a word, so that each framing but a custom one can be named.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from wireway.errors import ConfigError
from wireway.framing.escapes import unescape
from wireway.framing.kinds import Framing
from wireway.framing.lengths import LengthPrefix, Varint
from wireway.framing.plain import Delimiter, FixedLength, Lines, Raw
from wireway.framing.protocols import Mbap, Tpkt

__all__ = ["FRAMING_NAMES", "framing_name", "framing_of"]

FRAMING_NAMES = "raw, lines, length:N[:le], varint, fixed:N, tpkt, mbap, delimiter:XX"
"""What `framing_of` reads, for help and for errors. What else each takes stands in docs/reference/command.md."""

Words = dict[str, Any]
"""Parameters of a framing's class."""
_Reader = Callable[[str, str], Words]


def framing_of(text: str, max_size: int | None = None) -> Framing:
    r"""The framing of that name.

    ``raw``, ``lines``, ``length:4`` (big-endian; ``length`` is the same), ``length:2:le`` (little-endian), ``varint``,
    ``fixed:64`` (bytes), ``tpkt``, ``mbap``, ``delimiter:0d0a`` (bytes in hex), ``delimiter:\r\n`` (with escapes) or
    ``delimiter:text=END``. Further words, in any order: ``max=BYTES``; ``keep`` of lines and delimiter; ``offset=N``,
    ``adjust=N``, ``strip=N`` and ``whole`` (the length counts the whole frame) of length; ``10`` of varint (bytes).

    :param max_size: the largest message in bytes; the framing's own limit unless told.
    :raises ConfigError: `text` names none, a word or a number in it is wrong, or the framing has no limit to be set.
    """
    kind, *rest = text.strip().split(":")
    made = _KINDS.get(kind.lower())
    if made is None:
        near = difflib.get_close_matches(kind.lower(), _KINDS, 1)
        raise _wrong(
            text,
            f"there is none of that name: write one of {FRAMING_NAMES}{f'; did you mean {near[0]}?' if near else ''}",
        )
    make, needs, words = made
    options: Words = {}
    for place, word in enumerate(rest):
        found = _read(text, word, words, first=place == 0)
        if again := options.keys() & found.keys():
            raise _wrong(text, f"{again.pop()} stands there twice")
        options |= found
    if needs and needs[0] not in options:
        raise _wrong(text, f"its {needs[0]} is missing: write {needs[1]}")
    if max_size is not None:
        if "max" not in words:
            raise _wrong(text, "it has no largest message to be set")
        options["max_size"] = max_size
    framing: Framing = make(**options)
    return framing


def framing_name(framing: Framing) -> str:
    """The name that `framing_of` reads; of a custom framing its kind."""
    words: list[object] = []
    match framing:
        case LengthPrefix():
            words = [framing.width, *(["le"] if framing.byteorder == "little" else [])]
            words += [f"offset={framing.offset}"] if framing.offset else []
            words += ["whole"] if framing.includes_header else []
            words += [f"adjust={framing.adjustment}"] if framing.adjustment else []
            words += [f"strip={framing.strip}"] if framing.strip is not None else []
            return _named("length", framing, LengthPrefix(), words)
        case FixedLength():
            return f"fixed:{framing.size}"
        case Delimiter():
            words = [framing.delimiter.hex(), *(["keep"] if framing.keep else [])]
            return _named("delimiter", framing, Delimiter(b"\n"), words)
        case Lines():
            return _named("lines", framing, Lines(), ["keep"] if framing.keep else [])
        case Varint():
            words = [framing.max_bytes] if framing.max_bytes != 5 else []
            return _named("varint", framing, Varint(), words)
        case Tpkt():
            return _named("tpkt", framing, Tpkt(), words)
        case Mbap():
            return _named("mbap", framing, Mbap(), words)
        case Raw():
            return "raw"
    return "custom"


def _named(kind: str, framing: Any, plain: Any, words: list[object]) -> str:
    if framing.max_size != plain.max_size:
        words.append(f"max={framing.max_size}")
    return ":".join([kind, *map(str, words)])


# --- the words ----------------------------------------------------------------------------------------------------


def _read(text: str, word: str, words: dict[str, _Reader], *, first: bool) -> Words:
    """One word: ``name=value``, a name alone, or, behind the kind, the value that needs no name."""
    name, equals, value = word.partition("=")
    if equals and (reader := words.get(name.lower())) is not None:
        return reader(text, value)
    if not equals and (reader := words.get(f"{name.lower()}!")) is not None:
        return reader(text, "")
    if first and (reader := words.get("")) is not None:
        return reader(text, word)
    known = ", ".join(f"{each}=" if each[-1] != "!" else each[:-1] for each in words if each)
    raise _wrong(text, f"{word!r} is not known there: {f'known are {known}' if known else 'nothing more is taken'}")


def _number(option: str, *, signed: bool = False) -> _Reader:
    def read(text: str, digits: str) -> Words:
        bare = digits[1:] if signed and digits[:1] in ("-", "+") else digits
        if not (bare.isascii() and bare.isdigit()):
            raise _wrong(text, f"{digits!r} is no number of bytes, write for example length:4")
        return {option: int(digits)}

    return read


def _word(option: str, value: object) -> _Reader:
    return lambda _text, _value: {option: value}


def _delimiter(text: str, word: str) -> Words:
    if "\\" in word:
        return {"delimiter": unescape(word)}
    try:
        return {"delimiter": bytes.fromhex(word.lower().removeprefix("0x"))}
    except ValueError:
        what = rf"{word!r} is not hex, write for example delimiter:0d0a, delimiter:\r\n or delimiter:text={word}"
        raise _wrong(text, what) from None


def _text(_text: str, value: str) -> Words:
    return {"delimiter": unescape(value)}


def _wrong(text: str, what: str) -> ConfigError:
    return ConfigError(f"framing {text!r}: {what}")


_MAX: dict[str, _Reader] = {"max": _number("max_size")}
_KEEP: dict[str, _Reader] = {"keep!": _word("keep", True)}
_ORDERS: dict[str, _Reader] = {
    f"{name}!": _word("byteorder", order)
    for name, order in (("be", "big"), ("big", "big"), ("le", "little"), ("little", "little"))
}
_LAYOUT: dict[str, _Reader] = {
    "offset": _number("offset"),
    "adjust": _number("adjustment", signed=True),
    "strip": _number("strip"),
    "whole!": _word("includes_header", True),
}

_KINDS: dict[str, tuple[Callable[..., Any], tuple[str, str] | None, dict[str, _Reader]]] = {
    "raw": (Raw, None, {}),
    "lines": (Lines, None, {**_KEEP, **_MAX}),
    "length": (LengthPrefix, None, {"": _number("width"), **_ORDERS, **_LAYOUT, **_MAX}),
    "varint": (Varint, None, {"": _number("max_bytes"), **_MAX}),
    "fixed": (FixedLength, ("size", "fixed:64"), {"": _number("size")}),
    "tpkt": (Tpkt, None, _MAX),
    "mbap": (Mbap, None, _MAX),
    "delimiter": (
        Delimiter,
        ("delimiter", "delimiter:0d0a"),
        {"": _delimiter, "text": _text, **_KEEP, **_MAX},
    ),
}
"""Of each kind: its class, the parameter that it can not be without, and its words."""
