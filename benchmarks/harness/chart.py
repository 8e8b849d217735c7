"""The picture of a report: each workload's rates relative to its reference.

A script with one dependency, pygal, run in an environment of its own::

    python benchmarks/harness/chart.py report.json chart.svg
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

SERIES = (
    "c-epoll",
    "c-io_uring",
    "wireway-epoll",
    "wireway-io_uring",
    "uvloop",
    "uvloop-0.22.1",
    "blazio",
    "rloop",
    "asyncio",
)


def best(workload: dict[str, Any], peer: str) -> float | None:
    """The peer's best figure in a workload, in percent of the reference."""
    ratios = [
        figure["ratio"]
        for figure in workload["figures"]
        if figure["candidate"].split("/")[0] == peer and figure["ratio"] is not None
    ]
    return round(100 * max(ratios), 1) if ratios else None


def main() -> None:
    """Draw."""
    pygal = importlib.import_module("pygal")
    style = importlib.import_module("pygal.style")
    source, target = map(Path, sys.argv[1:3])
    report = json.loads(source.read_text())
    shown = [
        workload
        for workload in report["workloads"]
        if workload["more_is_better"] and workload["figures"] and workload["name"] != "backends"
    ]
    chart = pygal.HorizontalBar(
        title="Rates, in % of each workload's reference (its best way of writing the server)",
        width=1000,
        height=140 + 120 * len(shown),
        style=style.CleanStyle(value_font_size=9, label_font_size=12, major_label_font_size=12),
        legend_at_bottom=True,
        legend_at_bottom_columns=5,
        x_title="%",
        truncate_legend=-1,
        js=(),
    )
    # pygal draws horizontal bars from the bottom up.
    shown.reverse()
    chart.x_labels = [workload["name"] for workload in shown]
    for peer in reversed(SERIES):
        values = [best(workload, peer) for workload in shown]
        if any(value is not None for value in values):
            chart.add(peer, values)
    chart.render_to_file(str(target), disable_xml_declaration=True)


if __name__ == "__main__":
    main()
