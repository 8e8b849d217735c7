"""Owns the command line of the conformance run: CPython's own asyncio tests against one loop or several.

    python tests/conformance/run.py                          every back end of wireway
    python tests/conformance/run.py --backend epoll poll     two of them
    python tests/conformance/run.py --loop asyncio           the stock loop, which checks this runner
    python tests/conformance/run.py --only 'test_ssl.*'      some tests (shell pattern, or a part of the name)

The last line is `N passed, N failed`; the exit status is 1 when a test failed that `exceptions.toml` does not name.
"""

from __future__ import annotations

import argparse
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import loops  # noqa: E402

loops.install()  # before any test module is imported

from catalogue import Case, TestPackageMissingError, collect  # noqa: E402
from isolate import Outcome, run_all  # noqa: E402
from table import Row, load_exceptions, write_table  # noqa: E402

DOCS = HERE.parents[1] / "docs" / "reference" / "conformance.md"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run CPython's test_asyncio against an event loop.")
    parser.add_argument("--loop", choices=("wireway", "asyncio", "uvloop"), default="wireway")
    parser.add_argument("--backend", nargs="+", choices=loops.BACKENDS, default=list(loops.BACKENDS))
    parser.add_argument("--jobs", type=int, default=3, help="processes at a time (default 3: most tests wait)")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds a test may take (default 60)")
    parser.add_argument("--only", metavar="PATTERN", help="shell pattern, or a part of the name")
    parser.add_argument(
        "--rerun", action="store_true", help="run what failed once more, alone; what passes then is named"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the tests and stop")
    parser.add_argument("--write", action="store_true", help=f"put the rows into {DOCS.name}")
    parser.add_argument(
        "--verbose", action="store_true", help="a line for each test, and the output of those that pass"
    )
    return parser.parse_args(argv)


def chosen(cases: list[Case], pattern: str | None) -> list[Case]:
    if not pattern:
        return cases
    return [case for case in cases if pattern in case.name or fnmatchcase(case.name, pattern)]


def show(outcome: Outcome, *, verbose: bool) -> None:
    if outcome.bad:
        bar = "=" * 100
        title = f"{outcome.status.upper()}: {outcome.case.name} [{outcome.choice}, {outcome.seconds:.1f} s]"
        print(f"{bar}\n{title}\n{'-' * 100}\n{outcome.detail}\n", flush=True)
    elif verbose:
        print(f"{outcome.status} {outcome.case.name} [{outcome.choice}, {outcome.seconds:.2f} s]", flush=True)
        if outcome.detail:
            print("    " + outcome.detail.replace("\n", "\n    "), flush=True)


def execute(cases: list[Case], choices: list[loops.LoopChoice], options: argparse.Namespace) -> list[Outcome]:
    """Run every case on every choice; with `--rerun`, what failed once more with nothing beside it."""
    outcomes: list[Outcome] = []
    for choice in choices:
        before = time.monotonic()
        mine = []
        for outcome in run_all(((case, choice) for case in cases), options.jobs, options.timeout):
            show(outcome, verbose=options.verbose)
            mine.append(outcome)
        if options.rerun and (again := [outcome for outcome in mine if outcome.bad]):
            second = {o.case.name: o for o in run_all(((o.case, choice) for o in again), 1, options.timeout)}
            for name in [name for name, outcome in second.items() if not outcome.bad]:
                print(f"FLAKY: {name} [{choice}] failed among others and passed alone", flush=True)
            mine = [second.get(outcome.case.name, outcome) if outcome.bad else outcome for outcome in mine]
        outcomes += mine
        bad = sum(outcome.bad for outcome in mine)
        print(f"{choice}: {len(mine)} tests, {bad} not passed, {time.monotonic() - before:.0f} s", flush=True)
    return outcomes


def summary(rows: list[Row]) -> int:
    for row in rows:
        print(
            f"{row.choice} on Python {row.version}: "
            f"mixins {row.passed['mixins']}/{row.total['mixins']}, "
            f"modules {row.passed['modules']}/{row.total['modules']}, "
            f"{row.skipped} skipped by CPython, {len(row.excepted)} excepted, {len(row.failed)} failed"
        )
        for title, outcomes in (
            ("excepted", row.excepted),
            ("excepted, yet passed", row.needless),
            ("FAILED", row.failed),
        ):
            for outcome in outcomes:
                print(f"  {title}: {outcome.case.name}" + (f" ({outcome.status})" if outcome.bad else ""))
    passed = sum(sum(row.passed.values()) for row in rows)
    failed = sum(len(row.failed) for row in rows)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    try:
        cases = chosen(collect(), options.only)
    except TestPackageMissingError as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{case.group} {case.name}" for case in cases))
        return 0
    backends = options.backend if options.loop == "wireway" else [""]
    choices = [loops.LoopChoice(options.loop, backend) for backend in backends]
    for choice in choices:
        if (why := loops.probe(choice)) is not None:
            print(f"cannot make a loop of {choice} under Python {VERSION}: {why}", file=sys.stderr)
            return 2
    exceptions = load_exceptions(HERE / "exceptions.toml")
    rows = {choice: Row(choice, VERSION) for choice in choices}
    for outcome in execute(cases, choices, options):
        rows[outcome.choice].add(outcome, exceptions)
    if options.write:
        write_table(DOCS, rows.values(), exceptions)
    return summary(list(rows.values()))


if __name__ == "__main__":
    sys.exit(main())
