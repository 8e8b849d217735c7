"""`Option`: what is known of one option: its kind, its default, what its dataclass says of it.

Owns reading that out of a dataclass: the options of a file, of a group and of a service are all declared so. The texts
stand below the fields, where an interpreter does not keep them: they are read from the source.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, get_type_hints

from wireway.configuration.kinds import Kind, kind_of

__all__ = ["Option", "options_of", "text_of"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a table."""

    name: str
    kind: Kind
    default: Any
    """`dataclasses.MISSING` if it must be given."""
    doc: str
    """What its dataclass says of it, as one paragraph."""
    metadata: Mapping[Any, Any]
    """What the field carries: ``argument``, ``secret``."""

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is MISSING

    @property
    def summary(self) -> str:
        """The first sentence of its text."""
        return re.split(r"(?<=[^.][.;:])\s", self.doc, maxsplit=1)[0].rstrip(".;:")


@cache
def options_of(table: type) -> Mapping[str, Option]:
    """The options of a dataclass, by name, in its order.

    :raises TypeError: one is of a type that can not stand in a file.
    """
    hints = get_type_hints(table, include_extras=True)
    texts = _texts(table)
    found: dict[str, Option] = {}
    for each in fields(table):
        if not each.init or each.metadata.get("client"):
            continue  # what only clients have has no place in a file of listeners
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        try:
            kind = kind_of(hints[each.name])
        except TypeError as error:
            raise TypeError(f"{table.__name__}.{each.name}: {error}") from None
        found[each.name] = Option(each.name, kind, default, texts.get(each.name, ""), each.metadata)
    return found


def text_of(table: type) -> str:
    """What a dataclass says of itself: the first paragraph."""
    text = inspect.getdoc(table) or ""
    return "" if text.startswith(f"{table.__name__}(") else " ".join(text.partition("\n\n")[0].split())


def _texts(table: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in reversed(table.__mro__[:-1]):
        params = re.findall(r":param (\w+):(.*?)(?=\n\s*:|\Z)", inspect.getdoc(each) or "", re.DOTALL)
        found.update((name, " ".join(text.split())) for name, text in params)
        try:
            source = textwrap.dedent(inspect.getsource(each))
        except (OSError, TypeError):  # made at run time, or without its source
            continue
        found.update(_below_fields(source))
    return found


def _below_fields(source: str) -> dict[str, str]:
    """The texts that stand below the fields of a class."""
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        is_field = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if is_field and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            text = below.value.value
            if isinstance(text, str):
                found[field.target.id] = " ".join(text.split())  # type: ignore[attr-defined]
    return found
