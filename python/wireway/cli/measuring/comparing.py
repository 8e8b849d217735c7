"""A run beside an earlier one, whose JSON was kept. Owns what makes two runs alike, and says where they are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from wireway.cli.failing import Exit, Failure
from wireway.cli.looking import quantity
from wireway.cli.measuring.running import Outcome
from wireway.cli.measuring.telling import latencies, precise

__all__ = ["read_earlier", "show_beside"]

_OF_NO_MATTER = {"url", "sources", "duration", "count", "warm_up", "timeout"}
"""Options in which two runs may differ and still be compared."""


def read_earlier(path: Path) -> dict[str, Any]:
    """What `wireway bench --json` printed.

    :raises Failure: it is not there, or is something else.
    """
    try:
        found = json.loads(path.read_text())
        if isinstance(found, dict) and "runs" in found:
            raise Failure(f"--compare {path}: that is a search (--within); give a single run", Exit.USAGE)
        options, latency = found["options"], found["latency"]
        numbers = (found["rate"], latency["mean"], latency["max"], *latency["percentiles"].values())
        if not isinstance(options, dict) or not all(isinstance(each, int | float) for each in numbers):
            raise TypeError(path)
    except OSError as error:
        raise Failure(f"--compare {path}: {error.strerror}", Exit.MISSING) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure(
            f"--compare {path}: that is no run: give what `wireway bench --json` printed", Exit.USAGE
        ) from None
    return dict(found)


def show_beside(outcome: Outcome, earlier: dict[str, Any], console: Console) -> None:
    """A table of both, and in what they are not alike."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("", "before", "now", "change"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row(
        "rate", f"{quantity(earlier['rate'])}/s", f"{quantity(outcome.rate)}/s", _change(earlier["rate"], outcome.rate)
    )
    before = {"mean": earlier["latency"]["mean"], **earlier["latency"]["percentiles"], "max": earlier["latency"]["max"]}
    for name, now in latencies(outcome).items():
        if name in before:
            table.add_row(name, precise(before[name]), precise(now), _change(before[name], now))
    console.print()
    console.print(table)
    options = outcome.wanted.as_dict()
    unlike = [
        f"{name} {earlier['options'].get(name)} and {value}"
        for name, value in options.items()
        if name not in _OF_NO_MATTER and earlier["options"].get(name) != value
    ]
    if unlike:
        console.print(f"\n  [yellow]The runs are not alike: {'; '.join(unlike)}.[/yellow]", soft_wrap=True)
    if earlier.get("bottleneck") or outcome.bottleneck:
        console.print(
            "\n  [yellow]The client was the bottleneck in one of them: the servers are not compared.[/yellow]"
        )
    console.print(
        "\n  Each is a single run: repeat both before you trust a difference of a few per cent.", soft_wrap=True
    )


def _change(before: float, now: float) -> str:
    return "" if not before else f"{now / before - 1:+.1%}"
