"""`Document`: the values of a TOML text, and where each of them stands.

Owns reading a file. Knows no key: what they mean is `shape.py`'s and `reading.py`'s. The values are the standard
library's (`tomllib`), the places native (`crates/py/src/toml.rs`).
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wireway._native import toml_places
from wireway.configuration.mistakes import ConfigurationError, Mistake

__all__ = ["Document", "Steps"]

Steps = tuple[str | int, ...]
"""The way to a value: keys, and numbers in arrays."""

_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Document:
    """A TOML text, read."""

    file: str
    """What it is called, for people."""
    folder: Path
    """Where it is."""
    values: dict[str, Any]
    places: dict[Steps, tuple[tuple[int, int], tuple[int, int]]]
    """Line and column of a key, and of its value."""

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file.

        :raises ConfigurationError: it is no TOML; every mistake of that kind is told.
        :raises OSError: it can not be read.
        """
        return cls.of(path.read_bytes(), str(path), path.absolute().parent)

    @classmethod
    def of(cls, data: bytes, file: str, folder: Path) -> Document:
        """The document of such bytes.

        :raises ConfigurationError: they are no TOML.
        """
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            column = error.start - data.rfind(b"\n", 0, error.start)
            text = f"this is no UTF-8 (byte {data[error.start]:#04x}), which TOML is written in"
            raise ConfigurationError([Mistake(line, column, text, file)]) from None
        text = text.removeprefix("\ufeff")
        places, wrong = toml_places(text)
        if wrong:
            first = {line: (column, what) for line, column, what in reversed(wrong)}  # the others follow from it
            found = [Mistake(line, column, f"no TOML: {what}", file) for line, (column, what) in first.items()]
            raise ConfigurationError(sorted(found))
        try:
            return cls(file, folder, tomllib.loads(text), places)
        except tomllib.TOMLDecodeError as error:
            # What only newer versions of TOML have.
            what = str(error)
            where = _WHERE.search(what)
            line, column = (int(where[1]), int(where[2])) if where and where[1] else (text.count("\n") + 1, 1)
            raise ConfigurationError([Mistake(line, column, f"no TOML: {_WHERE.sub('', what)}", file)]) from None

    def mistake(self, steps: Steps, text: str, *, at_key: bool = False) -> Mistake:
        """A mistake at a value, at its key, or at what is nearest above."""
        while steps and steps not in self.places:
            steps, at_key = steps[:-1], False
        if not steps:
            return Mistake(1, 1, text, self.file)
        key, value = self.places[steps]
        return Mistake(*(key if at_key else value), text, self.file)
