r"""Bytes as people write them: text with escapes, ``\x00`` and ``\n``. Owns the escapes, and nothing else."""

from __future__ import annotations

import re

from wireway.errors import ConfigError

__all__ = ["unescape"]

_SIMPLE = {"n": 10, "r": 13, "t": 9, "0": 0, "a": 7, "b": 8, "e": 27, "f": 12, "v": 11, "\\": 92}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.|$)", re.DOTALL)


def unescape(text: str) -> bytes:
    r"""The bytes that `text` means: UTF-8, and for ``\xHH`` one byte.

    :raises ConfigError: an escape that is none, with what to write.
    """

    def one(found: re.Match[str]) -> str:
        word = found[1]
        if word in _SIMPLE:
            return chr(_SIMPLE[word])
        if word[:1] == "x" and len(word) == 3:
            value = int(word[1:], 16)
            return chr(value) if value < 0x80 else chr(0xDC00 + value)  # as surrogateescape keeps a byte
        if word[:1] == "u" and len(word) == 5:
            return chr(int(word[1:], 16))
        what = r"\n \r \t \0 \a \b \e \f \v \\ \xHH \uHHHH are known; write \\ for a backslash"
        raise ConfigError(f"{found[0]} at {found.start() + 1} is no escape: {what}")

    try:
        return _ESCAPE.sub(one, text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ConfigError(f"{text!r} is no text: {error.reason}") from None
