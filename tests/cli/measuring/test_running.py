"""What the figures of a run are worth: whether a rate was held, and whether the client was the bottleneck."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.measuring import WANTED, figures
from wireway.cli.measuring.running import Outcome

OPEN = replace(WANTED, rate=1000.0)


def test_a_closed_loop_is_bound_by_the_client_when_its_thread_had_no_time_left() -> None:
    def said(**others: Any) -> str | None:
        return Outcome(WANTED, figures(1, 0, 0.001, **others)).bottleneck

    assert said(busy=0.5) is None
    assert said(busy=0.9, lateness={"p99": 1.0}) is None  # a closed loop is never late
    assert "busy for 97%" in str(said(busy=0.97))
    assert "no processor for 30%" in str(said(busy=0.66, waited=0.3))


def test_an_open_loop_is_bound_by_the_client_when_it_sent_late() -> None:
    def said(p99: float, late: float, **others: Any) -> str | None:
        return Outcome(OPEN, figures(1, 1, p99, lateness={"p99": late}, **others)).bottleneck

    assert said(0.001, 0.0005) is None
    assert "sent late: p99 2.0 ms" in str(said(0.004, 0.002))
    assert said(0.2, 0.002) is None  # a hundredth of the latencies did not make them
    assert said(0.001, 0.0, waited=0.9) is None  # it looks without sleeping: that it would like to is nothing
    assert "busy for 96%" in str(said(0.001, 0.0, busy=0.96))


def test_whether_a_rate_was_held() -> None:
    def held(messages: int, intended: int) -> bool | None:
        return Outcome(OPEN, figures(messages, intended, 0.001)).held

    assert held(1000, 1000) is True
    assert held(900, 1000) is True  # a tenth of a second of it is still on its way
    assert held(899, 1000) is False
    assert held(9_900, 10_000) is True
    assert held(9_899, 10_000) is False
    assert held(75, 100) is True
    assert held(74, 100) is False
    assert Outcome(WANTED, figures(1, 0, 0.001)).held is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"errors": {"reset by the server": 1}},
        {"unanswered": 1},
        {"not_sent": 1},
        {"ended": "every connection was lost"},
    ],
)
def test_a_run_in_which_something_went_wrong_is_not_sound(wrong: dict[str, Any]) -> None:
    assert Outcome(WANTED, figures(1, 1, 0.001)).sound
    assert not Outcome(WANTED, figures(1, 1, 0.001, **wrong)).sound
