"""From `module:app` to an application, and what is said of mistakes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wireway
from wireway.http import HttpOptions, load

MODULE = """
async def app(scope, receive, send): pass
class Old:
    def __init__(self, scope): pass
    async def __call__(self, receive, send): heard.append((receive, send))
class Holder:
    app = staticmethod(app)
heard = []
def make(): return app
number = 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "some_app.py").write_text(MODULE)
    (tmp_path / "broken_app.py").write_text("import no_such_thing\n")
    path = sys.path[:]
    yield tmp_path
    sys.path[:] = path
    for name in ("some_app", "broken_app"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("target", ["some_app:app", "some_app:Holder.app", "some_app:make()"])
def test_what_is_found(folder: Path, target: str) -> None:
    found: Any = load(target, folder)
    assert found is sys.modules["some_app"].app


def test_an_application_of_asgi_2(folder: Path) -> None:
    found: Any = load("some_app:Old", folder)
    with pytest.raises(StopIteration):
        found({}, 1, 2).send(None)
    assert sys.modules["some_app"].heard == [(1, 2)]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("some_app", "write a path, or module:app"),
        ("some_app:", "write a path, or module:app"),
        ("some_app:nothing", "has no 'nothing'"),
        ("some_app:number", "is a int"),
        ("no_such_app:app", "no module 'no_such_app'"),
        ("no_such_app.more:app", "no module 'no_such_app'"),
    ],
)
def test_what_is_not(folder: Path, target: str, words: str) -> None:
    with pytest.raises(wireway.ConfigError, match=words):
        load(target, folder)


def test_an_error_of_the_module_is_its_own(folder: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        load("broken_app:app", folder)


@pytest.mark.parametrize(
    ("option", "value"),
    [("head_size", 10), ("head_fields", 0), ("body_size", -1), ("head_timeout", 0), ("ping", -1), ("root_path", "a")],
)
def test_options_that_are_wrong(option: str, value: Any) -> None:
    with pytest.raises(wireway.ConfigError, match=option):
        HttpOptions(**{option: value})
