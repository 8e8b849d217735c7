"""The reference of the configuration file, from `wireway.configuration.entries`: every key, with kind, default, text.

Owns how a table of keys looks on the page. `docs/reference/configuration.md` holds what people say of the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from places import filled

from wireway.configuration import entries

__all__ = ["fill"]


def fill(page: str) -> str:
    """The page, with every key in its place: `keys`, `services`, `framings`."""
    found = list(entries())
    page = filled(page, "keys", lambda _: _tables([e for e in found if not e.service and not e.framing]))
    page = filled(page, "services", lambda _: _each(found, "service"))
    return filled(page, "framings", lambda _: _each(found, "framing"))


def _tables(keys: list[Any]) -> str:
    """A section for each table, in the order of the file; the keys of the file itself first."""
    tables: dict[str, list[Any]] = {"": []}
    for entry in keys:
        if entry.is_table:
            tables[entry.key] = []
        tables[entry.key.rpartition(".")[0]].append(entry)
    texts = {entry.key: entry.doc for entry in keys}
    parts = []
    for name, below in tables.items():
        if below:
            heading = f"### `{_header(name)}`" if name else "### At the top of the file"
            parts += [heading, texts.get(name, ""), _rows(below)]
    return "\n\n".join(part for part in parts if part)


def _header(name: str) -> str:
    plain = name.replace("[]", "")
    return f"[[{plain}]]" if name.endswith("[]") else f"[{plain}]"


def _each(found: Iterable[Any], of: str) -> str:
    parts = []
    for name, keys in groupby((e for e in found if getattr(e, of)), key=lambda e: getattr(e, of)):
        parts += [f"### {of.capitalize()} `{name}`", _rows(list(keys))]
    return "\n\n".join(parts)


def _rows(keys: list[Any]) -> str:
    lines = ["| key | is | unless told | |", "|---|---|---|---|"]
    for entry in keys:
        name = entry.key.rpartition(".")[2].removesuffix("[]")
        kind = " or ".join(f'`"{choice}"`' for choice in entry.choices) or entry.kind
        if entry.unit and entry.unit not in kind:
            kind = f"{kind} ({entry.unit})"
        if entry.may_be_off:
            kind += ', or `"off"`'
        default = "must be given" if entry.required else f"`{entry.default}`" if entry.default else ""
        if entry.is_table:
            kind = "tables, below" if entry.key.endswith("[]") else "table, below"
        cells = (f"`{name}`", kind, default, entry.doc)
        lines.append(f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)
