"""The search for the highest rate, with servers that are formulas: how it converges, and when it says nothing."""

from __future__ import annotations

import pytest

from support.measuring import WANTED, figures
from wireway.cli.measuring.asked import Wanted
from wireway.cli.measuring.running import Outcome
from wireway.cli.measuring.searching import Found, Verdict, search


class Server:
    """It holds `capacity` a second with a p99 of 1 ms; above it is slow. `client`: what the client can do."""

    def __init__(self, capacity: float, closed: float, client: float = 1e12) -> None:
        self.capacity, self.closed, self.client = capacity, closed, client
        self.interrupt_at = 0
        self.runs = 0

    def __call__(self, wanted: Wanted, console: object, label: str) -> Outcome:
        self.runs += 1
        interrupted = self.runs == self.interrupt_at
        if wanted.rate is None:
            return Outcome(wanted, figures(self.closed, 0, 0.001), interrupted)
        if wanted.rate > self.client:
            late = figures(self.client, wanted.rate, 0.5, busy=1.0, lateness={"p99": 0.4})
            return Outcome(wanted, late, interrupted)
        slow = wanted.rate > self.capacity
        got = figures(min(wanted.rate, self.capacity), wanted.rate, 2.0 if slow else 0.001)
        return Outcome(wanted, got, interrupted)


def found(server: Server, within: float = 0.01) -> Found:
    return search(WANTED, within, None, server)


@pytest.mark.parametrize("capacity", [1_000.0, 77_777.0, 99_999.0, 100_001.0, 400_000.0, 12_345_678.0])
def test_it_comes_within_five_per_cent(capacity: float) -> None:
    got = found(Server(capacity, closed=100_000))
    assert got.verdict is Verdict.FOUND
    assert got.best is not None
    rate = got.best.wanted.rate
    assert rate is not None
    assert capacity / 1.05 <= rate <= capacity
    assert len(got.runs) <= 16


def test_a_rate_within_which_nothing_stays() -> None:
    got = found(Server(1e9, closed=100_000), within=0.0001)
    assert (got.verdict, got.best) == (Verdict.NONE, None)
    assert all(each.wanted.rate is None or each.wanted.rate > 300 for each in got.runs)


def test_there_is_no_verdict_where_the_client_is_the_bottleneck() -> None:
    got = found(Server(1e9, closed=100_000, client=300_000))
    assert got.verdict is Verdict.CLIENT
    assert got.best is not None
    assert 280_000 < (got.best.wanted.rate or 0) <= 300_000
    got = found(Server(1e9, closed=100_000, client=10))
    assert (got.verdict, got.best) == (Verdict.CLIENT, None)


def test_the_client_above_what_the_server_holds_does_not_matter() -> None:
    got = found(Server(150_000, closed=100_000, client=180_000))
    assert got.verdict is Verdict.FOUND


def test_a_server_that_has_no_limit_ends_it_too() -> None:
    got = found(Server(float("inf"), closed=100))
    assert got.verdict is Verdict.CLIENT
    assert len(got.runs) < 30


@pytest.mark.parametrize("at", [1, 2, 4])
def test_ctrl_c_ends_the_search(at: int) -> None:
    server = Server(150_000, closed=100_000)
    server.interrupt_at = at
    got = found(server)
    assert (got.verdict, len(got.runs)) == (Verdict.INTERRUPTED, at)
