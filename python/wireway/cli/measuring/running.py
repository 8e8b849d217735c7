"""Runs of load: one with a progress bar, several to find the highest rate within a latency.

Owns when there is a verdict: where the client was the bottleneck, there is none.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from wireway._native import LoadRun
from wireway.cli.looking import quantity
from wireway.cli.measuring.asked import Wanted

__all__ = ["Outcome", "measure", "search"]

SATURATED = 0.95
"""The share of the time from which on the generator's thread counts as the limit."""
LATE = 0.001
"""Seconds: when a hundredth of the messages left later than that, it was the generator who was late."""
_STEPS = 8
"""Steps of the search; each halves what is not known."""


@dataclass(slots=True)
class Outcome:
    """What came of one run."""

    wanted: Wanted
    figures: dict[str, Any]

    @property
    def rate(self) -> float:
        """Messages a second that came back."""
        seconds: float = self.figures["seconds"]
        return self.figures["messages"] / seconds if seconds else 0.0

    @property
    def bottleneck(self) -> str | None:
        """Why the client was the bottleneck, if it was."""
        if self.figures["busy"] >= SATURATED:
            return f"the client's thread was busy for {self.figures['busy']:.0%} of the time"
        if self.wanted.rate is not None and self.figures["late_p99"] > LATE:
            return f"the client sent late: p99 {self.figures['late_p99'] * 1e3:.1f} ms"
        return None

    @property
    def holds(self) -> bool:
        """Open: whether the server answered all that was meant to leave, but for one in a hundred."""
        intended: int = self.figures["intended"]
        return not self.figures["errors"] and self.figures["messages"] >= 0.99 * intended


def measure(wanted: Wanted, console: Console | None, label: str = "") -> Outcome:
    """One run. Ctrl-C ends it and keeps what there is.

    :param console: where the progress bar is drawn, if it is a terminal; None: nowhere.
    :raises OSError: no connection could be made, or all were lost.
    """
    run = LoadRun(wanted.as_dict())
    outcome: list[dict[str, Any]] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(run.run())
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that asked
            failed.append(error)
        finally:
            ended.set()

    # Not `Thread.join`: one that Ctrl-C interrupts takes the thread for ended (CPython 3.11).
    ended = threading.Event()
    threading.Thread(target=work, daemon=True).start()
    try:
        _show(run, ended, wanted, console, label)
    except KeyboardInterrupt:
        run.stop()
    ended.wait()
    if failed:
        raise failed[0]
    return Outcome(wanted, outcome[0])


def _show(run: LoadRun, ended: threading.Event, wanted: Wanted, console: Console | None, label: str) -> None:
    if console is None or not console.is_terminal:
        ended.wait()
        return
    total = wanted.warm_up + wanted.duration
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label or "load", total=total, now="")
        before, passed = 0, 0.0
        while not ended.wait(0.2):
            connected, messages = run.progress()
            if messages:
                passed = min(total, passed + 0.2)
            now = f"{connected:,} connections  {quantity((messages - before) / 0.2)} messages/s"
            before = messages
            progress.update(task, completed=passed, now=now)


def search(wanted: Wanted, within: float, console: Console | None) -> tuple[Outcome | None, list[Outcome]]:
    """The highest rate whose p99 stays within so many seconds, and every run that was made to find it.

    The closed loop tells the highest that is worth trying. Each try is a run of its own, with the whole duration.
    None where not even a hundredth of that is within.

    :raises OSError: see `measure`.
    """
    first = measure(replace(wanted, rate=None), console, "closed loop")
    tries = [first]
    low, high = 0.0, first.rate
    best: Outcome | None = None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle < max(1.0, first.rate / 100):
            break
        tried = measure(replace(wanted, rate=middle), console, f"{quantity(middle)}/s")
        tries.append(tried)
        if tried.holds and tried.figures["percentiles"][99.0] <= within:
            low, best = middle, tried
        else:
            high = middle
    return best, tries
