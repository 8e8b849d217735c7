"""The descriptor budget: the soft limit is raised at the start, and a line says what will not fit and what to do."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from wireway.net import descriptors
from wireway.net.descriptors import DescriptorBudget, budget, raise_soft_limit, warn_of_what_does_not_fit

CHILD = """
import logging, os, resource, sys
import wireway
from wireway.config import Limits

backend, soft, hard, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) or None
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")

async def main():
    server = wireway.Server("tcp://127.0.0.1:0", limits=Limits(connections=connections))
    server.on_message(lambda conn, message: None)
    async with server:
        print(*resource.getrlimit(resource.RLIMIT_NOFILE))

wireway.run(main(), backend=backend)
"""


def start(backend: str, soft: int, hard: int, connections: int) -> tuple[str, list[str]]:
    """Start a server in a child with these limits: its limits then, and what it logged."""
    words = [sys.executable, "-W", "error", "-c", CHILD, backend, *map(str, (soft, hard, connections))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    (limits,) = [line for line in lines if line[0].isdigit()]
    return limits, [line for line in lines if line != limits]


def test_the_soft_limit_is_raised_to_the_hard_one(backend: str) -> None:
    assert start(backend, 64, 300, 0) == ("300 300", [])


def test_connections_that_fit_are_no_news(backend: str) -> None:
    assert start(backend, 300, 300, 200) == ("300 300", [])


def test_what_will_not_fit_is_told_with_what_to_do(backend: str) -> None:
    limits, (line,) = start(backend, 100, 200, 5000)
    assert limits == "200 200"
    start_of_it, _, remedy = line.partition("; ")
    assert start_of_it.startswith(
        "wireway.server WARNING 5,000 connections are allowed, but there are descriptors for about 1"
    )
    assert "limit 200, in use " in start_of_it
    assert start_of_it.endswith("reserved 24")
    assert remedy == "raise the hard limit: `LimitNOFILE=` of systemd, `--ulimit nofile=` of docker, limits.conf"


def test_a_limit_in_which_nothing_fits_is_told_without_a_limit_of_connections() -> None:
    _, (line,) = start("epoll", 30, 30, 0)
    assert "any number of connections are allowed, but there are descriptors for about 0: limit 30, in use " in line


def test_select_has_a_limit_of_its_own() -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2000:
        pytest.skip("the hard limit of this process is too low")
    _, (line,) = start("select", 2000, 2000, 1500)
    assert "limit 1,024, " in line
    assert line.endswith("; select takes no descriptor from 1,024 up: choose backend='epoll'")


def test_what_there_is_now() -> None:
    before = budget("epoll")
    with Path("/dev/null").open(), Path("/dev/null").open():
        assert budget("epoll").in_use == before.in_use + 2
    assert (before.soft, before.hard) == resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.mark.parametrize(
    ("found", "usable", "room", "remedy"),
    [
        (DescriptorBudget(1024, 4096, 10, "epoll"), 1024, 990, "`ulimit -n 4096` raises it without privileges"),
        (DescriptorBudget(4096, 4096, 10, "epoll"), 4096, 4062, "raise the hard limit: "),
        (DescriptorBudget(4096, 4096, 10, "select"), 1024, 990, "select takes no descriptor from 1,024 up: "),
        (DescriptorBudget(512, 512, 10, "select"), 512, 478, "raise the hard limit: "),
        (DescriptorBudget(30, 30, 10, "epoll"), 30, 0, "raise the hard limit: "),
    ],
)
def test_what_fits(found: DescriptorBudget, usable: int, room: int, remedy: str) -> None:
    assert (found.usable, found.room) == (usable, room)
    assert found.remedy.startswith(remedy)


@pytest.mark.parametrize(("connections", "warned"), [(990, False), (991, True), (None, False)])
def test_the_border(connections: int | None, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_what_does_not_fit(DescriptorBudget(1024, 4096, 10, "epoll"), connections)
    assert [record.levelno for record in caplog.records] == ([logging.WARNING] if warned else [])


def test_a_limit_that_can_not_be_raised_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(descriptors.resource, "setrlimit", refuse)
    raise_soft_limit()
    (record,) = caplog.records
    text = "the soft limit of 1024 descriptors can not be raised to the hard one of 4096: [Errno 1] Operation not"
    assert record.getMessage().startswith(text)
