"""More workers against one: `make scale`. Framed echo, 64 connections, 16 in flight, 100 B, a Python handler.

Owns the course of the runs. Every core that the workers leave is the generators'; where none is left they share, and
the table says so: then the ratio is a floor of what a machine with more cores gives.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import environments, machine
from harness.peers import BENCHMARKS, SOURCES
from harness.process import STARTING, PeerError, free_port

GENERATORS = 2
"""One could be the bottleneck of two workers."""


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description="measure several workers against one")
    parser.add_argument("--workers", type=int, default=2, help="against one (default 2)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "report" / "scale.json")
    options = parser.parse_args()
    if options.workers < 2 or options.rounds < 1 or options.seconds <= 0:
        parser.error("--workers must be 2 or more, --rounds 1 or more, --seconds above 0")
    try:
        generator = environments.build_generator()
        rounds = [
            {count: rate(options, generator, count) for count in (1, options.workers)} for _ in range(options.rounds)
        ]
    except (PeerError, environments.MissingError) as error:
        sys.exit(f"scale: {error}")
    ratios = [each[options.workers] / each[1] for each in rounds]
    cores = len(os.sched_getaffinity(0))
    result = {
        "machine": machine.describe(),
        "workers": options.workers,
        "cores": cores,
        "shared": cores < options.workers + GENERATORS,
        "rounds": rounds,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    for count in (1, options.workers):
        print(f"{count} workers: {statistics.median(each[count] for each in rounds):,.0f} messages/s")
    where = "shared with the load" if result["shared"] else "the load has its own"
    print(f"ratio {result['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {cores} cores, {where}")


def rate(options: argparse.Namespace, generator: Path, workers: int) -> float:
    """Messages a second of so many workers.

    :raises PeerError: the server does not start, or something came back wrong.
    """
    port = free_port()
    command = [sys.executable, str(SOURCES / "echo.py"), "--loop", "wireway", "--mode", "server-plain"]
    command += ["--port", str(port), "--backend", options.backend, "--workers", str(workers)]
    with ExitStack() as stack:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
        stack.callback(_stop, server)
        assert server.stdout is not None
        for _ in range(workers):
            readable, _, _ = select.select([server.stdout], [], [], STARTING)
            if not readable or not server.stdout.readline().startswith(b"ready"):
                raise PeerError(f"{workers} workers did not start within {STARTING:g} s")
        load = [str(generator), "framed", "--port", str(port), "--connections", "32", "--depth", "16"]
        load += ["--seconds", str(options.seconds), "--warmup", "0.5"]
        running = [subprocess.Popen(load, stdout=subprocess.PIPE) for _ in range(GENERATORS)]
        answers: list[dict[str, Any]] = []
        for each in running:
            said, _ = each.communicate(timeout=60)
            if each.returncode != 0:
                raise PeerError("the generator failed; it says why above")
            answers.append(json.loads(said))
    if any(answer["errors"] for answer in answers):
        raise PeerError(f"wrong answers: {[answer['first_error'] for answer in answers]}")
    return float(sum(answer["rate"] for answer in answers))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


if __name__ == "__main__":
    main()
