"""Metrics and health of several processes: one dies, all are replaced, and no counter goes back."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

LIMIT = 60.0


class Program:
    """`wireway serve echo --workers 2 --metrics 0`, or a program with other words."""

    def __init__(self, folder: Path, words: list[str] | None = None) -> None:
        command = ["serve", "echo", "--port", "0", "--framing", "length", "--workers", "2", "--metrics", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wireway", *(words or command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        )
        assert self.process.stdout is not None
        banner = ""
        while "stop it" not in banner:
            line = self.process.stdout.readline()
            assert line, banner
            banner += line
        self.port = int(re.search(r"address +tcp://127.0.0.1:(\d+)", banner)[1])  # type: ignore[index]
        self.url = re.search(r"metrics +(http://[\d.:]+)/metrics", banner)[1]  # type: ignore[index]
        self.highest: dict[tuple[str, ...], float] = {}
        self.scrapes = 0

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=LIMIT) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def scrape(self) -> dict[tuple[str, ...], float]:
        """Every value; a total that is lower than before, or that is not there any more, fails the test."""
        status, text = self.get("/metrics")
        assert status == 200
        self.scrapes += 1
        values, totals = {}, {}
        for family in parse(text):
            for sample in family.samples:
                key = (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "server"))
                values[key] = sample.value
                if family.type in ("counter", "histogram") and "worker" not in sample.labels:
                    totals[key] = sample.value
        for key, value in self.highest.items():
            assert totals.get(key, -1) >= value, f"{key} was {value}, and is {totals.get(key)}"
        self.highest = totals
        return values

    def talk(self, times: int) -> None:
        for _ in range(times):
            with socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT) as sock:
                sock.sendall(b"\0\0\0\2hi")
                assert sock.recv(6) == b"\0\0\0\2hi"

    def until(self, condition: Callable[[dict[tuple[str, ...], float]], object]) -> dict[tuple[str, ...], float]:
        end = time.monotonic() + LIMIT
        while not condition(values := self.scrape()):
            assert time.monotonic() < end, values
        return values

    def worker(self, number: int) -> int:
        """The process of one of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[number])


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    running = Program(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.terminate()
    running.process.communicate(timeout=LIMIT)
    assert running.process.returncode == 0


def test_nothing_goes_back(program: Program) -> None:
    def up(values: dict[tuple[str, ...], float]) -> bool:
        return values.get(("wireway_worker_up", "1")) == values.get(("wireway_worker_up", "2")) == 1

    program.until(up)
    assert program.get("/readyz")[0] == 200
    program.talk(20)
    values = program.scrape()
    assert values["wireway_connections_accepted_total",] == 20
    assert values["wireway_messages_received_total",] == 20
    assert values["wireway_handler_duration_seconds_count",] == 20
    assert ("process_cpu_seconds_total",) not in values

    os.kill(program.worker(0), signal.SIGKILL)
    program.until(lambda values: 2.0 in (values.get(("wireway_worker_generation", n)) for n in "12") and up(values))
    program.talk(10)
    assert program.scrape()["wireway_connections_accepted_total",] == 30

    before = program.scrapes
    program.process.send_signal(signal.SIGHUP)
    program.until(lambda values: sum(values.get(("wireway_worker_generation", n), 0) for n in "12") == 5 and up(values))
    assert program.scrapes - before > 3
    program.talk(10)
    assert program.get("/readyz")[0] == 200
    values = program.scrape()
    assert values["wireway_connections_accepted_total",] - values["wireway_connections_adopted_total",] == 40
    assert values["wireway_connections_open",] == 0


def test_a_worker_that_is_stopped_and_all_that_drain(program: Program) -> None:
    program.until(lambda values: values.get(("wireway_worker_up", "2")) == values.get(("wireway_worker_up", "1")) == 1)
    stopped = program.worker(0)
    os.kill(stopped, signal.SIGSTOP)
    end = time.monotonic() + LIMIT
    while program.get("/readyz")[0] == 200:
        assert time.monotonic() < end
    assert f"process {stopped}) is silent" in program.get("/readyz")[1]
    assert program.get("/livez") == (200, "ok\n")
    os.kill(stopped, signal.SIGCONT)
    while program.get("/readyz")[0] != 200:
        assert time.monotonic() < end

    with socket.create_connection(("127.0.0.1", program.port), timeout=LIMIT) as sock:
        sock.sendall(b"\0\0\0\2hi")
        assert sock.recv(6) == b"\0\0\0\2hi"
        sock.settimeout(LIMIT)
        program.process.terminate()
        sock.recv(1)  # the end: it drains


TWO = """
[[listeners]]
name = "one"
service = "echo"
address = "tcp://127.0.0.1:0"
framing = "length:4"
workers = 2

[[listeners]]
name = "two"
service = "echo"
address = "tcp://127.0.0.1:0"

[metrics]
address = "tcp://127.0.0.1:0"
"""


def test_listeners_with_fewer_workers_are_told_by_every_answer(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    file.write_text(TWO)
    program = Program(tmp_path, ["serve", "--config", str(file)])
    try:
        program.until(
            lambda values: values.get(("wireway_worker_up", "2")) == values.get(("wireway_worker_up", "1")) == 1
        )
        for _ in range(20):
            _, text = program.get("/metrics")
            [open_now] = [family for family in parse(text) if family.name == "wireway_connections_open"]
            assert len({sample.labels["server"] for sample in open_now.samples}) == 2
            assert {'wireway_worker_up{worker="1"} 1.0', 'wireway_worker_up{worker="2"} 1.0'} <= set(text.splitlines())
        assert program.get("/readyz")[0] == 200
    finally:
        program.process.terminate()
        program.process.communicate(timeout=LIMIT)
    assert program.process.returncode == 0
