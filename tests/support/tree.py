"""Owns the question "which files are the project's own?": what git tracks or would track."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project, relative to its root: tracked, or new and not ignored."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):  # an archive without git
        hidden = (p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file())
        skip = ("target", "dist", "site", "build")
        return tuple(p for p in hidden if p.parts[0] not in skip and not any(x.startswith(".") for x in p.parts))
    return tuple(sorted(Path(name) for name in set(listed.split("\0")) if name and (ROOT / name).is_file()))


def under(folder: str, suffix: str) -> list[Path]:
    """The files of `folder` whose name ends so. An empty folder name means all."""
    return [path for path in files() if path.suffix == suffix and (not folder or path.is_relative_to(folder))]


def python_files(folder: str = "") -> list[Path]:
    return under(folder, ".py")


def rust_files(folder: str = "") -> list[Path]:
    return under(folder, ".rs")


def markdown_files(folder: str = "") -> list[Path]:
    return under(folder, ".md")
