"""Groups, users, broadcasts and counts over all workers, with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from wireway import Lines, Server

CHILD = Path(__file__).with_name("totals_child.py")
LIMIT = 30.0


def until(condition: Callable[[], object]) -> None:
    """Wait for something that other processes do."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


class Client:
    """A connection, and whose process it is."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._lines = self.sock.makefile("rb")
        self.pid = int(self.ask("who"))

    def line(self) -> str:
        found = self._lines.readline()
        assert found, "closed"
        return found.decode().strip()

    def ask(self, command: str) -> str:
        self.sock.sendall(command.encode() + b"\n")
        return self.line()

    def total(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("total"))
        assert found["accepted"] == found["open"] + sum(found["closed"].values()), found
        return found

    def workers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ask("workers"))
        return found

    def close(self) -> None:
        self._lines.close()
        self.sock.close()


class Program:
    """Two workers, and clients of both."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.process = subprocess.Popen([sys.executable, str(CHILD), str(folder), "2"], stderr=subprocess.PIPE)
        self.clients: list[Client] = []
        until(lambda: len(self.started()) >= 2 or self.process.poll() is not None)
        assert self.process.poll() is None

    def started(self) -> list[tuple[int, int]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(int(line.split()[1]), int(line.rpartition(":")[2])) for line in lines]

    def client(self) -> Client:
        self.clients.append(Client(self.started()[0][1]))
        return self.clients[-1]

    def of_both(self) -> tuple[list[Client], list[Client]]:
        """At least two clients of each of two workers; the kernel deals them out."""
        for _ in range(200):
            by_pid: dict[int, list[Client]] = {}
            for each in self.clients:
                by_pid.setdefault(each.pid, []).append(each)
            if len(by_pid) == 2 and min(len(each) for each in by_pid.values()) >= 2:
                one, two = by_pid.values()
                return one, two
            self.client()
        raise AssertionError("one worker gets no connection")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The program; it is ended with the test, and its workers with it."""
    found = Program(tmp_path)
    yield found
    for each in found.clients:
        each.close()
    for pid, _ in found.started():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    found.process.terminate()
    try:
        found.process.communicate(timeout=LIMIT)
    finally:
        found.process.kill()


def test_groups_users_and_broadcasts_reach_every_worker(program: Program) -> None:
    here, there = program.of_both()
    sender, near, far = here[0], here[1], there[0]
    for each in (sender, near, far):
        assert each.ask("join red") == "done"
    for each in (near, far):
        assert each.ask("user ann") == "done"
    # The number is this process's own, and the sender is excluded.
    assert sender.ask("say red hello") == "1"
    assert near.line() == far.line() == "hello"
    assert sender.ask("tell ann you") == "1"
    assert near.line() == far.line() == "you"
    assert far.ask("tell ann back") == "back"
    assert (far.line(), near.line()) == ("1", "back")
    # In order, once each, and never back to the sender: its next line is the answer.
    for number in range(200):
        assert sender.ask(f"say red {number}") == "1"
    assert [far.line() for _ in range(200)] == [near.line() for _ in range(200)] == [str(n) for n in range(200)]
    assert sender.ask("all everybody") == str(len(here) - 1)
    assert {each.line() for each in program.clients if each is not sender} == {"everybody"}


def test_totals_balance_when_workers_are_killed_and_rolled(program: Program) -> None:
    here, there = program.of_both()
    asker, victims = here[0], there
    everybody = len(program.clients)
    assert (asker.total()["accepted"], asker.total()["open"]) == (everybody, everybody)
    assert {(each["pid"], each["state"], each["generation"]) for each in asker.workers()} == {
        (here[0].pid, "serving", 1),
        (there[0].pid, "serving", 1),
    }
    os.kill(victims[0].pid, signal.SIGKILL)
    until(lambda: len(program.started()) == 3)
    total = asker.total()
    assert total["closed"].get("worker-lost") == len(victims)
    assert (total["accepted"], total["open"]) == (everybody, len(here))
    until(lambda: sorted(each["generation"] for each in asker.workers() if each["state"] == "serving") == [1, 2])
    program.process.send_signal(signal.SIGHUP)
    until(lambda: len(program.started()) == 5)
    until(lambda: len(asker.workers()) == 2)
    moved = asker.total()
    assert moved["open"] == len(here)
    assert moved["closed"]["handed-over"] == moved["adopted"] > 0
    for each in program.clients:
        each.close()
    late = program.client()
    until(lambda: late.total()["open"] == 1)
    total = late.total()
    assert total["accepted"] - total["adopted"] == everybody + 1
    assert total["closed"]["worker-lost"] == len(victims)


def test_a_stopped_worker_is_silent_and_counts_with_its_last_numbers(program: Program) -> None:
    here, there = program.of_both()
    asker, stopped = here[0], there[0].pid
    everybody = asker.total()["open"]
    os.kill(stopped, signal.SIGSTOP)
    states = {each["pid"]: (each["state"], each["stats"]["open"]) for each in asker.workers()}
    assert states[stopped] == ("silent", len(there))
    assert states[asker.pid] == ("serving", len(here))
    assert asker.total()["open"] == everybody
    os.kill(stopped, signal.SIGCONT)
    until(lambda: {each["state"] for each in asker.workers()} == {"serving"})


def test_without_workers_it_is_this_process(run: Run) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0", framing=Lines())
        server.on_message(lambda _conn, _message: None)
        (info,) = await server.workers()
        assert (info.number, info.state) == (0, "starting")
        async with server:
            (info,) = await server.workers()
            assert (info.number, info.pid, info.state, info.missed) == (0, os.getpid(), "serving", 0)
            assert await server.total_stats() == server.stats == info.stats

    run(main)
