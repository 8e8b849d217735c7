"""Owns what a reader sees: the named exceptions, the summary on the terminal, the table in the documentation.

The table is merged, not rewritten: a run under one interpreter replaces its own rows and keeps those of the others.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from isolate import Outcome
from loops import LoopChoice

BEGIN = "<!-- begin generated: python tests/conformance/run.py --write -->"
END = "<!-- end generated -->"
HEADER = (
    "| loop | Python | mixins passed | modules passed | skipped by CPython | excepted | failed |",
    "|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Named:
    """A test that is known not to pass, where, and why."""

    test: str
    reason: str
    python: tuple[str, ...] = ()
    loops: tuple[str, ...] = ("wireway*",)

    def covers(self, outcome: Outcome, version: str) -> bool:
        return (
            fnmatchcase(outcome.case.name, self.test)
            and (not self.python or version in self.python)
            and any(fnmatchcase(str(outcome.choice), pattern) for pattern in self.loops)
        )


def load_exceptions(path: Path) -> list[Named]:
    """Read the data file.

    Raises:
        ValueError: an entry has no reason, or a field this file does not know.
    """
    entries: list[Named] = []
    for raw in tomllib.loads(path.read_text()).get("exception", []):
        unknown = set(raw) - {"test", "reason", "python", "loops"}
        if unknown or not raw.get("test") or not raw.get("reason"):
            raise ValueError(f"{path}: an entry needs `test` and `reason`, may have `python`, `loops`: {raw}")
        lists = {key: tuple(raw[key]) for key in ("python", "loops") if key in raw}
        entries.append(Named(raw["test"], raw["reason"], **lists))
    return entries


@dataclass
class Row:
    """One loop under one Python."""

    choice: LoopChoice
    version: str
    passed: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    excepted: list[Outcome] = field(default_factory=list)
    failed: list[Outcome] = field(default_factory=list)
    needless: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome, exceptions: Iterable[Named]) -> None:
        group = outcome.case.group
        excepted = any(entry.covers(outcome, self.version) for entry in exceptions)
        if outcome.status == "skipped":
            self.skipped += 1
            return
        self.total[group] += 1
        if not outcome.bad:
            self.passed[group] += 1
            if excepted:
                self.needless.append(outcome)
        elif excepted:
            self.excepted.append(outcome)
        else:
            self.failed.append(outcome)

    def cells(self) -> str:
        counts = [f"{self.passed[group]} of {self.total[group]}" for group in ("mixins", "modules")]
        tail = [str(self.skipped), str(len(self.excepted)), str(len(self.failed))]
        return "| " + " | ".join([str(self.choice), self.version, *counts, *tail]) + " |"


def write_table(path: Path, rows: Iterable[Row], exceptions: Iterable[Named]) -> None:
    """Put the rows and the exceptions between the markers of `path`.

    Raises:
        ValueError: the markers are not there.
    """
    text = path.read_text()
    pattern = re.compile(re.escape(BEGIN) + r"(.*?)" + re.escape(END), re.DOTALL)
    found = pattern.search(text)
    if found is None:
        raise ValueError(f"{path} has no generated part: put these two lines in it\n{BEGIN}\n{END}")
    lines = {_key(line): line for line in found[1].splitlines() if re.match(r"\| \w+[^|]* \| 3\.\d+ \|", line)}
    lines.update({_key(row.cells()): row.cells() for row in rows})
    body = "\n".join([BEGIN, "", *HEADER, *(lines[key] for key in sorted(lines)), "", *_named(exceptions), END])
    path.write_text(text[: found.start()] + body + text[found.end() :])


def _key(line: str) -> tuple[bool, str, int]:
    """Order: our rows first, then by name, then by version."""
    name, version = (cell.strip() for cell in line.split("|")[1:3])
    return (not name.startswith("wireway"), name, int(version.partition(".")[2]))


def _named(exceptions: Iterable[Named]) -> list[str]:
    lines = [
        f"- `{entry.test}` (Python {', '.join(entry.python) or 'all'}; {', '.join(entry.loops)}): {entry.reason}"
        for entry in exceptions
    ]
    return ["Named exceptions:", "", *(lines or ["- none"]), ""]
