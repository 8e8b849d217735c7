"""How commands fail: a kind of failure has an exit status, and the page lists each."""

from __future__ import annotations

import errno
import re

import pytest
import typer

import wireway
from support.tree import ROOT
from wireway.cli.failing import Exit, Failure, for_people, one_line, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Failure("no", Exit.NO_TERMINAL), Exit.NO_TERMINAL),
        (wireway.AddressError("x"), Exit.USAGE),
        (wireway.ConfigError("x"), Exit.USAGE),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), Exit.MISSING),
        (PermissionError(errno.EACCES, "Permission denied"), Exit.PERMISSION),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), Exit.UNREACHABLE),
        (TimeoutError("late"), Exit.UNREACHABLE),
        (OSError(errno.EIO, "Input/output error"), Exit.NO),
        (wireway.WirewayError("x"), Exit.NO),
    ],
    ids=repr,
)
def test_each_kind_has_its_status(error: Exception, status: Exit, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(error) is status
    with pytest.raises(typer.Exit) as ended, for_people():
        raise error
    assert ended.value.exit_code == status
    said = capsys.readouterr().err
    assert said == f"Error: {one_line(error)}\n"


def test_a_line_is_one_line() -> None:
    assert one_line(wireway.WirewayError("a\n  b")) == "a b"
    assert one_line(FileNotFoundError(errno.ENOENT, "No such file or directory", "x.toml")).endswith(": x.toml")
    assert one_line(KeyError()) == "KeyError"


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), for_people():
        _ = 1 / 0


def test_ctrl_c_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, for_people():
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr() == ("", "")


def test_the_page_lists_every_status() -> None:
    page = (ROOT / "docs" / "reference" / "command.md").read_text()
    listed = {int(found) for found in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert {int(each) for each in Exit} | {130} <= listed
