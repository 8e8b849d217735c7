"""What a wait costs on each back end while others are idle: `make waits`. A minute and a half.

    .venv/bin/python benchmarks/waits.py                        writes benchmarks/report/waits.json and waits.svg
    .venv/bin/python benchmarks/waits.py --idle 10,100 --rounds 1

For each back end and each number of idle connections a fresh server; in it two figures: the processor time of a turn in
which nothing happens, and of an echo to one client that asks and waits. Rounds are interleaved.
Owns the course and the picture; the server is `peers/idle.py`.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness import machine
from harness.peers import BENCHMARKS, SOURCES
from harness.process import pinned

REPORT = BENCHMARKS / "report"
BACKENDS = ("select", "poll", "sigio", "epoll", "io_uring")
FD_SETSIZE = 1024
OWN = 24
"""Descriptors that a server needs besides the connections."""
MESSAGE = b"x" * 99 + b"\n"


def main() -> None:
    """Measure, print the table, write the report and the picture."""
    parser = argparse.ArgumentParser(description="what a wait costs beside idle connections", allow_abbrev=False)
    parser.add_argument("--idle", default="10,100,1000,10000", help="idle connections, comma-separated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4, help="of echoes, each time")
    parser.add_argument("--output", type=Path, default=REPORT, metavar="FOLDER")
    options = parser.parse_args()
    counts = [int(word) for word in options.idle.split(",")]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if max(counts) + OWN > hard:
        parser.error(f"{max(counts)} idle connections need more descriptors than the {hard} allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    samples: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    for number in range(options.rounds):
        for idle in counts:
            for backend in BACKENDS:
                if backend == "select" and idle + OWN > FD_SETSIZE:
                    continue
                sample = measured(backend, idle, options.seconds)
                samples[backend, idle].append(sample)
                print(f"round {number + 1} {backend:>9} {idle:>6} idle: {sample}", flush=True)
    report = {
        "machine": machine.describe(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "figures": [
            {"backend": backend, "idle": idle, **{key: statistics.median(s[key] for s in all_) for key in all_[0]}}
            for (backend, idle), all_ in samples.items()
        ],
        "calls": {backend: calls(backend) for backend in BACKENDS} if shutil.which("strace") else {},
    }
    (options.output / "waits.json").write_text(json.dumps(report, indent=1) + "\n")
    draw(report, options.output / "waits.svg")


@contextmanager
def server(backend: str) -> Iterator[tuple[int, int]]:
    """A server on core 0: its port and its process."""
    process = subprocess.Popen(
        [sys.executable, str(SOURCES / "idle.py"), backend], stdout=subprocess.PIPE, text=True, preexec_fn=pinned(0)
    )
    try:
        assert process.stdout is not None
        ready, port, pid = process.stdout.readline().split()
        assert ready == "ready"
        yield int(port), int(pid)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def measured(backend: str, idle: int, seconds: float) -> dict[str, float]:
    """One sample: microseconds of the server's processor time."""
    with server(backend) as (port, pid), ExitStack() as stack:
        for _ in range(idle):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        echoes(client, 0.1)
        client.sendall(b"turns %d\n" % (20_000 if idle < 1000 else 1_000))
        turn = float(client.recv(100))
        before = processor(pid)
        count = echoes(client, seconds)
        return {"turn_us": turn, "echo_us": (processor(pid) - before) / count * 1e6, "echoes": count / seconds}


def echoes(client: socket.socket, seconds: float) -> int:
    """Ask and wait, again and again."""
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        client.sendall(MESSAGE)
        answer = client.recv(4096)
        while len(answer) < len(MESSAGE):
            answer += client.recv(4096)
        assert answer == MESSAGE
        count += 1
    return count


def processor(pid: int) -> float:
    """Seconds that a process has had of its cores."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def calls(backend: str) -> list[str]:
    """The system calls of one echo beside ten idle connections, as strace shows them."""
    with server(backend) as (port, pid), ExitStack() as stack, tempfile.NamedTemporaryFile("r") as said:
        for _ in range(10):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        echoes(client, 0.1)
        strace = subprocess.Popen(["strace", "-q", "-s", "8", "-o", said.name, "-p", str(pid)])
        while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
            time.sleep(0.01)
        for _ in range(20):
            echoes(client, 0)  # warm, so that the loop stands where it always does
            client.sendall(MESSAGE)
            client.recv(4096)
        strace.terminate()
        strace.wait(10)
        lines = said.read().splitlines()
    # The loop's steady state: from after one send to after the next.
    ends = [number for number, line in enumerate(lines) if 'xxxxxxxx"' in line and line.startswith(("send", "write"))]
    if ends:
        return lines[ends[-3] + 1 : ends[-2] + 1]
    waits = [number for number, line in enumerate(lines) if re.match(r"io_uring_enter\(\d+, 0,", line)]
    return lines[waits[-3] : waits[-2]]


def draw(report: dict[str, Any], path: Path) -> None:
    """Both figures over the number of idle connections, both axes logarithmic. Readable on light and on dark."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mark = "#010203"  # becomes the colour of the page's text
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "wireway", "font.size": 11, "text.color": mark})
    mpl.rcParams.update({"axes.edgecolor": mark, "axes.labelcolor": mark, "xtick.color": mark, "ytick.color": mark})
    colours = dict(zip(BACKENDS, ("#c2410c", "#b7791f", "#9f46c2", "#2b8a3e", "#2f74d0"), strict=True))
    figure, both = pyplot.subplots(1, 2, figsize=(9.2, 4.1), sharex=True)
    for axes, key, title in zip(
        both, ("turn_us", "echo_us"), ("a turn in which nothing happens", "an echo of 100 bytes"), strict=True
    ):
        for backend in BACKENDS:
            points = sorted((each["idle"], each[key]) for each in report["figures"] if each["backend"] == backend)
            axes.plot(*zip(*points, strict=True), marker="o", color=colours[backend], label=backend, linewidth=2)
        axes.set(xscale="log", yscale="log", title=title, xlabel="idle connections beside it")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    both[0].set_ylabel("processor time, µs")
    both[0].legend(frameon=False)
    figure.patch.set_alpha(0)
    for axes in both:
        axes.patch.set_alpha(0)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    style = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}</style>"
    text = path.read_text().replace(mark, "currentColor")
    head, tag, rest = text.partition("<defs>")
    path.write_text(head + style + "\n " + tag + rest)


if __name__ == "__main__":
    main()
