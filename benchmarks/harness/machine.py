"""What the figures were taken on: processor, kernel, compilers, and who else was busy."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.peers import BENCHMARKS


@dataclass(frozen=True, slots=True)
class Times:
    """Ticks of all cores since the start of the machine."""

    total: int
    idle: int
    stolen: int


def times() -> Times:
    """Now."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return Times(sum(ticks), ticks[3] + ticks[4], ticks[7])


def stolen_since(earlier: Times) -> float:
    """The share of the time that the host gave to other machines."""
    now = times()
    return (now.stolen - earlier.stolen) / max(1, now.total - earlier.total)


def describe() -> dict[str, str]:
    """Facts for the head of the report."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _first_line("git", "-C", str(BENCHMARKS), "describe", "--always", "--dirty", "--exclude=*"),
        "processor": f"{model}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "compiler": _first_line("cc", "--version"),
        "rust": _first_line("rustc", "--version"),
        "load at the start": " ".join(f"{value:.1f}" for value in os.getloadavg()),
    }


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "missing"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split("\n", 1)[0] or "unknown"
