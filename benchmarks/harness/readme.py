"""The table in the project's README, made from a report. Knows the JSON of a report and nothing else.

python benchmarks/harness/readme.py benchmarks/report/report.json README.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

BEGIN, END = "<!-- bench:start -->", "<!-- bench:end -->"
PEERS = {
    "C epoll": "c-epoll",
    "asyncio": "asyncio",
    "uvloop 0.23": "uvloop",
    "blazio 0.1": "blazio",
    "uvicorn": "uvicorn",
    "granian": "granian",
}
OURS = {
    "framed-server": ("server-plain", "server-async"),
    "memory": ("server-plain", "protocol-raw"),
    "framed-limits": ("server-limits",),
    "metrics": ("server-metrics",),
}
"""The modes of ours to show, where it is not simply the one that the peers have."""
NAMES = {
    "server-plain": "`Server`, plain function",
    "server-async": "`Server`, `async def`",
    "server-raw": "`Server`, raw",
    "server-limits": "`Server`, plain function",
    "server-metrics": "`Server`, plain function",
    "server-events": "`Server`, plain function",
    "server-broadcast": "`Server.broadcast`",
    "server-heartbeat": "`Server`, heartbeat",
    "server-tls": "`Server`, plain function",
    "protocol-raw": "`asyncio.Protocol`",
    "protocol-framed": "`asyncio.Protocol`",
    "streams-framed": "streams",
    "web": "`WebServer`",
}


def table(report: dict[str, Any]) -> list[str]:
    """One line for each workload and mode of ours: ratios of the rounds' medians, io_uring and epoll."""
    lines = [
        "| workload | ours | io_uring, epoll | " + " | ".join(f"to {title}" for title in PEERS) + " |",
        "|---|---|---:|" + "---:|" * len(PEERS),
    ]
    for workload in report["workloads"]:
        samples = workload["samples"]
        modes = OURS.get(workload["name"]) or sorted(
            {name.split("/")[1] for name in samples if name.startswith("wireway-io_uring/")}
        )
        if workload["name"] == "backends":
            continue
        for mode in modes:
            ours = [samples.get(f"wireway-{backend}/{mode}") for backend in ("io_uring", "epoll")]
            if not all(ours):
                continue
            values = ", ".join(_short(median(_values(rounds))) for rounds in ours if rounds)
            cells = [workload["title"], NAMES.get(mode, "loop"), f"{values} {workload['unit']}"]
            for peer in PEERS.values():
                theirs = next((samples[name] for name in _names(peer, mode) if name in samples), None)
                cells.append(", ".join(_ratio(rounds, theirs) for rounds in ours if rounds) if theirs else "")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _names(peer: str, mode: str) -> list[str]:
    """What the peer is called in a report: the same mode, or the nearest it has."""
    nearest = {
        "server-plain": ("framed", "streams-framed"),
        "server-async": ("framed", "streams-framed"),
        "server-limits": ("framed",),
        "server-tls": ("streams-tls",),
        "server-broadcast": ("broadcast", "protocol-broadcast"),
        "server-heartbeat": ("heartbeat", "protocol-heartbeat"),
    }
    if mode in ("server-broadcast", "server-heartbeat"):
        peer = peer.replace("c-epoll", "c-epoll-many")
    return [f"{peer}/{name}" for name in (mode, *nearest.get(mode, ()), "framed" if "framed" in mode else "raw")]


def _values(rounds: dict[str, Any]) -> list[float]:
    return [sample["value"] for sample in rounds.values()]


def _ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    ratios = [ours[number]["value"] / theirs[number]["value"] for number in ours if number in theirs]
    return f"{median(ratios):.2f}" if ratios else "-"


def _short(value: float) -> str:
    return f"{value / 1e6:.2f} M" if value >= 1e6 else f"{value / 1e3:.1f} k" if value >= 1e3 else f"{value:.0f}"


def main() -> None:
    """Put the table between the two marks."""
    report = json.loads(Path(sys.argv[1]).read_text())
    readme = Path(sys.argv[2])
    before, rest = readme.read_text().split(BEGIN)
    after = rest.split(END)[1]
    facts = report["facts"]
    how = (
        f"{report['rounds']} rounds on {facts['processor']}, kernel {facts['kernel']}, Python {facts['python']}, "
        f"load {facts['load at the start']} at the start; a ratio is the median of the rounds' "
        "ratios, more is better except for memory and the processor time of heartbeats. "
        "All peers and figures: [the report](benchmarks/report/report.md)."
    )
    readme.write_text("\n".join([before + BEGIN, "", *table(report), "", how, "", END]) + after)


if __name__ == "__main__":
    main()
