"""What stands before a line."""

from __future__ import annotations

from wireway.cli.talking.stamps import Stamps


def test_the_seconds_since_the_message_before() -> None:
    times = iter([100.0, 100.25, 101.0, 101.5])
    stamps = Stamps(frozenset({"elapsed"}), lambda: next(times))
    assert stamps.message() == "+0.000000 "
    assert stamps.message() == "+0.250000 "
    assert stamps.note() == ""
    assert stamps.message() == "+0.750000 "


def test_the_time_of_day_stands_first() -> None:
    stamps = Stamps(frozenset({"clock", "elapsed"}), lambda: 1_000_000_000.1234)
    clock, since, rest = stamps.message().split(" ")
    assert clock.endswith(":40.123")
    assert (since, rest) == ("+0.000000", "")
    assert stamps.note() == f"{clock} "
    assert Stamps(frozenset()).message() == ""
