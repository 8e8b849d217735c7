"""Owns what a script waits for: texts and regular expressions, each after the one before. Sans I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wireway.cli.talking.words import as_text, unescape
from wireway.errors import ConfigError

__all__ = ["Expectation"]

_KEPT = 1024 * 1024
_REGEX = re.compile(r"/(.*)/(i?)", re.DOTALL)


class Expectation:
    """What must come, in order.

    :param wanted: each a text with escapes, or ``/a regular expression/`` (``/…/i``: upper and lower case are one).
    :param between: stands between two messages; empty where there are none.
    :param option: where they were given, for errors.
    :raises ConfigError: one of them can not be read.
    """

    def __init__(self, wanted: Sequence[str], between: bytes = b"", *, option: str = "--expect") -> None:
        self._wanted = [(text, _compile(text, option)) for text in wanted]
        self._between = between
        self._heard = bytearray()
        self._came = 0
        """Bytes in all."""

    @property
    def met(self) -> bool:
        """All came."""
        return not self._wanted

    @property
    def next(self) -> str:
        """What is waited for."""
        return self._wanted[0][0] if self._wanted else ""

    def hear(self, message: bytes) -> bool:
        """Something came. Returns whether all did. Searched is the last MiB."""
        self._came += len(message)
        self._heard += message + self._between
        while self._wanted and (found := self._wanted[0][1].search(self._heard)) is not None:
            del self._wanted[0]
            del self._heard[: found.end()]
        del self._heard[:-_KEPT]
        return self.met

    def what_came(self) -> str:
        """What was heard since the last that was met, for an error."""
        if not self._heard:
            return "nothing came" if not self._came else "nothing came after what was expected before it"
        text = as_text(bytes(self._heard[-200:]))
        return f"what came instead ends in: {text}"


def _compile(text: str, option: str) -> re.Pattern[bytes]:
    found = _REGEX.fullmatch(text)
    if found is None:
        if not text:
            raise ConfigError(f"{option} is empty: write a text, or /a regular expression/")
        return re.compile(re.escape(unescape(text)))
    try:
        flags = re.MULTILINE | (re.IGNORECASE if found[2] else 0)
        return re.compile(found[1].encode("utf-8", "surrogateescape"), flags)
    except re.error as error:
        raise ConfigError(f"{option} {text}: no regular expression: {error}") from None
