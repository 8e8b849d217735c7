"""The highest rate whose p99 stays within a latency. Owns how the search goes, and when it finds nothing.

It begins with a closed loop, whose rate is a guess only: with few messages in flight a server can do more. From there
it doubles until a rate does not fit, or halves until one does; then it takes the middle of the two (the geometric one,
since rates are compared as ratios) until they are within 5 %. Each try is a run of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from rich.console import Console

from wireway.cli.looking import quantity
from wireway.cli.measuring.asked import Wanted
from wireway.cli.measuring.running import Outcome, insist, measure

__all__ = ["Found", "Verdict", "search"]

CLOSE = 1.05
"""The search ends when the rate above is no more than so many times the one below."""
LEAST = 256
"""A rate of so much less than the closed loop's is not tried."""
ENOUGH = 100
"""Nor is one of which a run has fewer messages: they have no p99."""
MOST = 24
"""Tries at most."""


class Verdict(StrEnum):
    """What a search came to."""

    FOUND = "found"
    NONE = "none"
    """No rate that was tried stays within."""
    CLIENT = "client"
    """The client was the bottleneck where it mattered: a rate may be known that the server holds, not the highest."""
    INTERRUPTED = "interrupted"


@dataclass(slots=True)
class Found:
    """What came of a search."""

    within: float
    """Seconds."""
    runs: list[Outcome]
    """Every one, the closed loop first."""
    best: Outcome | None = None
    """The highest rate that stays within."""
    above: Outcome | None = None
    """The lowest rate above it that does not."""
    verdict: Verdict = Verdict.FOUND


def search(
    wanted: Wanted,
    within: float,
    console: Console | None,
    run: Callable[[Wanted, Console | None, str], Outcome] = measure,
) -> Found:
    """Search.

    :param within: seconds.
    :param run: makes one run.
    :raises OSError: see `measure`.
    :raises Failure: nothing comes back at all.
    """
    first = run(replace(wanted, rate=None), console, "closed loop")
    insist(first)
    found = Found(within, [first])
    if first.interrupted:
        found.verdict = Verdict.INTERRUPTED
        return found
    rate = first.rate
    least = max(ENOUGH / (wanted.duration or 1.0), first.rate / LEAST)
    low: float | None = None
    high: float | None = None
    for _ in range(MOST):
        tried = run(replace(wanted, rate=rate), console, f"{quantity(rate)}/s")
        found.runs.append(tried)
        if tried.interrupted:
            found.verdict = Verdict.INTERRUPTED
            return found
        if tried.sound and tried.held and tried.p99 <= within:
            found.best, low = tried, rate
        else:
            found.above, high = tried, rate
        if low is None:
            rate /= 2
            if rate < least:
                break
        elif high is None:
            rate *= 2
        elif high <= low * CLOSE:
            break
        else:
            rate = math.sqrt(low * high)
    if found.above is None or found.above.bottleneck is not None:
        found.verdict = Verdict.CLIENT
    elif found.best is None:
        found.verdict = Verdict.NONE
    return found
