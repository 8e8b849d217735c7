"""`wireway config`: check, show, schema, init, as they are typed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from wireway.cli.command import app

ECHO = '[[listeners]]\naddress = "tcp://127.0.0.1:9000"\nservice = "echo"\nworkers = 2\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["config", *words])


def test_a_file_that_is_right(folder: Path) -> None:
    (folder / "wireway.toml").write_text(ECHO)
    done = run("check")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "wireway.toml: OK, 1 listener\n  echo: tcp://127.0.0.1:9000, 2 workers\n"


def test_all_that_is_wrong_with_lines(folder: Path) -> None:
    (folder / "other.toml").write_text(f"{ECHO}framing = 5\nlimits = {{ conections = 1 }}\n")
    done = run("check", "other.toml")
    assert (done.exit_code, done.stdout) == (3, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("Error: other.toml:5:11: framing is 5, it must be one of raw, lines,")
    assert second == (
        'Error: other.toml:6:12: unknown key "conections" in [listeners.limits]; did you mean "connections"?'
    )


def test_what_only_making_shows_is_told_too(folder: Path) -> None:
    web = ECHO.replace("echo", "web").replace("tcp", "tls").replace("workers = 2\n", "")
    (folder / "wireway.toml").write_text(f'{web}options.target = "nothing:app"\ntls.cert = "none.pem"\n')
    done = run("check")
    assert done.exit_code == 3
    assert done.stderr.startswith("Error: wireway.toml:5:12: cert: there is no file ")


@pytest.mark.parametrize("verb", ["check", "show"])
def test_no_file(folder: Path, verb: str) -> None:
    done = run(verb)
    assert done.exit_code == 4
    assert done.stderr == (
        "Error: wireway.toml is not there: give a file, or write one with: wireway config init wireway.toml\n"
    )
    done = run(verb, ".")
    assert (done.exit_code, done.stderr) == (2, "Error: . is a folder: give the file\n")


def test_what_is_shown_can_be_given_back(folder: Path) -> None:
    (folder / "wireway.toml").write_text(ECHO)
    shown = run("show").stdout
    assert 'first_message = "off"\n' in shown
    assert 'user_timeout = "30s"\n' in shown
    (folder / "again.toml").write_text(shown)
    assert run("show", "again.toml").stdout == shown
    assert json.loads(run("show", "--json").stdout) == tomllib.loads(shown)


def test_the_schema(folder: Path) -> None:
    found = json.loads(run("schema").stdout)
    assert found["properties"]["log"]["properties"]["style"]["enum"] == ["human", "json"]
    assert "TCP_NODELAY" in json.dumps(found)


def test_a_file_to_begin_with_is_right_and_overwrites_nothing(folder: Path) -> None:
    done = run("init")
    assert done.exit_code == 0
    assert "wireway serve --config wireway.toml" in done.stdout
    assert run("check").exit_code == 0
    (folder / "wireway.toml").write_text("mine")
    done = run("init")
    assert (done.exit_code, (folder / "wireway.toml").read_text()) == (1, "mine")
    assert done.stderr == "Error: wireway.toml is there already: nothing was written\n"
    done = run("init", "none/wireway.toml")
    assert (done.exit_code, done.stderr.count("\n")) == (4, 1)
