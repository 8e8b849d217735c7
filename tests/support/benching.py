"""Owns how the tests call `wireway bench`, in this process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from wireway.cli.command import app

__all__ = ["FEW", "bench", "figures_of"]

FEW = ("--count", "40", "-c", "4")


def bench(*words: str) -> tuple[int, str, str]:
    """Status, stdout and stderr."""
    done = CliRunner().invoke(app, ["bench", *words], prog_name="wireway")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def figures_of(*words: str) -> dict[str, Any]:
    """The JSON of a run in which nothing goes wrong."""
    status, out, err = bench(*words, "--json")
    assert (status, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found
