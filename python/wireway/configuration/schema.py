"""`schema`: JSON Schema of a configuration file, for editors that complete and check while one types.

Owns how tables and kinds are told in JSON Schema (draft 7, which Taplo and VS Code take).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wireway.configuration.describing import Option, options_of, text_of
from wireway.configuration.kinds import OFF
from wireway.configuration.listing import default_text, loadable
from wireway.configuration.shape import FRAMING, FRAMINGS, OPTIONS, SERVICE, Configuration
from wireway.services import Service

__all__ = ["schema"]


def schema(services: Mapping[str, Service] | None = None) -> dict[str, Any]:
    """The JSON Schema of a whole file.

    :param services: whose options it has; wireway's own and those of installed packages unless told.
    """
    found = loadable() if services is None else dict(services)
    whole = _table(Configuration)
    listener = whole["properties"]["listeners"]["items"]
    listener["properties"]["service"] = {
        "enum": list(found),
        "description": listener["properties"]["service"]["description"],
    }
    listener["allOf"] = [
        {
            "if": {"properties": {"service": {"const": name}}, "required": ["service"]},
            "then": {
                "properties": {
                    "options": {**_table(each.options), "description": each.summary},
                    **({"workers": {"const": 1, "description": each.alone}} if each.alone else {}),
                    **dict.fromkeys(sorted(each.without), False),
                },
                **({"required": ["options"]} if any(o.required for o in options_of(each.options).values()) else {}),
            },
        }
        for name, each in found.items()
    ]
    whole["required"] = ["listeners"]
    whole["properties"]["listeners"]["minItems"] = 1
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "wireway.toml",
        "description": text_of(Configuration),
        **whole,
    }


def _table(table: type) -> dict[str, Any]:
    options = options_of(table)
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _option(option) for name, option in options.items()},
        "required": [name for name, option in options.items() if option.required],
    }


def _option(option: Option) -> dict[str, Any]:
    kind = option.kind
    doc = option.doc + (f" ({kind.unit})" if kind.unit else "")
    if kind.table is not None:
        inner: dict[str, Any] = {**_table(kind.table), "description": doc}
        if kind.many:
            inner = {"type": "array", "items": inner}
        return (
            {"anyOf": [inner, {"const": OFF}], "description": doc} if kind.may_be_off else {**inner, "description": doc}
        )
    found = {**kind.schema, "description": doc}
    if kind is FRAMING:
        tables = [_framing(name, each) for name, each in FRAMINGS.items()]
        found = {"anyOf": [dict(kind.schema), *tables], "description": doc}
    if not option.required and kind is not OPTIONS and kind is not SERVICE:
        found["default"] = kind.show(option.default)
    if default_text(option) == '"off"':
        found["default"] = OFF
    return found


def _framing(name: str, table: type) -> dict[str, Any]:
    found = _table(table)
    found["properties"] = {"kind": {"const": name}, **found["properties"]}
    found["required"] = ["kind", *found["required"]]
    return {**found, "description": text_of(table)}
