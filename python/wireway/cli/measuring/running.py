"""One run of load, with a progress bar, and what its figures are worth.

Owns when there is a verdict: where the client was the bottleneck, there is none.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from wireway._native import LoadRun
from wireway.cli.failing import Exit, Failure
from wireway.cli.looking import quantity
from wireway.cli.measuring.asked import Wanted

__all__ = ["Outcome", "insist", "measure"]

SATURATED = 0.95
"""The share of the time from which on the generator's thread counts as the limit."""
LATE = 0.001
"""Seconds: when a hundredth of the messages left later than that, it was the generator who was late."""
BACKLOG = 0.1
"""Seconds: with a rate that is held, no more than what was meant to leave in that time is on its way at the end; in
short runs no more than a quarter of all."""


@dataclass(slots=True)
class Outcome:
    """What came of one run."""

    wanted: Wanted
    figures: dict[str, Any]
    interrupted: bool = False

    @property
    def rate(self) -> float:
        """Messages a second that came back."""
        seconds: float = self.figures["seconds"]
        return self.figures["messages"] / seconds if seconds else 0.0

    @property
    def p99(self) -> float:
        """Seconds."""
        found: float = self.figures["latency"]["percentiles"]["p99"]
        return found

    @property
    def bottleneck(self) -> str | None:
        """Why the client was the bottleneck, if it was."""
        busy, waited = self.figures["busy"], self.figures["waited"]
        if busy >= SATURATED:
            return f"the client's thread was busy for {busy:.0%} of the time"
        if self.wanted.rate is None:
            if busy + waited >= SATURATED:
                return f"the client's thread was busy for {busy:.0%} of the time and had no processor for {waited:.0%}"
            return None
        late: float = self.figures["lateness"]["p99"]
        # What is a small part of the latencies did not make them.
        if late > max(LATE, self.p99 / 10):
            return f"the client sent late: p99 {late * 1e3:.1f} ms"
        return None

    @property
    def went_wrong(self) -> bool:
        """Whether an answer or a connection was not as it should be."""
        return bool(self.figures["errors"]) or self.figures["ended"] is not None

    @property
    def sound(self) -> bool:
        """Whether nothing went wrong, and every message was answered."""
        return not (self.went_wrong or self.figures["unanswered"] or self.figures["not_sent"])

    @property
    def held(self) -> bool | None:
        """Open: whether the server answered as fast as it was asked. None: nobody can say, it was interrupted early."""
        if self.wanted.rate is None or not self.figures["seconds"]:
            return None
        intended: int = self.figures["intended"]
        behind: int = intended - self.figures["messages"]
        return behind <= max(0.01 * intended, min(BACKLOG * self.wanted.rate, intended / 4), 1.0)


def measure(wanted: Wanted, console: Console | None = None, label: str = "load") -> Outcome:
    """One run. Ctrl-C ends it and keeps what there is.

    :param console: where the progress bar is drawn, if it is a terminal; None: nowhere.
    :raises OSError: no connection could be made, or all were lost before anything came back.
    :raises Failure: the message can not be sent so.
    :raises KeyboardInterrupt: a second Ctrl-C.
    """
    try:
        run = LoadRun(wanted.native())
    except ValueError as error:
        raise Failure(f"the message can not be sent: {error}", Exit.USAGE) from None
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
    interrupted = False
    try:
        threading.Thread(target=work, daemon=True).start()
        _show(run, ended, wanted, console, label)
    except KeyboardInterrupt:
        interrupted = True
        run.stop()
    ended.wait()
    if interrupted and (failed or not outcome[0]["seconds"]):
        typer.echo("Interrupted before anything was measured.", err=True)
        raise KeyboardInterrupt
    if failed:
        raise failed[0]
    return Outcome(wanted, outcome[0], interrupted)


def insist(outcome: Outcome) -> None:
    """Refuse a run in which nothing came back: there is nothing to be shown of it.

    :raises Failure: so it was.
    """
    if outcome.figures["messages"] or outcome.interrupted:
        return
    errors = {text: count for text, count in outcome.figures["errors"].items() if not text.startswith("no answer")}
    why = max(errors, key=lambda text: errors[text]) if errors else "does it answer, in this framing?"
    raise Failure(f"{outcome.wanted.target.url}: no answer came: {why}", Exit.UNREACHABLE)


def _show(run: LoadRun, ended: threading.Event, wanted: Wanted, console: Console | None, label: str) -> None:
    if console is None or not console.is_terminal:
        ended.wait()
        return
    console.width -= 4  # room for the ^C that the terminal writes behind it
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=1.0, now="connecting")
        before, since, last = 0, None, time.monotonic()
        while not ended.wait(0.2):
            connected, messages = run.progress()
            now = time.monotonic()
            if messages and since is None:
                since = now
            done = [0.0]
            if since is not None and wanted.duration is not None:
                done.append((now - since) / (wanted.warm_up + wanted.duration))
            if wanted.count is not None:
                done.append(messages / wanted.count)
            speed = quantity((messages - before) / (now - last))
            before, last = messages, now
            text = f"{speed} messages/s  {connected:,} connections" if messages else f"{connected:,} connections"
            progress.update(task, completed=min(1.0, max(done)), now=text)
