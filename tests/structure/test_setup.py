"""The set-up of a fresh clone: what is missing is named, with how to get it; the verbs are all there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.tree import ROOT

TOOLS = ("sh", "uname", "dirname", "cut", "ls", "sort", "cargo", "rustc", "cc")
ADVICE = {
    "cargo": "install rustup",
    "cc": "apt-get install gcc",
    "python": "apt-get install python3",
    "headers": "apt-get install python3-dev",
}


def preflight(folder: Path, *, without: str = "", **environment: str) -> tuple[int, list[str]]:
    """Run tools/preflight on a machine that has only what it needs, less one thing."""
    for name in (*TOOLS, "python3"):
        path = sys.executable if name == "python3" else shutil.which(name)
        if path and name != without:
            (folder / name).symlink_to(path)
    keep = {name: os.environ[name] for name in ("HOME", "RUSTUP_HOME", "CARGO_HOME") if name in os.environ}
    env = {**keep, "PATH": str(folder), "PYENV_ROOT": "/nonexistent", **environment}
    done = subprocess.run(
        ["/bin/sh", ROOT / "tools" / "preflight"], env=env, capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    return done.returncode, done.stderr.splitlines()


def test_nothing_is_said_where_all_is_there(tmp_path: Path) -> None:
    assert preflight(tmp_path) == (0, [])


@pytest.mark.parametrize(("without", "advice"), [("cargo", "cargo"), ("cc", "cc"), ("python3", "python")])
def test_a_missing_program_is_named_with_how_to_get_it(tmp_path: Path, without: str, advice: str) -> None:
    status, lines = preflight(tmp_path, without=without)
    assert status == 1
    assert len(lines) == 2
    assert lines[0].startswith("missing: ")
    assert advice in lines[0].lower()
    assert ADVICE[advice] in lines[1]


def test_missing_headers_are_named_with_how_to_get_them(tmp_path: Path) -> None:
    # An interpreter that believes its headers to be elsewhere stands for one without headers.
    (tmp_path / "sitecustomize.py").write_text("import sysconfig\nsysconfig.get_path = lambda *_: '/nonexistent'\n")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    status, lines = preflight(binaries, PYTHONPATH=str(tmp_path))
    assert status == 1
    assert "Python.h" in lines[0]
    assert ADVICE["headers"] in lines[1]


def test_an_old_rust_is_named(tmp_path: Path) -> None:
    old = tmp_path / "rustc"
    old.write_text("#!/bin/sh\necho 'rustc 1.84.1 (abc 2025-01-01)'\n")
    old.chmod(0o755)
    status, lines = preflight(tmp_path, without="rustc")
    assert (status, "1.84.1" in lines[0], "rustup update" in lines[1]) == (1, True, True)


def test_help_is_the_default_and_lists_every_verb() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make"], cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=60)
    listed = set(re.findall(r"^  ([a-z]+) ", done.stdout, re.MULTILINE))
    assert {"run", "test", "check", "bench", "conformance", "fuzz", "help"} <= listed
