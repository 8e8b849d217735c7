"""`as_tables`, `as_toml`: the effective configuration, with every default, as a file that can be given back.

Owns what is hidden: passwords. TOML is written by `tomli_w`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import tomli_w

from wireway.configuration.describing import Option, options_of
from wireway.configuration.kinds import OFF
from wireway.configuration.reading import ReadConfiguration
from wireway.configuration.shape import FRAMINGS, OPTIONS

__all__ = ["HIDDEN", "as_tables", "as_toml"]

HIDDEN = "(hidden)"
"""What stands in the place of a secret."""


def as_tables(read: ReadConfiguration) -> dict[str, Any]:
    """The whole configuration as tables, lists, texts, numbers: what TOML and JSON have in common."""
    found = _table(read.configuration)
    for table, each, service in zip(found["listeners"], read.configuration.listeners, read.services, strict=True):
        table["options"] = _table(each.options)
        for name in service.without:
            table.pop(name, None)
        if not table["options"]:
            del table["options"]
    return found


def as_toml(read: ReadConfiguration) -> str:
    """The same as TOML."""
    return tomli_w.dumps(as_tables(read))


def _table(made: object) -> dict[str, Any]:
    shape: type = type(made)
    found = {}
    for name, option in options_of(shape).items():
        if option.kind is not OPTIONS:
            shown = _value(option, getattr(made, name))
            if shown is not None:
                found[name] = shown
    return found


def _value(option: Option, value: Any) -> Any:
    kind = option.kind
    if value is None:
        return OFF if kind.may_be_off else None
    if option.metadata.get("secret"):
        return HIDDEN
    if kind.many:
        return [_table(each) for each in value]
    if kind.table is not None:
        return _table(value)
    shown = kind.show(value)
    if is_dataclass(shown):  # a framing whose name does not tell all of it
        name = next(name for name, each in FRAMINGS.items() if each is type(shown))
        return {"kind": name, **_table(shown)}
    return dict(shown) if isinstance(shown, Mapping) else str(shown) if isinstance(shown, Path) else shown
