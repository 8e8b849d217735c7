"""Dependencies point down, or sideways inside a folder (ARCHITECTURE.md). This is the rule, as code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tree import ROOT, python_files, rust_files

PACKAGE = ROOT / "python" / "wireway"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"_native", "errors", "events"}),
    frozenset({"units"}),
    frozenset({"config"}),
    frozenset({"framing", "backend"}),
    frozenset({"loop"}),
    frozenset({"net"}),
    frozenset({"http"}),
    frozenset({"serve", "messaging", "industrial", "observe", "testing"}),
    frozenset({"__init__"}),  # the public names
    frozenset({"services"}),
    frozenset({"configuration"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
"""Each part of the package, the lowest first. A part imports from below and from itself."""

UPWARD = {("net/server.py", "serve"), ("net/server.py", "observe")}
"""`Server.run` is where a program ends up in a supervisor or in a worker: imported when called, and only there. So is
the stall watch, which a server starts with itself."""

BACK_END_NAMES = ("io_uring", "epoll", "poll", "select", "sigio")


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> Iterator[tuple[int, str]]:
    """Each part of wireway that a file imports, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole name, not a relative import"
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            whole = node.module == "wireway" and not all((PACKAGE / a.name).exists() for a in node.names)
            names = [node.module or ""] if whole or node.module != "wireway" else submodules
        for name in names:
            parts = name.split(".")
            if parts[0] == "wireway":
                yield getattr(node, "lineno", 0), parts[1] if len(parts) > 1 else "__init__"


def level(part: str) -> int:
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    raise AssertionError(f"wireway.{part} has no layer: give it one in {Path(__file__).name}")


@pytest.mark.parametrize("path", python_files("python"), ids=str)
def test_python_imports_point_down(path: Path) -> None:
    here = part_of(ROOT / path)
    for line, part in imported_parts(ROOT / path):
        allowed = part == here or level(part) < level(here) or (str((ROOT / path).relative_to(PACKAGE)), part) in UPWARD
        assert allowed, f"{path}:{line}: wireway.{here} must not import wireway.{part}, which is not below it"


def test_the_core_knows_no_python() -> None:
    for path in (ROOT / "crates" / "core" / "Cargo.toml", *(ROOT / p for p in rust_files("crates/core"))):
        code = re.sub(r"(//|#).*", "", path.read_text())
        assert "pyo3" not in code.lower(), f"{path} names PyO3"


@pytest.mark.parametrize("path", [p for p in rust_files("crates") if "/src/" in str(p)], ids=str)
def test_only_the_driver_names_back_ends(path: Path) -> None:
    if "core/src/driver" in str(path):
        return
    code = re.sub(r"//.*", "", (ROOT / path).read_text())
    names = "|".join(BACK_END_NAMES)
    found = re.search(
        rf'Backend::(IoUring|Epoll|Poll|Select|Sigio)\b|driver::({names}|uring)\b|==\s*"({names})"|"({names})"\s*=>',
        code,
    )
    assert not found, f"{path} decides by the back end ({found and found[0]}): ask the driver's capabilities instead"


@pytest.mark.parametrize("path", python_files("python"), ids=str)
def test_only_the_choice_compares_back_ends(path: Path) -> None:
    if path.name == "backend.py":
        return
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                named = isinstance(side, ast.Constant) and side.value in BACK_END_NAMES
                assert not named, f"{path}:{node.lineno} decides by the back end: only backend.py may"
