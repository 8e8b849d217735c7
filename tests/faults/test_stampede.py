"""Workers are killed, stopped and starved of memory under load, again and again; and their log's disk is full.

``WIREWAY_STAMPEDE=30`` makes it last so many seconds (`make stampede`); otherwise it is a few. Which worker and which
fault come at random, from a seed that is printed when it fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import wireway
from wireway import Client, LengthPrefix, Reconnect, Resend

pytestmark = pytest.mark.alone

CHILD = Path(__file__).with_name("stampede_child.py")
SECONDS = float(os.environ.get("WIREWAY_STAMPEDE", "4"))
WORKERS, CLIENTS = 3, 24
LIMIT = 60.0
NO_LIMIT = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
RESEND = Resend(
    seconds=LIMIT,
    message_id=lambda message: message,
    acknowledges=lambda message: message[1:] if message[:1] == b"A" else None,
)


class Service:
    """The server program, seen from outside."""

    def __init__(self, folder: Path, stderr: int) -> None:
        self.folder = folder
        command = [sys.executable, str(CHILD), str(folder), str(WORKERS)]
        self.process = subprocess.Popen(command, stderr=stderr)

    def started(self) -> list[tuple[int, str]]:
        """Process and address of each worker that ever served."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(line.split()[1]), line.split()[2]) for line in lines]

    def alive(self) -> list[int]:
        """Workers that serve, or stand still."""
        return [pid for pid, _ in self.started() if state(pid) not in ("", "Z", "X")]

    async def complete(self) -> None:
        """Wait until every worker serves."""
        await until(lambda: len(self.alive()) == WORKERS or self.process.poll() is not None)
        assert self.process.poll() is None, "the supervisor ended"

    @property
    def url(self) -> str:
        return self.started()[0][1]

    def descriptors(self) -> tuple[int, list[int]]:
        """Of the supervisor, and of each worker."""
        count = [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (self.process.pid, *self.alive())]
        return count[0], count[1:]

    def processes(self) -> list[int]:
        """All that run the program."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if str(self.folder).encode() in (entry / "cmdline").read_bytes() and state(int(entry.name)) != "Z":
                        found.append(int(entry.name))
        return found


async def until(holds: Any) -> None:
    """Wait for something that other processes do."""
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it did not come"
        await asyncio.sleep(0.02)


def state(pid: int) -> str:
    """The letter of proc(5), or nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def address_space(pid: int) -> int:
    """What it has mapped, bytes: with that as its limit it gets no more."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None


@contextlib.asynccontextmanager
async def service(folder: Path, stderr: int) -> AsyncIterator[Service]:
    it = Service(folder, stderr)
    try:
        await it.complete()
        yield it
    finally:
        for pid in (*it.processes(), it.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        it.process.wait()


def client(url: str) -> Client:
    return wireway.connect(
        url, framing=LengthPrefix(4), reconnect=Reconnect(first=0.02, most=0.2, at_start=True), resend=RESEND
    )


async def talk(url: str, number: int, over: asyncio.Event) -> list[bytes]:
    """One request after the other until the stampede is over. Those that were acknowledged."""
    acknowledged = []
    async with client(url) as peer:
        count = 0
        while not over.is_set():
            message = b"%d-%d" % (number, count := count + 1)
            assert await peer.request(message, deadline=LIMIT) == b"A" + message
            acknowledged.append(message)
    return acknowledged


async def total(url: str) -> dict[str, Any]:
    async with client(url) as peer:
        found: dict[str, Any] = json.loads(await peer.request(b"total", deadline=LIMIT))
    assert found["accepted"] == found["open"] + sum(found["closed"].values()), found
    return found


async def harm(it: Service, chance: random.Random) -> str:
    """One fault to one worker."""
    pid, fault = chance.choice(it.alive()), chance.choice(("kill", "stop", "starve"))
    with contextlib.suppress(ProcessLookupError):
        if fault == "kill":
            os.kill(pid, signal.SIGKILL)
        elif fault == "stop":
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(0.05, 0.4))
            os.kill(pid, signal.SIGCONT)
        else:
            resource.prlimit(pid, resource.RLIMIT_AS, (address_space(pid), resource.RLIM_INFINITY))
            await asyncio.sleep(chance.uniform(0.05, 0.4))
            resource.prlimit(pid, resource.RLIMIT_AS, NO_LIMIT)
    await asyncio.sleep(chance.uniform(0, 0.3))
    return fault


def test_a_stampede(tmp_path: Path) -> None:
    async def main() -> None:
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        chance = random.Random(seed)
        words = (tmp_path / "stderr").open("wb")
        with words:
            async with service(tmp_path, words.fileno()) as it:
                supervisor, workers = it.descriptors()
                over = asyncio.Event()
                talks = [asyncio.create_task(talk(it.url, number, over)) for number in range(CLIENTS)]
                faults = []
                end = time.monotonic() + SECONDS
                while time.monotonic() < end or len(set(faults)) < 3:
                    await until(it.alive)
                    faults.append(await harm(it, chance))
                    broken = [task for task in talks if task.done()]
                    assert not broken, broken[0].result()
                over.set()
                acknowledged = [message for each in talks for message in await each]
                await it.complete()
                assert len(acknowledged) > CLIENTS
                done = (tmp_path / "done").read_bytes().split(b"\n")
                assert set(acknowledged) <= set(done), "something acknowledged was not done"

                async def settled() -> dict[str, Any]:
                    while (found := await total(it.url))["open"] > 1:  # noqa: ASYNC110 - its own connection is open
                        await asyncio.sleep(0.05)
                    return found

                found = await asyncio.wait_for(settled(), LIMIT)
                assert found["closed"].get("worker-lost", 0) > 0, "a killed worker's connections are accounted for"
                await until(lambda: it.descriptors()[0] == supervisor)
                await until(lambda: max(it.descriptors()[1]) <= max(workers))
                it.process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(it.process.wait, LIMIT) == 0
                await until(lambda: not it.processes())
                print(len(acknowledged), "acknowledged", {fault: faults.count(fault) for fault in set(faults)})

    wireway.run(main())


def test_a_full_disk_for_logs(tmp_path: Path) -> None:
    """What can not be written is lost; nothing else is."""
    full = os.open("/dev/full", os.O_WRONLY)

    async def main() -> None:
        async with service(tmp_path, full) as it, client(it.url) as peer:
            for number in range(200):
                assert await peer.request(b"%d" % number, deadline=LIMIT) == b"A%d" % number
            before = len(it.started())
            os.kill(it.alive()[0], signal.SIGKILL)  # the supervisor has something to say, too
            await until(lambda: len(it.started()) == before + 1)
            await it.complete()
            assert await peer.request(b"after", deadline=LIMIT) == b"Aafter"
            await peer.close()
            it.process.send_signal(signal.SIGTERM)
            # 120: the interpreter could not flush its standard error at the end (Py_FinalizeEx).
            assert await asyncio.to_thread(it.process.wait, LIMIT) in (0, 120)
            await until(lambda: not it.processes())

    try:
        wireway.run(main())
    finally:
        os.close(full)


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_jumps(run: Any, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """Deadlines are on the monotonic clock (clock_gettime(2)): a day more or less ends nobody."""

    async def main() -> None:
        server = wireway.Server(
            "tcp://127.0.0.1:0",
            framing=LengthPrefix(4),
            timeouts=wireway.Timeouts(idle=30, first_message=30),
            heartbeat=wireway.Heartbeat(every=10, ping=b"ping", pong=b"pong"),
        )
        server.on_message(lambda conn, message: conn.send_nowait(message) and None)
        async with server, wireway.connect(server.addresses[0], framing=LengthPrefix(4)) as peer:
            assert await peer.request(b"before", deadline=10) == b"before"
            real = time.time
            monkeypatch.setattr(time, "time", lambda: real() + jump)
            for number in range(20):
                await asyncio.sleep(0.01)
                assert await peer.request(b"%d" % number, deadline=10) == b"%d" % number
            assert server.stats.open == 1
            assert not server.stats.closed

    run(main)
