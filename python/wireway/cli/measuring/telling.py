"""The figures of a run, for people in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wireway.cli.looking import quantity
from wireway.cli.measuring.running import Outcome
from wireway.cli.measuring.searching import Found, Verdict
from wireway.framing.names import framing_name

__all__ = ["latencies", "precise", "show", "show_search"]


def precise(seconds: float) -> str:
    """A latency in three digits: 535 µs, 1.02 ms, 12.3 s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{_three(seconds / size)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _three(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def latencies(outcome: Outcome) -> dict[str, float]:
    """Those that are shown, seconds."""
    latency = outcome.figures["latency"]
    return {"mean": latency["mean"], **latency["percentiles"], "max": latency["max"]}


def show(outcome: Outcome, console: Console) -> None:
    """All of it."""
    wanted, figures = outcome.wanted, outcome.figures
    unit = "requests" if wanted.target.http else "messages"
    what = wanted.target.request if wanted.target.http else f"{len(wanted.message):,} B, {framing_name(wanted.framing)}"
    how = (
        f"closed loop, {wanted.in_flight:,} in flight on each"
        if wanted.rate is None
        else f"open loop, {quantity(wanted.rate)} {unit}/s meant"
    )
    made = f"{figures['connected']:,}"
    if figures["connected"] < wanted.connections:
        made += f" of {wanted.connections:,}"
    console.print(f"{wanted.target.url}: {escape(what)}, {how}", soft_wrap=True)
    threads = f", {wanted.threads} threads" if wanted.threads > 1 else ""
    console.print(f"{made} connections made in {precise(figures['connecting'])}{threads}")
    console.print()
    console.print(f"  {quantity(outcome.rate)} {unit}/s    {figures['messages']:,} in {figures['seconds']:.3g} s")
    seconds = figures["seconds"] or 1.0
    sent, received = (quantity(figures[way] / seconds) for way in ("sent", "received"))
    console.print(f"  {sent}B/s out, {received}B/s in")
    if wanted.rate is not None:
        console.print(f"  {figures['intended']:,} were meant to leave; latency counts from then")
    if figures["statuses"]:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in figures["statuses"].items())
        console.print(f"  responses by status: {statuses}")
    console.print()
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in latencies(outcome).items():
        table.add_row(name, precise(value))
    console.print(table)
    _complain(outcome, console, unit)


def _complain(outcome: Outcome, console: Console, unit: str) -> None:
    wanted, figures = outcome.wanted, outcome.figures
    lines = []
    for text, count in sorted(figures["errors"].items(), key=lambda pair: -pair[1]):
        lines.append(f"[red]{count:,}[/red] {'time' if count == 1 else 'times'}: {escape(text)}")
    if figures["unanswered"]:
        lines.append(f"[red]{figures['unanswered']:,}[/red] {unit} were not answered; they count with what they waited")
    if figures["not_sent"]:
        lines.append(f"[red]{figures['not_sent']:,}[/red] {unit} did not leave: two million were under way")
    if figures["reconnected"]:
        lines.append(f"{figures['reconnected']:,} connections were made again after the server had ended them")
    if figures["ended"] is not None:
        lines.append(f"[red]It ended early: {escape(figures['ended'])}[/red]")
    if outcome.interrupted:
        lines.append("Interrupted: these are the figures so far.")
    if outcome.held is False and outcome.bottleneck is None:
        lines.append(f"[red]The rate was not held: {quantity(outcome.rate)} {unit}/s came back.[/red]")
    if outcome.bottleneck is not None:
        so = (
            "The server may do more"
            if wanted.rate is None
            else "The latencies are the client's as well as the server's"
        )
        lines.append(f"[yellow]No verdict: {outcome.bottleneck}. {so}.[/yellow]")
    if lines:
        console.print()
    for line in lines:
        console.print(f"  {line}", soft_wrap=True)


def show_search(found: Found, console: Console) -> None:
    """The tries, and the verdict."""
    limit = precise(found.within)
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("asked for", "came back", "p99", ""):
        table.add_column(name, justify="left" if not name else "right")
    for each in found.runs:
        asked = "closed loop" if each.wanted.rate is None else f"{quantity(each.wanted.rate)}/s"
        table.add_row(asked, f"{quantity(each.rate)}/s", precise(each.p99), _why(each, found.within))
    console.print(table)
    best = found.best.wanted.rate if found.best is not None else None
    unit = "requests" if found.runs[0].wanted.target.http else "messages"
    match found.verdict:
        case Verdict.FOUND:
            text = f"{best:,.0f} {unit}/s is the highest rate with p99 within {limit}; 5 % more are too many."
        case Verdict.NONE:
            least = min(found.runs[1:], key=lambda each: each.wanted.rate or 0)
            text = f"No rate was found whose p99 stays within {limit}; at {quantity(least.wanted.rate or 0)}/s it was "
            text += f"{precise(least.p99)}."
        case Verdict.CLIENT if best is not None:
            text = f"No verdict: at least {best:,.0f} {unit}/s with p99 within {limit}; "
            text += "the client was the bottleneck beyond."
        case Verdict.CLIENT:
            text = "No verdict: the client was the bottleneck at every rate that was tried."
        case Verdict.INTERRUPTED:
            known = "" if best is None else f"; at least {best:,.0f} {unit}/s stay within {limit}"
            text = f"Interrupted{known}."
    console.print(f"\n  {text}", soft_wrap=True)


def _why(outcome: Outcome, within: float) -> str:
    if outcome.wanted.rate is None:
        return ""
    if outcome.sound and outcome.held and outcome.p99 <= within:
        return "within"
    if outcome.bottleneck is not None:
        return "the client was the bottleneck"
    if outcome.figures["errors"]:
        return escape(next(iter(outcome.figures["errors"])))
    return "too slow" if outcome.held else "not held"
