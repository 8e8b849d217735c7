"""Where the reports of the benchmarks are, and how their machine is named. Knows none of their figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["REPORT", "facts", "read"]

REPORT = Path(__file__).resolve().parents[2] / "benchmarks" / "report"


def read(name: str) -> Any:
    """A report."""
    return json.loads((REPORT / name).read_text())


def facts(of: dict[str, str]) -> str:
    """Where and when something was measured."""
    load = of["load at the start"].split()[0]
    where = f"{of['processor']}, kernel {of['kernel']}, Python {of['python']}"
    return f"{where}; load before: {load}; {of['date'].split()[0]}"
