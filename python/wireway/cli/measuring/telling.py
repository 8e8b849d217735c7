"""The figures of a run: for people, as JSON, as CSV, as a picture."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from wireway.cli.failing import Exit, Failure
from wireway.cli.looking import quantity, span
from wireway.cli.measuring.running import Outcome

__all__ = ["as_dict", "check_picture", "draw", "show", "write_csv"]


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """For programs. Times in seconds."""
    figures = dict(outcome.figures)
    figures["percentiles"] = {f"p{share:g}": value for share, value in figures["percentiles"].items()}
    figures["errors"] = dict(figures["errors"])
    return {
        "options": outcome.wanted.as_dict(),
        "rate": outcome.rate,
        "bottleneck": outcome.bottleneck,
        **figures,
    }


def show(outcome: Outcome, console: Console) -> None:
    """For people."""
    wanted, figures = outcome.wanted, outcome.figures
    how = (
        f"{wanted.in_flight} in flight on each" if wanted.rate is None else f"{quantity(wanted.rate)} messages/s meant"
    )
    console.print(
        f"{figures['connected']:,} connections in {span(figures['connecting'])}, {how}, "
        f"{wanted.size:,} B, {_framing(wanted.framing)}, {figures['seconds']:.1f} s"
    )
    console.print()
    speed = outcome.rate * figures["frame"]
    console.print(
        f"  {quantity(outcome.rate)} messages/s    {quantity(speed)}B/s each way    {figures['messages']:,} messages"
    )
    if wanted.rate is not None:
        console.print(f"  {figures['intended']:,} were meant to leave; latency counts from then")
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 2))
    names = [f"p{share:g}" if share < 100 else "max" for share in figures["percentiles"]]
    for name in names:
        table.add_column(name, justify="right")
    table.add_row(*(span(value) for value in figures["percentiles"].values()))
    console.print(table)
    for text, count in figures["errors"]:
        console.print(f"  [red]{count:,}[/red] times: {text}")
    if outcome.bottleneck is not None:
        console.print(f"\n  [yellow]No verdict: {outcome.bottleneck}. The server may do more.[/yellow]")


def _framing(framing: tuple[Any, ...]) -> str:
    match framing:
        case ("length", width, little):
            return f"length:{width}{':le' if little else ''}"
    return str(framing[0])


def write_csv(outcomes: list[Outcome], path: Path) -> None:
    """A line for each run."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = ("connections", "in_flight", "size")
        shares = list(outcomes[0].figures["percentiles"])
        writer.writerow(
            [*names, "intended_rate", "rate", "messages", "errors", *(f"p{share:g}" for share in shares), "bottleneck"]
        )
        for outcome in outcomes:
            figures = outcome.figures
            writer.writerow(
                [
                    *(getattr(outcome.wanted, name) for name in names),
                    "" if outcome.wanted.rate is None else f"{outcome.wanted.rate:.1f}",
                    f"{outcome.rate:.1f}",
                    figures["messages"],
                    sum(count for _, count in figures["errors"]),
                    *(f"{figures['percentiles'][share]:.9f}" for share in shares),
                    outcome.bottleneck or "",
                ]
            )


def check_picture(path: Path) -> None:
    """Whether `draw` can draw there: asked before the measurement, not after it.

    :raises Failure: matplotlib is not there, or the file is of another kind.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise Failure(f"{path}: a picture is .png or .svg", Exit.USAGE)
    if importlib.util.find_spec("matplotlib") is None:
        raise Failure("a picture needs matplotlib: pip install 'wireway[plots]'", Exit.MISSING)


def draw(outcomes: list[Outcome], path: Path) -> None:
    """Latency by percentile, and messages by second, as PNG or SVG.

    :raises Failure: see `check_picture`.
    """
    check_picture(path)
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for outcome in outcomes:
        label = "closed loop" if outcome.wanted.rate is None else f"{quantity(outcome.wanted.rate)}/s"
        total, seen = sum(count for _, count in outcome.figures["histogram"]), 0
        across, up = [], []
        for value, count in outcome.figures["histogram"]:
            seen += count
            # As HDR histograms are drawn: each further nine has the same room.
            across.append(1 / (1 - seen / total) if seen < total else total)
            up.append(value * 1e3)
        left.plot(across, up, label=label)
        whole = outcome.figures["each_second"][: max(1, int(outcome.figures["seconds"]))]
        right.plot(range(1, len(whole) + 1), [rate / 1e3 for rate in whole], marker=".", label=label)
    left.set(xscale="log", yscale="log", xlabel="percentile", ylabel="latency, ms", title="Latency")
    left.set_xticks([2, 10, 100, 1000, 10_000], ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"])
    right.set(xlabel="second", ylabel="thousand messages", title="Messages in each second", ylim=(0, None))
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.savefig(path)
    pyplot.close(figure)
