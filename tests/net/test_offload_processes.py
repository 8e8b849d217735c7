"""Blocking handlers in processes: others are served meanwhile, and a process that dies takes one connection with it.

What blocks waits at a FIFO that the test opens once it has seen what it wanted to see.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.blocking import handle
from support.peers import Ends, Peer, connected, frame
from wireway import LengthPrefix, Server
from wireway.net.workers import Worker


@pytest.fixture(scope="module", autouse=True)
def fork_server() -> None:
    """Start what multiprocessing keeps for the life of this process, before descriptors are counted."""
    multiprocessing.forkserver.ensure_running()
    multiprocessing.resource_tracker.ensure_running()


@pytest.fixture
def backend() -> str:
    """One back end: a process does not see which, and its thread is that of `test_offload.py`."""
    return "epoll"


@pytest.fixture
def fifos(tmp_path: Path) -> tuple[Path, Path]:
    """A process says in one that it has begun, and is told in the other to go on."""
    paths = tmp_path / "begun", tmp_path / "go-on"
    for path in paths:
        os.mkfifo(path)
    return paths


def make(processes: int = 1, **options: Any) -> tuple[Server, Ends]:
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4), **options)
    assert server.on_message(processes=processes)(handle) is handle
    return server, Ends(server)


async def ask(peer: Peer, message: str) -> str:
    await peer.send(frame(message.encode()))
    return await answer(peer)


async def answer(peer: Peer) -> str:
    size = int.from_bytes(await peer.receive(4), "big")
    return (await peer.receive(size)).decode()


def test_it_runs_elsewhere_and_knows_the_peer(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        async with server, connected(server) as peer:
            number, connection, where = (await ask(peer, "who")).split(" ", 2)
            assert int(number) != os.getpid()
            assert (connection, where) == ("1", str(peer.sock.getsockname()))
        with pytest.raises(ProcessLookupError):
            os.kill(int(number), 0)

    run(main)


def test_while_one_blocks_others_are_answered(run: Run, fifos: tuple[Path, Path]) -> None:
    begun, go_on = fifos

    async def main() -> None:
        server, _ = make(processes=2)
        async with server, connected(server) as slow, connected(server) as quick:
            await slow.send(frame(f"wait {begun} {go_on}".encode()) + frame(b"next"))
            assert await asyncio.to_thread(begun.read_bytes) == b"x"
            for number in range(5):
                assert await ask(quick, f"number {number}") == f"number {number}"
            go_on.write_bytes(b"x")
            assert [await answer(slow), await answer(slow)] == ["waited", "next"]

    run(main)


def test_what_it_returns_is_sent(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        async with server, connected(server) as peer:
            await peer.send(b"".join(map(frame, (b"list", b"nothing", b"yield", b"end"))))
            assert [await answer(peer) for _ in range(6)] == ["one", "two", "0", "1", "2", "end"]

    run(main)


def test_a_message_as_large_as_pipes_are_not(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        async with server, connected(server) as peer:
            assert await ask(peer, "x" * (1 << 20)) == "x" * (1 << 20)

    run(main)


@pytest.mark.parametrize(
    ("verb", "why", "note"),
    [
        ("fail indeed", "ValueError: no good: indeed", 'raise ValueError(f"no good: {rest}")'),
        ("system-exit", "RuntimeError: handle raised SystemExit: 3", "SystemExit: 3"),
        ("picky", "RuntimeError: handle raised PickyError: 1 and 2", "raise PickyError(1, 2)"),
        ("text", "TypeError: handle returned str: bytes, an iterable of bytes, or None can be sent", "TypeError"),
    ],
)
def test_a_failure_ends_that_connection_only(
    run: Run, verb: str, why: str, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server, ends = make()
        async with server, connected(server) as good, connected(server) as bad:
            before = (await ask(good, "who")).split()[0]
            await bad.send(frame(verb.encode()) + frame(b"never"))
            assert await bad.rest() == b""
            reason = await ends.next()
            assert (reason.code, reason.why) == ("handler-error", why)
            assert reason.error is not None
            (text,) = reason.error.__notes__
            assert text.startswith("in a worker process:\nTraceback")
            assert note in text
            assert (await ask(good, "who")).split()[0] == before, "the process goes on"

    with caplog.at_level(logging.CRITICAL, "wireway.server"):
        run(main)


@pytest.mark.parametrize(("verb", "how"), [("die", "was ended by SIGKILL"), ("exit", "ended with status 7")])
def test_a_process_that_dies_takes_one_connection_with_it(
    run: Run, verb: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server, ends = make()
        async with server, connected(server) as good, connected(server) as bad:
            before = (await ask(good, "who")).split()[0]
            await bad.send(frame(verb.encode()))
            assert await bad.rest() == b""
            reason = await ends.next()
            assert reason.code == "handler-error"
            assert type(reason.error) is wireway.WorkerDiedError
            assert str(reason.error) == f"worker process {before} {how} while it handled a message"
            assert (await ask(good, "who")).split()[0] != before, "another takes its place"
            assert ends.all() == []

    with caplog.at_level(logging.WARNING, "wireway.server"):
        run(main)
    assert any("another takes its place" in record.getMessage() for record in caplog.records)


def test_a_process_that_dies_without_work_takes_no_connection_with_it(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server, ends = make()
        async with server, connected(server) as peer:
            before = (await ask(peer, "who")).split()[0]
            pool = server._pool
            assert pool is not None
            process = pool._processes[0]._process
            assert process is not None
            os.kill(int(before), signal.SIGKILL)
            await asyncio.to_thread(multiprocessing.connection.wait, [process.sentinel])
            assert (await ask(peer, "who")).split()[0] != before
            assert ends.all() == []

    with caplog.at_level(logging.WARNING, "wireway.server"):
        run(main)
    (record,) = caplog.records
    assert "was ended by SIGKILL without work; another takes its place" in record.getMessage()


def test_ctrl_c_reaches_the_server_alone(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        async with server, connected(server) as peer:
            assert await ask(peer, "interrupt") == "still here"

    run(main)


def test_a_running_call_gets_the_drain_timeout(run: Run, fifos: tuple[Path, Path]) -> None:
    begun, go_on = fifos

    async def main() -> None:
        server, ends = make()
        async with server, connected(server) as peer:
            await peer.send(frame(f"wait {begun} {go_on}".encode()))
            await asyncio.to_thread(begun.read_bytes)
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0)
            go_on.write_bytes(b"x")
            await closing
            assert await answer(peer) == "waited"
            assert [end.code for end in ends.all()] == ["server-stopped"]

    run(main)


def test_a_call_that_takes_longer_is_killed(
    run: Run, fifos: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on = fifos
    numbers: list[int] = []

    async def main() -> None:
        server, ends = make(drain_timeout=0.05)
        async with server, connected(server) as peer:
            numbers.append(int((await ask(peer, "who")).split()[0]))
            await peer.send(frame(f"wait {begun} {go_on}".encode()))
            await asyncio.to_thread(begun.read_bytes)
            await server.close()
            assert [end.code for end in ends.all()] == ["aborted"]
            await peer.gone()
        with pytest.raises(ProcessLookupError):
            os.kill(numbers[0], 0)

    with caplog.at_level(logging.CRITICAL, "wireway.server"):
        run(main)


def test_a_worker_that_was_stopped_begins_no_call() -> None:
    worker = Worker(handle)
    worker.start()
    worker.stop()
    with pytest.raises(wireway.WorkerDiedError, match="the server has stopped"):
        worker.call(None, b"x")  # type: ignore[arg-type]
    worker.end()
