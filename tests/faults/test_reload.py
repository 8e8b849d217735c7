"""`make reload`, small: a roll and a hot restart under load, of which its clients notice nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.tree import ROOT

pytestmark = pytest.mark.alone


def test_nobody_notices(tmp_path: Path) -> None:
    report = tmp_path / "reload.json"
    command = [sys.executable, "benchmarks/reload.py", "--connections", "40", "--rate", "2000", "--between", "0.5"]
    command += ["--rolls", "1", "--restarts", "1", "--output", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    for name in ("rolls", "restarts"):
        assert found[name]["answered"] == found[name]["sent"] > 500
        assert len(found[name]["pauses_ms"]) == (2 if name == "rolls" else 1)
