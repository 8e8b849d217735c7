"""What a script waits for."""

from __future__ import annotations

import pytest

from wireway.cli.talking.expecting import Expectation
from wireway.errors import ConfigError


def test_in_order_and_across_pieces() -> None:
    wanted = Expectation(["one", "two"])
    assert not wanted.hear(b"two o")
    assert wanted.next == "one"
    assert not wanted.hear(b"ne")
    assert wanted.next == "two"
    assert wanted.hear(b" and two")


def test_one_piece_may_meet_all() -> None:
    assert Expectation(["a", "b"]).hear(b"..a..b")
    assert not Expectation(["a", "a"]).hear(b"a")


def test_regular_expressions_and_escapes() -> None:
    assert Expectation([r"/^2\d\d ok$/i"]).hear(b"100\n250 OK")
    assert Expectation([r"\x00\n"]).hear(b"..\0\n")
    assert not Expectation(["a.c"]).hear(b"abc")


def test_messages_do_not_run_into_each_other() -> None:
    wanted = Expectation(["ab"], between=b"\n")
    assert not wanted.hear(b"a")
    assert not wanted.hear(b"b")
    assert wanted.hear(b"ab")


def test_what_came_instead() -> None:
    wanted = Expectation(["ok", "more"])
    assert wanted.what_came() == "nothing came"
    wanted.hear(b"no\x1b")
    assert wanted.what_came() == r"what came instead ends in: no\x1b"
    wanted.hear(b"ok")
    assert "nothing came after" in wanted.what_came()


def test_what_is_kept_is_bounded() -> None:
    wanted = Expectation(["END"])
    for _ in range(5):
        wanted.hear(bytes(1024 * 1024))
    assert len(wanted._heard) <= 1024 * 1024
    assert wanted.hear(b"END")


@pytest.mark.parametrize("text", ["", "/(/", r"\q"])
def test_what_can_not_be_read_is_told(text: str) -> None:
    with pytest.raises(ConfigError):
        Expectation([text])
