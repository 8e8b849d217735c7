"""The delays of a client that tries again: how they grow, how they spread, when they begin anew, when they end."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from wireway.errors import ConfigError
from wireway.net.reconnecting import Backoff, Reconnect, delays


def first(count: int, random: float = 0.0, **options: Any) -> list[float]:
    return list(islice(delays(Reconnect(**options), lambda: random), count))


def test_how_they_grow() -> None:
    assert first(8) == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert first(4, factor=3.0, first=1) == [1, 3, 9, 27]
    assert first(4, strategy="linear", first=2, most=7) == [2, 4, 6, 7]
    assert first(3, strategy="fixed", first=2) == [2, 2, 2]
    assert first(3, first=0) == [0, 0, 0]


def test_they_never_overflow() -> None:
    assert list(islice(delays(Reconnect(factor=1e300, most=1e300), lambda: 0.0), 2000))[-1] == 1e300


def test_jitter_only_shortens() -> None:
    assert first(3, random=0.5) == [0.375, 0.75, 1.5]
    assert first(3, random=1.0, jitter=1) == [0, 0, 0]
    assert first(3, random=1.0, jitter=0) == [0.5, 1, 2]
    assert all(0.25 < delay <= 0.5 for delay in (next(delays(Reconnect())) for _ in range(100)))


def test_attempts_end() -> None:
    assert first(10, attempts=3) == [0.5, 1, 2]
    backoff = Backoff(Reconnect(attempts=2), lambda: 0.0)
    assert [backoff.next() for _ in range(4)] == [0.5, 1, None, None]


def test_a_connection_that_held_begins_them_anew() -> None:
    backoff = Backoff(Reconnect(reset_after=10, attempts=4), lambda: 0.0)
    assert [backoff.next(), backoff.next()] == [0.5, 1]
    backoff.opened(100.0)
    backoff.closed(109.9)  # held too short
    assert backoff.next() == 2
    backoff.opened(200.0)
    backoff.closed(210.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1, 2, 4, None]
    backoff.closed(900.0)  # no connection since
    assert backoff.next() is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strategy": "quadratic"}, "strategy is 'quadratic', allowed are"),
        ({"first": -1}, "first is -1, it must be at least 0 seconds"),
        ({"first": True}, "first is True"),
        ({"most": float("inf")}, "most is inf"),
        ({"first": 5, "most": 4}, "most is 4, it must be at least first=5 seconds"),
        ({"factor": 0.5}, "factor is 0.5, it must be at least 1"),
        ({"jitter": 1.1}, "jitter is 1.1, it must be a part of the delay"),
        ({"attempts": 0}, "attempts is 0, it must be at least 1"),
        ({"attempts": 1.5}, "attempts is 1.5"),
        ({"reset_after": "x"}, "reset_after is 'x'"),
        ({"at_start": 1}, "at_start is 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^Reconnect: {text}"):
        Reconnect(**options)
