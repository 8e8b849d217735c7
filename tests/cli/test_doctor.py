"""`wireway doctor` as a person and a script meet it: on this machine, in a terminal and in a pipe."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest


def doctor(*options: str, columns: str = "80") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wireway", "doctor", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": columns, "PYTHONPATH": ":".join(sys.path)},
    )


@pytest.mark.parametrize("columns", ["80", "140"])
def test_it_says_what_limits_and_what_changes_it(columns: str) -> None:
    done = doctor("--for", "90000000", columns=columns)
    assert (done.returncode, done.stderr) == (1, "")
    text = done.stdout
    assert "For 90,000,000 connections on this machine" in text
    assert "LIMIT" in text
    assert re.search(r"^  server\.run\(workers=\d+\)", text, re.MULTILINE)
    assert "will be in the way" in text
    assert "\x1b" not in text, "colours are for terminals"


def test_few_connections_fit_anywhere() -> None:
    done = doctor("--for", "10")
    assert done.returncode == 0, done.stdout
    assert "Nothing is in the way." in done.stdout


def test_for_programs() -> None:
    done = doctor("--json", "--for", "90000000")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["connections"], told["ok"]) == (90_000_000, False)
    assert {"name", "state", "value", "effect", "remedy"} == set(told["findings"][0])


@pytest.mark.parametrize("options", [("--for", "0"), ("--for", "many"), ("--from", "3")])
def test_a_command_line_that_is_wrong(options: tuple[str, ...]) -> None:
    done = doctor(*options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
