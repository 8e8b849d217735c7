"""The public names: listed once, documented each, and typed as they are."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import wireway
from support.tree import ROOT, python_files
from wireway import _native

STUB = ROOT / "python" / "wireway" / "_native.pyi"
MODULES = [
    ".".join(path.relative_to("python").with_suffix("").parts).removesuffix(".__init__")
    for path in python_files("python")
    if path.name != "__main__.py"
]


def documented(name: str) -> Iterator[tuple[str, Any]]:
    """A public name and, of a class of ours, its own public members."""
    value = getattr(wireway, name)
    yield name, value
    if inspect.isclass(value):
        for member, what in vars(value).items():
            inner = inspect.unwrap(getattr(what, "__func__", what)) if callable(what) else what
            described = callable(inner) or isinstance(inner, property) or inspect.isdatadescriptor(inner)
            slot = type(inner).__name__ == "member_descriptor"  # a dataclass field: its text stands in the class
            if not member.startswith("_") and described and not slot:
                yield f"{name}.{member}", what


def test_names_are_listed_once_and_exist() -> None:
    assert len(set(wireway.__all__)) == len(wireway.__all__)
    for name in wireway.__all__:
        assert hasattr(wireway, name)


@pytest.mark.parametrize("name", wireway.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    for full, value in documented(name):
        if not (inspect.isclass(value) or callable(value) or isinstance(value, property) or hasattr(value, "__doc__")):
            continue
        if full == name and not (inspect.isclass(value) or callable(value)):
            continue  # a union of types, such as Framing: its members are documented
        assert (inspect.getdoc(value) or "").strip(), f"wireway.{full} has no docstring"


@pytest.mark.parametrize("name", MODULES)
def test_each_module_lists_what_it_exports(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    public = {
        key
        for key, value in vars(module).items()
        if not key.startswith("_")
        and inspect.getmodule(value) is module
        and (inspect.isclass(value) or callable(value))
    }
    missing = [key for key in exported if not hasattr(module, key)]
    assert not missing, f"{name}.__all__ names what is not there: {missing}"
    assert not public or exported, f"{name} defines {sorted(public)} and has no __all__"


def test_the_stub_and_the_extension_have_the_same_names() -> None:
    """A quick look; `make check` compares the signatures too (stubtest)."""
    typed: set[str] = set()
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            typed.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            typed.add(node.target.id)
    public = {name for name in typed if not name.startswith("_")}
    assert public == {name for name in vars(_native) if not name.startswith("_")}
