"""A program replaced under load: `make reload`. Rolls of workers, then hot restarts, and what the clients saw of them.

Owns the course of one run, and the clients: each numbers its messages, has its answers checked one by one, and never
connects again. `peers/reloaded.py` is the server, which counts for each connection and echoes: its count and the
number must be the same, so a message that is handled twice, or never, shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wireway
from harness import machine
from harness.peers import BENCHMARKS, SOURCES
from harness.process import free_port

HEAD = struct.Struct("!IQQ")
"""Bytes that follow, the number of the message, and what the server has counted: 0 on the way there."""
TICK = 0.01
"""Seconds between two bursts; each connection is in one of several in turn."""


class ReloadError(Exception):
    """It could not be measured. The text is one line for people."""


class Load(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.number = self.answered = 0
        self.left = b""
        self.sent: deque[float] = deque()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended, which it must not before the end of all."""
        self.run.ended(exc)

    def send(self, now: float) -> None:
        """One message more."""
        assert self.transport is not None
        self.number += 1
        self.sent.append(now)
        self.transport.write(HEAD.pack(self.run.size - 4, self.number, 0) + self.run.padding)

    def data_received(self, data: bytes) -> None:
        """Answers, in any pieces."""
        data = self.left + data
        size, now = self.run.size, time.monotonic()
        whole = len(data) - len(data) % size
        for at in range(0, whole, size):
            length, number, counted = HEAD.unpack_from(data, at)
            self.answered += 1
            if (length, number, counted) != (size - 4, self.answered, self.answered):
                self.run.wrong += 1
                self.run.wrongs.append((self.answered, number, counted))
            self.run.late(now - self.sent.popleft())
        self.left = data[whole:]


class Run:
    """The clients of one server, and what they saw."""

    def __init__(self, connections: int, rate: float, size: int) -> None:
        self.rate, self.size = rate, size
        self.padding = bytes(size - HEAD.size)
        self.loads = [Load(self) for _ in range(connections)]
        self.wrong = 0
        self.wrongs: deque[tuple[int, int, int]] = deque(maxlen=10)
        self.lost: Counter[str] = Counter()
        self.delays: Counter[int] = Counter()
        """Milliseconds, rounded up: how many answers."""
        self.over = False
        self.behind = 0.0

    def ended(self, error: Exception | None) -> None:
        """A connection ended."""
        if not self.over:
            self.lost[repr(error)] += 1

    def late(self, seconds: float) -> None:
        """An answer came after so long."""
        self.delays[int(seconds * 1000) + 1] += 1

    async def connect(self, port: int) -> None:
        """Open all, some at a time."""
        loop = asyncio.get_running_loop()
        for at in range(0, len(self.loads), 100):
            await asyncio.gather(
                *(
                    loop.create_connection(lambda load=load: load, "127.0.0.1", port)
                    for load in self.loads[at : at + 100]
                )
            )

    async def drive(self, until: asyncio.Event) -> float:
        """Send at the rate until told; returns the rate that it was."""
        turns = max(1, round(len(self.loads) / (self.rate * TICK)))
        each = max(1, round(self.rate * TICK * turns / len(self.loads)))
        began = due = time.monotonic()
        turn = sent = 0
        while not until.is_set():
            now = time.monotonic()
            for load in self.loads[turn % turns :: turns]:
                if load.transport is not None and not load.transport.is_closing():
                    for _ in range(each):
                        load.send(now)
                    sent += each
            turn += 1
            due += TICK
            self.behind = max(self.behind, time.monotonic() - due)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        return sent / (time.monotonic() - began)

    async def settle(self) -> None:
        """Wait for the last answers, ten seconds at most, and part."""
        give_up = time.monotonic() + 10
        while any(load.sent for load in self.loads) and time.monotonic() < give_up:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        self.over = True
        for load in self.loads:
            if load.transport is not None:
                load.transport.abort()

    def figures(self) -> dict[str, Any]:
        """What was seen."""
        sent, answered = sum(load.number for load in self.loads), sum(load.answered for load in self.loads)
        return {
            "sent": sent,
            "answered": answered,
            "lost": max(0, sent - answered),
            "wrong": self.wrong,
            "examples": list(self.wrongs),
            "disconnects": self.lost.total(),
            "errors": dict(self.lost),
            "delay_p50_ms": self._percentile(0.5),
            "delay_p99_ms": self._percentile(0.99),
            "delay_p999_ms": self._percentile(0.999),
            "delay_most_ms": max(self.delays, default=0),
            "generator_behind_ms": round(self.behind * 1000),
        }

    def _percentile(self, part: float) -> int:
        left = part * self.delays.total()
        for delay in sorted(self.delays):
            left -= self.delays[delay]
            if left <= 0:
                return delay
        return 0


class Program:
    """The server, which becomes another process now and then."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        self.port = free_port()
        self.log = folder / f"log-{workers}"
        command = [sys.executable, str(SOURCES / "reloaded.py"), str(self.port), str(folder), str(workers)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        self.seen = 0

    def started(self) -> list[int]:
        """The processes that serve or served, in order."""
        path = self.folder / f"started-{self.workers}"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait for it, a minute at most."""
        give_up = time.monotonic() + 60
        while not holds():
            if time.monotonic() > give_up:
                raise ReloadError(f"{what}: {self.log.read_text()[-2000:]}")
            await asyncio.sleep(0.01)

    async def replace(self) -> None:
        """One roll, or one hot restart."""
        before = len(self.started())
        if self.workers:
            rolls = self.log.read_text().count("every worker was replaced")
            self.process.send_signal(signal.SIGHUP)
            done = lambda: self.log.read_text().count("every worker was replaced") > rolls  # noqa: E731
            await self.until(done, "the workers were not replaced")
        else:
            os.kill(self.started()[-1], signal.SIGUSR2)
            await self.until(lambda: len(self.started()) > before, "the program was not replaced")

    def pauses(self) -> list[float]:
        """How long the connections stood still, milliseconds, each time."""
        found = re.findall(r"stood still for ([\d.]+) s; (\d+) stay", self.log.read_text())
        if stayed := sum(int(count) for _, count in found):
            raise ReloadError(f"{stayed} connections did not move: {self.log.read_text()[-2000:]}")
        return [round(float(seconds) * 1000, 1) for seconds, _ in found]

    def end(self) -> None:
        """End it, whichever process it is now."""
        for pid in {self.process.pid, *self.started()[-1:]}:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


async def phase(options: argparse.Namespace, folder: Path, workers: int, times: int) -> dict[str, Any]:
    """Replace one server so often, under load."""
    program = Program(folder, workers)
    run = Run(options.connections, options.rate, options.size)
    try:
        await program.until(lambda: len(program.started()) >= max(1, workers), "the server did not start")
        await run.connect(program.port)
        over = asyncio.Event()
        driving = asyncio.ensure_future(run.drive(over))
        await asyncio.sleep(options.between)
        for _ in range(times):
            await program.replace()
            await asyncio.sleep(options.between)
        over.set()
        rate = await driving
        await run.settle()
    finally:
        program.end()
    return {"replaced": times, "workers": workers, "rate": round(rate), "pauses_ms": program.pauses(), **run.figures()}


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = []
    for name in ("rolls", "restarts"):
        it = result[name]
        lines.append(
            f"{it['replaced']} {name}: {result['connections']} connections, {it['rate']} messages a second, "
            f"{it['sent']} sent; lost {it['lost']}, wrong {it['wrong']}, disconnects {it['disconnects']}; "
            f"answers after {it['delay_p50_ms']} ms (half), {it['delay_p99_ms']} ms (99 %), "
            f"{it['delay_most_ms']} ms (the latest); stood still for {max(it['pauses_ms'], default=0)} ms at most"
        )
    return "\n".join(lines)


async def reload(options: argparse.Namespace) -> dict[str, Any]:
    """Both phases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rolls = await phase(options, folder, options.workers, options.rolls)
        restarts = await phase(options, folder, 0, options.restarts)
    return {
        "machine": machine.describe(),
        "connections": options.connections,
        "wanted_rate": options.rate,
        "size": options.size,
        "rolls": rolls,
        "restarts": restarts,
    }


def main() -> None:
    """Run it, print the table, write the JSON. Exit status: 0 nobody noticed, 1 somebody did, or it failed."""
    parser = argparse.ArgumentParser(description="replace a program under load")
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=50_000, help="messages a second, over all (default 50000)")
    parser.add_argument("--size", type=int, default=100, help="bytes of a message with its header (default 100)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rolls", type=int, default=10)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--between", type=float, default=2.0, help="seconds between two replacements (default 2)")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "report" / "reload.json")
    options = parser.parse_args()
    if min(options.connections, options.rate, options.workers) < 1 or options.size < HEAD.size or options.between <= 0:
        parser.error(f"all must be above 0, and --size at least {HEAD.size}")
    try:
        result = wireway.run(reload(options))
    except ReloadError as error:
        sys.exit(f"reload: {error}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    bad = sum(result[name][kind] for name in ("rolls", "restarts") for kind in ("lost", "wrong", "disconnects"))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
