"""`entries`: every option that a configuration file has, one by one, for pages and for people.

Owns the order and the words of a list. What the options are is `shape.py`'s, and the services'.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

from wireway.configuration.describing import Option, options_of, text_of
from wireway.configuration.kinds import OFF
from wireway.configuration.shape import FRAMINGS, OPTIONS, Configuration
from wireway.services import Service, find_services

__all__ = ["Entry", "default_text", "entries", "loadable"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a configuration file."""

    key: str
    """With dots; an array of tables has ``[]``: ``listeners[].timeouts.idle``. The options of a service:
    ``listeners[].options.target``."""
    kind: str
    """What is written there: ``duration``, ``size``, ``true or false``, ``table`` …"""
    unit: str
    """What a number there counts: ``seconds``, ``bytes``; empty: nothing."""
    default: str
    """As it is written in a file; empty: it must be given, or it is a table."""
    required: bool
    """Whether it must be given, in a table that is."""
    may_be_off: bool
    """Whether ``"off"`` may be written."""
    choices: tuple[str, ...]
    """The only values; empty: any of the kind."""
    doc: str
    """What it is for, and what it costs; Markdown."""
    is_table: bool
    """Whether it is a table, or an array of tables; its own keys follow."""
    service: str = ""
    """Of which service it is an option; empty: of every one."""
    framing: str = ""
    """Of which framing it is a parameter, where that is written as a table."""


def entries(services: Mapping[str, Service] | None = None) -> list[Entry]:
    """All keys: those of the file from its top to its end, then those of each service, then those of each framing.

    :param services: whose options are listed; wireway's own and those of installed packages unless told.
    """
    found = list(_walk(Configuration, ""))
    for name, service in (loadable() if services is None else services).items():
        found += _walk(service.options, "listeners[].options.", service=name)
    for name, framing in FRAMINGS.items():
        found += _walk(framing, "listeners[].framing.", framing=name)
    return found


def loadable() -> dict[str, Service]:
    """The services that can be loaded, by name."""
    found = {}
    for name, each in find_services().items():
        try:
            found[name] = each.load()
            options_of(found[name].options)
        except (ValueError, TypeError):  # a broken one is told of where somebody asks for it
            found.pop(name, None)
    return found


def default_text(option: Option) -> str:
    """The default as it is written in a file."""
    if option.default is MISSING or option.kind.table is not None or option.kind is OPTIONS:
        return ""
    value = option.kind.show(option.default)
    if isinstance(value, dict):
        return "{}" if not value else json.dumps(value)
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def _walk(table: type, before: str, **of: Any) -> Iterator[Entry]:
    for option in options_of(table).values():
        kind = option.kind
        key = f"{before}{option.name}{'[]' if kind.many else ''}"
        doc, default = option.doc, default_text(option)
        if kind.table is not None:
            more = text_of(kind.table)
            doc = more if more.startswith(doc.rstrip(".")) else doc if more in doc else f"{doc} {more}"
            default = f'"{OFF}"' if option.default is None else ""
        is_table = kind.table is not None
        bounds = (option.required, kind.may_be_off, kind.choices)
        yield Entry(key, kind.name, kind.unit, default, *bounds, doc, is_table, **of)
        if kind.table is not None:
            yield from _walk(kind.table, f"{key}.", **of)
