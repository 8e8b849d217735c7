"""`Mistake`: something wrong in a configuration file, and where. `ConfigurationError`: all of a file's."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from wireway.errors import ConfigError

__all__ = ["ConfigurationError", "Mistake", "guess", "said"]


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One thing that is wrong."""

    line: int
    """From 1; 0 where it is in no line."""
    column: int
    """Characters from the line's start, from 1."""
    text: str
    """What is wrong, and what to write instead."""
    file: str = ""

    def __str__(self) -> str:
        """As compilers write it: ``file:line:column: text``."""
        return f"{self.file}:{self.line}:{self.column}: {self.text}" if self.line else f"{self.file}: {self.text}"


class ConfigurationError(ConfigError):
    """A configuration file is wrong. The text has a line for each mistake."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)
        """All that was found, in the order of the file."""

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.mistakes,)


def guess(wrong: object, names: Collection[str]) -> str:
    """``; did you mean "idle"?`` if one of the names is near, else nothing."""
    plain = {name.replace("-", "_").lower(): name for name in names}
    near = difflib.get_close_matches(str(wrong).replace("-", "_").lower(), plain, 1, 0.6)
    return f"; did you mean {json.dumps(plain[near[0]], ensure_ascii=False)}?" if near else ""


def said(value: object) -> str:
    """A value as it stands in a file, shortened."""
    text = str(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
