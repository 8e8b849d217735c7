"""The runner itself: how each kind of ending is told apart, what is named, and what the table keeps."""

from __future__ import annotations

import os
import signal
import sys
import time
import unittest
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from catalogue import Case
from isolate import Outcome, run_all
from loops import LoopChoice
from table import BEGIN, END, Named, Row, load_exceptions, write_table

STOCK = LoopChoice("asyncio")
OURS = LoopChoice("wireway", "epoll")


class Endings(unittest.TestCase):
    """One method for each way a test can end; never collected, only run in a child."""

    __test__ = False

    def passes(self) -> None:
        assert not list(Path.cwd().iterdir())
        Path("left-behind").touch()

    def fails(self) -> None:
        print("printed before")
        self.fail("told why")

    def skips(self) -> None:
        self.skipTest("not here")

    def hangs(self) -> None:
        time.sleep(1000)  # ended by the runner's deadline

    def crashes(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def leaves(self) -> None:
        os._exit(3)


def case(method: str, group: str = "modules") -> Case:
    return Case(f"endings.{method}", group, Endings, method)


def run(*methods: str, timeout: float = 30.0) -> dict[str, Outcome]:
    return {o.case.method: o for o in run_all([(case(method), STOCK) for method in methods], 2, timeout)}


def test_each_ending_is_told_apart() -> None:
    outcomes = run("passes", "fails", "skips", "crashes", "leaves", "passes")
    statuses = {method: outcome.status for method, outcome in outcomes.items()}
    assert statuses == {
        "passes": "passed",
        "fails": "failed",
        "skips": "skipped",
        "crashes": "crash",
        "leaves": "crash",
    }
    assert "told why" in outcomes["fails"].detail
    assert "printed before" in outcomes["fails"].detail
    assert "SIGSEGV" in outcomes["crashes"].detail
    assert "status 3" in outcomes["leaves"].detail


def test_a_hang_ends_at_its_deadline_with_a_stack() -> None:
    outcome = run("hangs", timeout=2.0)["hangs"]
    assert outcome.status == "timeout"
    assert "in hangs" in outcome.detail


def test_an_exception_is_named_and_one_not_needed_is_told() -> None:
    row = Row(OURS, "3.11")
    entries = [Named("endings.fails", "because", python=("3.11",)), Named("endings.passes", "was broken")]
    for method, status in (("fails", "failed"), ("passes", "passed"), ("hangs", "timeout"), ("skips", "skipped")):
        row.add(Outcome(case(method), OURS, status, 0.0), entries)
    assert [o.case.method for o in row.excepted] == ["fails"]
    assert [o.case.method for o in row.needless] == ["passes"]
    assert [o.case.method for o in row.failed] == ["hangs"]
    assert row.cells() == "| wireway epoll | 3.11 | 0 of 0 | 1 of 3 | 1 | 1 | 1 |"


def test_an_exception_covers_its_versions_and_loops_only() -> None:
    entry = Named("endings.*", "because", python=("3.11",), loops=("wireway sigio",))
    outcome = Outcome(case("fails"), LoopChoice("wireway", "sigio"), "failed", 0.0)
    assert entry.covers(outcome, "3.11")
    assert not entry.covers(outcome, "3.12")
    assert not entry.covers(Outcome(case("fails"), OURS, "failed", 0.0), "3.11")


def test_the_table_keeps_the_rows_of_other_runs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    write_table(page, [Row(STOCK, "3.11"), Row(OURS, "3.13")], [])
    write_table(page, [Row(OURS, "3.11")], [Named("endings.fails", "because")])
    rows = [line.split("|")[1:3] for line in page.read_text().splitlines() if " of " in line]
    assert rows == [[" wireway epoll ", " 3.11 "], [" wireway epoll ", " 3.13 "], [" asyncio ", " 3.11 "]]
    assert "`endings.fails` (Python all; wireway*): because" in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")


def test_an_exception_without_a_reason_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "exceptions.toml"
    path.write_text('[[exception]]\ntest = "a.b"\n')
    with pytest.raises(ValueError, match="reason"):
        load_exceptions(path)
