"""The benchmark runner: builds and installs what is needed, measures in turns, writes the report.

    .venv/bin/python benchmarks/run.py             a full run, under 40 minutes
    .venv/bin/python benchmarks/run.py --quick     about 3 minutes, for a first look
    .venv/bin/python benchmarks/run.py --only 'echo*' --peers 'c-epoll,wireway*' --rounds 3

Owns the command line and the order of things: in each round every workload meets every candidate once,
so a drift of the machine meets all alike. See `harness` for the parts and ``README.md`` for the method.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from harness import environments, machine, syscalls
from harness.environments import MissingError, Prepared
from harness.measure import Settings, count_syscalls, measure
from harness.peers import BENCHMARKS, Peer, all_peers
from harness.process import PeerError
from harness.report import Run, write
from harness.results import Collected
from harness.workloads import WORKLOADS, Workload

REPORT = BENCHMARKS / "report"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="measure Wireway against its peers", allow_abbrev=False)
    parser.add_argument("--only", default="*", metavar="NAMES", help="workloads, comma-separated, * allowed")
    parser.add_argument("--peers", default="*", metavar="NAMES", help="peers, comma-separated, * allowed")
    parser.add_argument("--rounds", type=int, help="times that each is measured (5; quick: 1)")
    parser.add_argument("--seconds", type=float, help="length of one measurement (2; quick: 0.4)")
    parser.add_argument("--quick", action="store_true", help="a first look")
    parser.add_argument(
        "--nice", type=int, default=0, help="priority of both sides; below 0 on a busy machine, as root"
    )
    parser.add_argument("--no-syscalls", action="store_true", help="do not count system calls")
    parser.add_argument("--output", type=Path, default=REPORT, metavar="FOLDER", help="default: benchmarks/report")
    parser.add_argument("--list", action="store_true", help="list workloads and peers, and end")
    options = parser.parse_args()
    for name in ("rounds", "seconds"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            parser.error(f"--{name} must be above 0")
    return options


def chosen(name: str, patterns: str) -> bool:
    """Whether a comma-separated list of patterns names it."""
    return any(fnmatch.fnmatchcase(name, pattern.strip()) for pattern in patterns.split(","))


def selected(only: str, peers: str, quick: bool) -> list[Workload]:
    """The workloads that are wanted, each with the candidates whose peers are wanted."""
    narrowed = [
        replace(workload, candidates=tuple(name for name in workload.candidates if chosen(name.split("/")[0], peers)))
        for workload in WORKLOADS
        if chosen(workload.name, only)
    ]
    return [workload.for_a_first_look() if quick else workload for workload in narrowed if workload.candidates]


def show_list() -> None:
    """What there is."""
    print("workloads")
    for workload in WORKLOADS:
        print(f"  {workload.name:22} {workload.title}")
    print("peers")
    for peer in all_peers().values():
        print(f"  {peer.name:22} {peer.title}")


def run_rounds(run: Run, prepared: Prepared, count_calls: bool) -> None:
    """Measure everything, `run.rounds` times. Ctrl-C ends it and keeps what there is."""
    peers, collected = run.peers, run.collected
    for number in range(1, run.rounds + 1):
        for workload in run.workloads:
            if number > (workload.most_rounds or run.rounds):
                continue
            for candidate in workload.candidates:
                name, mode = candidate.split("/")
                key = (workload.name, candidate)
                if name not in prepared.programs or key in collected.failures:
                    continue
                label = f"[{number}/{run.rounds}] {workload.name:22} {run.title(candidate):42}"
                print(label, end=" ", flush=True)
                try:
                    sample = measure(workload, peers[name], mode, prepared, run.settings)
                    collected.samples.setdefault(key, {})[number] = sample
                    if count_calls and number == 1:
                        calls = count_syscalls(workload, peers[name], mode, prepared)
                        if calls is not None:
                            collected.syscalls[key] = calls
                except PeerError as error:
                    collected.failures[key] = str(error)
                    print(f"failed: {error}")
                    continue
                remark = " generator bound" if sample.generator_bound else ""
                remark += " disturbed" if sample.disturbed else ""
                print(f"{sample.value:14,.0f} {workload.unit}{remark}")


def draw(folder: Path) -> None:
    """The chart; a run without it is still a run."""
    try:
        python = environments.environment(environments.CHART)
    except MissingError as error:
        print(f"no chart: {error}")
        return
    script = BENCHMARKS / "harness" / "chart.py"
    command = [str(python), str(script), str(folder / "report.json"), str(folder / "chart.svg")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"no chart: {done.stderr.strip().splitlines()[-1]}")


def main() -> int:
    """Run; the exit status."""
    options = parse()
    if options.list:
        show_list()
        return 0
    if (os.cpu_count() or 1) < 2:
        print("the benchmarks need two cores: one for the server, one for the load", file=sys.stderr)
        return 1
    peers: dict[str, Peer] = all_peers()
    workloads = selected(options.only, options.peers, options.quick)
    if not workloads:
        print(f"no workload matches --only {options.only} with --peers {options.peers}; see --list", file=sys.stderr)
        return 2
    needed = {candidate.split("/")[0] for workload in workloads for candidate in workload.candidates}
    print("preparing", flush=True)
    try:
        prepared = environments.prepare(peer for name, peer in peers.items() if name in needed)
    except MissingError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        os.setpriority(os.PRIO_PROCESS, 0, options.nice)  # inherited by every server and generator
    except PermissionError:
        print(f"--nice {options.nice} needs root; going on without")
    for name, text in prepared.missing.items():
        print(f"  without {name}: {text}")
    seconds = options.seconds or (0.4 if options.quick else 2.0)
    settings = Settings(seconds, 0.15 if options.quick else 0.3, retry_disturbed=not options.quick)
    run = Run(
        workloads,
        peers,
        prepared.missing,
        Collected(),
        settings,
        options.rounds or (1 if options.quick else 5),
        options.quick,
        machine.describe(),
        syscalls.counter() if not options.no_syscalls else "nobody (--no-syscalls)",
    )
    before, began = machine.times(), time.monotonic()
    interrupted = False
    try:
        run_rounds(run, prepared, not options.no_syscalls)
    except KeyboardInterrupt:
        print("\ninterrupted; the report holds what was measured")
        interrupted = True
    if options.nice:
        run.facts["priority"] = f"nice {options.nice}"
    run.facts["time taken"] = f"{(time.monotonic() - began) / 60:.1f} minutes"
    run.facts["stolen by the host"] = f"{machine.stolen_since(before):.1%}"
    write(run, options.output)
    draw(options.output)
    print(f"report: {options.output / 'report.md'}")
    return 130 if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
