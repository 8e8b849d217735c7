"""`Kind`: of which kind an option is: how it is read from a file, shown in one, and told to editors.

Owns the way from type annotations to kinds. Knows no option: `shape.py` has those of the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from wireway.configuration.mistakes import guess, said
from wireway.errors import ConfigError
from wireway.units import Bytes, Seconds, Unit, duration, duration_text, size_text

__all__ = ["OFF", "Kind", "Special", "kind_of"]

OFF = "off"
"""What stands in a file for None."""

_HEX = "hex:"


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """How one kind of option is written."""

    name: str
    """For people: ``duration``, ``list of text``."""
    read: Callable[[Any, Path], Any]
    """From what stands in the file, which is in that folder, to the option's value; raises `ConfigError` that says what
    it must be."""
    show: Callable[[Any], Any]
    """Back to what stands in a file."""
    schema: Mapping[str, Any]
    """JSON Schema of what may stand there."""
    unit: str = ""
    """What a number counts."""
    choices: tuple[str, ...] = ()
    """The only values."""
    may_be_off: bool = False
    """Whether None is allowed, as `OFF`."""
    table: type | None = None
    """Of a table: the dataclass of its options."""
    many: bool = False
    """Whether it is an array of such tables."""


@dataclass(frozen=True, slots=True, eq=False)
class Special:
    """In an annotation: the kind is this one, whatever the type says."""

    kind: Kind


def kind_of(hint: Any) -> Kind:
    """The kind of an annotation.

    :raises TypeError: it is none that can stand in a file.
    """
    extras: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        extras = tuple(more)
        for each in extras:
            if isinstance(each, Special):
                return each.kind
            if isinstance(each, Unit):
                return _measured(hint, each)
    if get_origin(hint) in (Union, UnionType):
        kinds = [each for each in get_args(hint) if each is not NoneType]
        if len(kinds) == len(get_args(hint)):
            return _either(kinds)
        inner = kind_of(kinds[0]) if len(kinds) == 1 else _either(kinds)
        return _or_off(inner)
    if get_origin(hint) is Literal:
        return _choice(get_args(hint))
    if is_dataclass(hint) and isinstance(hint, type):
        return Kind("table", _never, _same, {"type": "object"}, table=hint)
    if get_origin(hint) is tuple and len(get_args(hint)) == 2 and is_dataclass(get_args(hint)[0]):
        return Kind("array of tables", _never, _same, {"type": "array"}, table=get_args(hint)[0], many=True)
    if hint in _PLAIN:
        return _PLAIN[hint]
    raise TypeError(f"{hint!r} can not be written in a file")


def _same(value: Any) -> Any:
    return value


def _never(value: Any, folder: Path) -> Any:
    raise AssertionError("tables are read by reading.py")


# --- numbers and what they count ----------------------------------------------------------------------------------


def _is_number(value: Any, kind: Any) -> bool:
    """TOML has `nan` and `inf`, which are of no use to any option."""
    is_number = not isinstance(value, bool) and isinstance(value, int if kind is int else int | float)
    return is_number and math.isfinite(value)


def _measured(number: Any, unit: Unit) -> Kind:
    if unit.read is None:
        plain = _PLAIN[number]
        return replace(plain, unit=unit.name)
    read_text = unit.read
    is_time = read_text is duration
    name = ("duration" if is_time else "size") if "a second" not in unit.name else "size a second"
    whole = number is int
    example = "a duration: 30s, 500ms, 2m, or a number of seconds" if is_time else "a size: 64KiB, 4MiB, or bytes"

    def read(value: Any, folder: Path) -> Any:
        if isinstance(value, str):
            value = read_text(value)
            value = int(value) if value == int(value) and whole else value
        if not _is_number(value, number):
            many = f"whole {unit.name.removeprefix('whole ')}" if whole else unit.name
            what = f"it must be {example}" if isinstance(value, str | bool | list | dict) else f"it must be {many}"
            raise ConfigError(f"is {said(value)}, {what}")
        return value

    pattern = {"type": "string", "pattern": unit.pattern, "examples": ["30s"] if is_time else ["64KiB"]}
    schema = {"anyOf": [{"type": "integer" if whole else "number", "minimum": 0}, pattern]}
    write = duration_text if is_time else size_text

    def show(value: Any) -> Any:
        text = write(value)
        return text if read_text(text) == value else value

    return Kind(name, read, show, schema, unit=unit.name)


def _plain(hint: Any, name: str, must: str, show: Callable[[Any], Any] = _same) -> Kind:
    def read(value: Any, folder: Path) -> Any:
        try:
            found = msgspec.convert(value, hint, strict=True)
            if isinstance(found, float) and not math.isfinite(found):
                raise msgspec.ValidationError
        except msgspec.ValidationError:
            raise ConfigError(f"is {said(value)}, it must be {must}") from None
        return found

    schema = msgspec.json.schema(hint)
    schema.pop("title", None)
    return Kind(name, read, show, schema)


def _choice(allowed: tuple[Any, ...]) -> Kind:
    names = tuple(map(str, allowed))

    def read(value: Any, folder: Path) -> Any:
        if not isinstance(value, str) or value not in names:
            every = ", ".join(json.dumps(name) for name in names)
            raise ConfigError(f"is {said(value)}, it must be one of {every}{guess(value, names)}")
        return value

    return Kind("one of", read, _same, {"enum": list(names)}, choices=names)


def _or_off(inner: Kind) -> Kind:
    def read(value: Any, folder: Path) -> Any:
        return None if value == OFF or value is False else inner.read(value, folder)

    def show(value: Any) -> Any:
        return OFF if value is None else inner.show(value)

    schema = {"anyOf": [inner.schema, {"const": OFF}]}
    return replace(inner, read=read, show=show, schema=schema, may_be_off=True)


def _either(hints: list[Any]) -> Kind:
    kinds = [kind_of(hint) for hint in hints]

    def read(value: Any, folder: Path) -> Any:
        errors = []
        for kind in kinds:
            try:
                return kind.read(value, folder)
            except ConfigError as error:
                errors.append(str(error).partition("it must be ")[2])
        raise ConfigError(f"is {said(value)}, it must be {' or '.join(errors)}")

    def show(value: Any) -> Any:
        return sorted(value) if isinstance(value, frozenset) else value

    return Kind(" or ".join(kind.name for kind in kinds), read, show, {"anyOf": [dict(kind.schema) for kind in kinds]})


# --- texts --------------------------------------------------------------------------------------------------------


def _read_path(value: Any, folder: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ConfigError(f"is {said(value)}, it must be the path of a file")
    return folder / Path(value).expanduser()


def _read_bytes(value: Any, folder: Path) -> bytes:
    if not isinstance(value, str):
        raise ConfigError(f'is {said(value)}, it must be a text, or its bytes as "hex:00ff"')
    if not value.startswith(_HEX):
        return value.encode()
    try:
        return bytes.fromhex(value.removeprefix(_HEX))
    except ValueError:
        raise ConfigError(f'is {said(value)}, which is no hex: write for example "hex:00ff"') from None


def _show_bytes(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    return text if text.encode() == value and text.isprintable() and not text.startswith(_HEX) else _HEX + value.hex()


def _read_answers(value: Any, folder: Path) -> dict[bytes, bytes]:
    if not isinstance(value, dict):
        raise ConfigError(f'is {said(value)}, it must be a table of texts: {{ "ping" = "pong" }}')
    return {_read_bytes(key, folder): _read_bytes(each, folder) for key, each in value.items()}


def _show_answers(value: Mapping[bytes, bytes]) -> dict[str, str]:
    return {_show_bytes(key): _show_bytes(each) for key, each in value.items()}


_TEXT = {"type": "string"}
_PLAIN: dict[Any, Kind] = {
    bool: _plain(bool, "true or false", "true or false"),
    int: _plain(int, "whole number", "a whole number"),
    float: _plain(float, "number", "a number"),
    str: _plain(str, "text", "a text, in quotes"),
    tuple[str, ...]: _plain(tuple[str, ...], "list of text", 'a list of texts: ["one", "two"]', list),
    frozenset[str]: _plain(frozenset[str], "list of text", 'a list of texts: ["one", "two"]', sorted),
    Path: Kind("file", _read_path, str, _TEXT),
    bytes: Kind("text or hex", _read_bytes, _show_bytes, _TEXT),
    Mapping[bytes, bytes]: Kind(
        "table of texts", _read_answers, _show_answers, {"type": "object", "additionalProperties": _TEXT}
    ),
}
SECONDS, BYTES = kind_of(Seconds), kind_of(Bytes)
