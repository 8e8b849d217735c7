"""What every source file keeps to: it says what it owns, it stays short, and the workspace's lints hold for it."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from support.tree import ROOT, files, python_files, rust_files

LONG = 400
HEAD = 15
"""A longer file says why, as `Long because: …`, within its first lines."""

SOURCES = [*rust_files(), *python_files()]
CRATES = [path for path in files() if path.name == "Cargo.toml" and path != Path("Cargo.toml")]


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_is_short_or_says_why_not(path: Path) -> None:
    lines = (ROOT / path).read_text().splitlines()
    explained = any(re.search(r"Long because: \S", line) for line in lines[:HEAD])
    assert len(lines) <= LONG or explained, (
        f"{path} has {len(lines)} lines, more than {LONG}: cut it, or say `Long because: …` in its first {HEAD} lines"
    )


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_file_opens_with_what_it_owns(path: Path) -> None:
    text = (ROOT / path).read_text()
    if path.suffix == ".rs":
        opened = next((line for line in text.splitlines() if line and not line.startswith("#!")), "").startswith("//!")
    else:
        opened = not text.strip() or ast.get_docstring(ast.parse(text)) is not None
    assert opened, f"{path} does not open with a doc comment"


@pytest.mark.parametrize("path", CRATES, ids=str)
def test_a_crate_keeps_the_workspace_lints(path: Path) -> None:
    manifest = tomllib.loads((ROOT / path).read_text())
    inherits = manifest.get("lints", {}).get("workspace") is True
    assert inherits or path.is_relative_to("fuzz"), f"{path} does not say `[lints] workspace = true`"


def test_unsafe_is_explained() -> None:
    """Clippy proves it for each block (`undocumented_unsafe_blocks`); this keeps the policy itself in place."""
    lints = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["lints"]
    assert lints["clippy"]["undocumented_unsafe_blocks"] == "deny"
    assert lints["rust"]["unsafe_op_in_unsafe_fn"] == "deny"
    for path in rust_files():
        assert not re.search(r"allow\(.*undocumented_unsafe_blocks", (ROOT / path).read_text()), path


@pytest.mark.parametrize("path", [p for p in python_files("python") if p.name == "__init__.py"], ids=str)
def test_no_implementation_in_init(path: Path) -> None:
    for node in ast.parse((ROOT / path).read_text()).body:
        plain = isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr)
        assert plain, f"{path}:{node.lineno}: an __init__.py holds names, not code"


def test_the_root_holds_what_people_look_for_there() -> None:
    folders = {
        ".ci",
        "benchmarks",
        "contrib",
        "crates",
        "docs",
        "examples",
        "fuzz",
        "python",
        "requirements",
        "tests",
        "tools",
    }
    texts = {"ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "README.zh-CN.md"}
    builds = {".gitignore", "Cargo.lock", "Cargo.toml", "Makefile", "mkdocs.yml", "pyproject.toml", "rustfmt.toml"}
    assert {path.parts[0] for path in files()} <= folders | texts | builds
