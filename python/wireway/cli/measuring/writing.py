"""The figures of runs in files and for programs: JSON, CSV, and the percentile file of HdrHistogram."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, TextIO

import wireway
from wireway.cli.measuring.running import Outcome
from wireway.cli.measuring.searching import Found

__all__ = ["as_dict", "search_as_dict", "write_csv", "write_hgrm"]


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """For programs. Times in seconds."""
    return {
        "wireway": wireway.__version__,
        "options": outcome.wanted.as_dict(),
        "rate": outcome.rate,
        "held": outcome.held,
        "bottleneck": outcome.bottleneck,
        "interrupted": outcome.interrupted,
        **outcome.figures,
    }


def search_as_dict(found: Found) -> dict[str, Any]:
    """For programs: the verdict, and every run."""
    return {
        "within": found.within,
        "verdict": found.verdict.value,
        "highest": None if found.best is None else found.best.wanted.rate,
        "runs": [as_dict(outcome) for outcome in found.runs],
    }


def _row(outcome: Outcome) -> dict[str, Any]:
    wanted, figures, latency = outcome.wanted, outcome.figures, outcome.figures["latency"]
    times = {"min": latency["min"], "mean": latency["mean"], **latency["percentiles"], "max": latency["max"]}
    return {
        "url": wanted.target.url,
        "connections": wanted.connections,
        "in_flight": "" if wanted.rate is not None else wanted.in_flight,
        "size": len(wanted.message),
        "intended_rate": "" if wanted.rate is None else f"{wanted.rate:.1f}",
        "rate": f"{outcome.rate:.1f}",
        "seconds": f"{figures['seconds']:.3f}",
        "messages": figures["messages"],
        "unanswered": figures["unanswered"],
        "errors": sum(figures["errors"].values()),
        **{name: f"{value:.9f}" for name, value in times.items()},
        "bottleneck": outcome.bottleneck or "",
    }


def write_csv(outcomes: list[Outcome], file: TextIO) -> None:
    """A line for each run."""
    rows = [_row(outcome) for outcome in outcomes]
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)


def write_hgrm(outcome: Outcome, path: Path) -> None:
    """Percentiles as HdrHistogram's `outputPercentileDistribution` writes them, milliseconds: for its plotter."""
    latency = outcome.figures["latency"]
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    for value, share, within in latency["distribution"]:
        nines = f"{1 / (1 - share):14.2f}" if share < 1 else f"{'inf':>14}"
        lines.append(f"{value * 1e3:12.6f} {share:2.12f} {within:10d} {nines}")
    lines += [
        f"#[Mean    = {latency['mean'] * 1e3:12.6f}, StdDeviation   = {latency['stdev'] * 1e3:12.6f}]",
        f"#[Max     = {latency['max'] * 1e3:12.6f}, Total count    = {latency['count']:12d}]",
        "#[Buckets =           32, SubBuckets     =         2048]",
    ]
    path.write_text("\n".join(lines) + "\n")
