"""A loop that does not turn is named: what blocked it, in which handler, for how long, and why."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from support.peers import connected, frame, until
from wireway import ConfigError, Connection, LengthPrefix, Server, Stall, Stalls

pytestmark = pytest.mark.alone

AFTER = 0.15
LONG = 0.6


@asynccontextmanager
async def watched(
    handler: Callable[[Connection, bytes], Any], **options: Any
) -> AsyncIterator[tuple[Server, asyncio.Queue[Stall]]]:
    server = Server("tcp://127.0.0.1:0", **{"framing": LengthPrefix(4), "stalls": Stalls(after=AFTER)} | options)
    server.on_message(handler)
    told: asyncio.Queue[Stall] = asyncio.Queue()
    server.on_stall(told.put_nowait)
    async with server:
        yield server, told


async def one(handler: Callable[[Connection, bytes], Any], cause: str) -> tuple[Stall, int]:
    """The stall with this cause that one message makes (a busy machine may stall too), and the id of the connection."""
    async with watched(handler) as (server, told), connected(server) as peer:
        await peer.send(frame(b"go"))
        stall = await told.get()
        while stall.cause != cause or stall.connection is None:
            if stall.connection is not None:  # a busy machine had no processor for it
                await peer.send(frame(b"go"))
            stall = await told.get()
        assert stall in server.stalls
        assert server.stats.stalls == len(server.stalls) >= 1
        assert server.stats.stall_seconds == pytest.approx(sum(each.seconds for each in server.stalls))
        (conn,) = server.connections
        assert stall.peer == conn.peer
        assert abs(time.time() - stall.when) < 60
        return stall, conn.id


def sleeps(_conn: Connection, _message: bytes) -> None:
    time.sleep(LONG)  # here


async def suspends(_conn: Connection, _message: bytes) -> None:
    await asyncio.sleep(0.001)
    time.sleep(LONG)  # noqa: ASYNC251


async def asks(_conn: Connection, _message: bytes) -> None:
    sleeps(_conn, _message)


@pytest.mark.parametrize("handler", [sleeps, suspends, asks])
def test_a_handler_that_sleeps_is_named(run: Run, caplog: pytest.LogCaptureFixture, handler: Any) -> None:
    with caplog.at_level(logging.WARNING, logger="wireway.stalls"):
        stall, number = run(one, handler, "blocked")
    assert stall.handler == handler.__qualname__
    assert stall.connection == number
    assert LONG - 0.1 <= stall.seconds < LONG + 5
    assert stall.count >= 1
    innermost = stall.stack[-1]
    assert innermost.startswith(f"{__file__}:"), innermost
    assert "time.sleep(LONG)  # " in innermost
    begun = [record.getMessage() for record in caplog.records if "has not turned" in record.getMessage()]
    ended = [record.getMessage() for record in caplog.records if "turns again" in record.getMessage()]
    assert any(handler.__qualname__ in text and innermost in text for text in begun), begun
    assert any(handler.__qualname__ in text for text in ended), ended


def test_the_log_names_it_while_it_lasts(run: Run) -> None:
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    def until_named(_conn: Connection, _message: bytes) -> None:
        give_up = time.monotonic() + 20
        while not any("until_named" in text for text in seen):  # it would be blocked for ever
            assert time.monotonic() < give_up, seen
            time.sleep(0.01)

    logger, keep = logging.getLogger("wireway.stalls"), Keep()
    logger.addHandler(keep)
    try:

        async def main() -> None:
            async with watched(until_named) as (server, told), connected(server) as peer:
                await peer.send(frame(b"go"))
                assert (await told.get()).seconds >= AFTER

        run(main)
    finally:
        logger.removeHandler(keep)


def test_a_busy_loop_is_told_from_one_that_waits(run: Run) -> None:
    def busy(_conn: Connection, _message: bytes) -> None:
        until = time.thread_time() + LONG  # of the processor's time: another program may have it meanwhile
        while time.thread_time() < until:
            pass

    async def main() -> Stall:
        async with watched(busy) as (server, told), connected(server) as peer:
            await peer.send(frame(b"go"))
            while (stall := await told.get()).connection is None:
                pass
            return stall

    stall = run(main)
    assert stall.cause in ("busy", "starved")
    assert stall.handler is not None
    assert stall.handler.endswith("busy")
    assert any("test_stalls.py" in line for line in stall.stack)


def test_garbage_collection_is_told_apart(run: Run) -> None:
    heap = [[number] for number in range(400_000)]

    def litter(_conn: Connection, _message: bytes) -> None:
        until = time.monotonic() + LONG
        while time.monotonic() < until:
            gc.collect()

    stall, _ = run(one, litter, "gc")
    assert "garbage collection" in stall.detail
    assert stall.handler is not None
    assert stall.handler.endswith("litter")
    assert len(heap) == 400_000
    assert not [each for each in gc.callbacks if getattr(each, "__name__", "") == "stall_mark"], "nobody watches now"


def test_native_code_that_keeps_the_gil(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    def counts(_conn: Connection, _message: bytes) -> None:
        began, size = time.monotonic(), 10_000_000
        while time.monotonic() - began < 0.6:  # the last call is more than half of it
            sum(range(size))
            size *= 4

    stall, number = run(one, counts, "native")
    assert stall.connection == number
    assert stall.handler is not None
    assert stall.handler.endswith("counts")
    assert "native code keeps the GIL" in capfd.readouterr().err, "said while it lasted, without the GIL"


def test_another_callback_of_the_loop_is_named_too(run: Run) -> None:
    def elsewhere() -> None:
        time.sleep(LONG)

    async def main() -> None:
        async with watched(sleeps) as (_, told):
            asyncio.get_running_loop().call_soon(elsewhere)
            while (stall := await told.get()).cause != "blocked":
                pass
            assert (stall.handler or "").endswith("elsewhere")
            assert stall.connection is None

    run(main)


STOPPED = """
import asyncio, sys
import wireway

async def main():
    server = wireway.Server("tcp://127.0.0.1:0", stalls=wireway.Stalls(after=0.1))
    server.on_message(lambda conn, message: None)
    done = asyncio.Event()

    @server.on_stall
    def told(stall):
        print(stall.cause, flush=True)
        if stall.cause == "stopped":
            done.set()

    async with server:
        print("ready", flush=True)
        await done.wait()

wireway.run(main(), backend=sys.argv[1])
"""


def test_a_stopped_process_is_no_slow_handler(backend: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED, backend], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "ready\n"
            for _ in range(10):  # the watch may not have had a processor yet when it is stopped
                os.kill(child.pid, signal.SIGSTOP)
                os.waitid(os.P_PID, child.pid, os.WSTOPPED)
                time.sleep(1.0)  # for so long it is stopped: there is no event to wait for
                os.kill(child.pid, signal.SIGCONT)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=5)
                    break
            assert "stopped" in child.stdout.read().split()
            assert child.returncode == 0
        finally:
            child.kill()


def test_a_thread_that_keeps_the_gil(run: Run) -> None:
    """The loop wakes, and can not go on: it is nobody's handler."""

    async def main() -> None:
        def hog() -> None:
            time.sleep(0.05)  # until the loop sleeps
            end = time.monotonic() + 2 * LONG
            while time.monotonic() < end:
                pass

        async with watched(sleeps) as (_server, told):
            before = sys.getswitchinterval()
            thread = threading.Thread(target=hog)
            thread.start()
            sys.setswitchinterval(60.0)
            try:
                await asyncio.sleep(0.2)
                stall = await told.get()
                while stall.cause != "gil":
                    stall = await told.get()
            finally:
                sys.setswitchinterval(before)
                thread.join()
            assert stall.connection is None
            assert LONG < stall.seconds < 30

    run(main)


STARVED = """
import asyncio, os, subprocess, sys, time
import wireway

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

async def main():
    server = wireway.Server("tcp://127.0.0.1:0", stalls=wireway.Stalls(after=0.1))
    server.on_message(lambda conn, message: None)
    done = asyncio.Event()

    @server.on_stall
    def told(stall):
        if stall.cause == "starved":
            print(f"{stall.seconds:.2f}", flush=True)
            done.set()

    async with server:
        hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            os.setpriority(os.PRIO_PROCESS, 0, 19)  # of this thread
            for _ in range(100):
                end = time.thread_time() + 0.01
                while time.thread_time() < end:
                    pass
                await asyncio.sleep(0)
                if done.is_set():
                    break
        finally:
            hog.kill()
            hog.wait()

wireway.run(main())
"""


def test_a_loop_without_a_processor_is_starved() -> None:
    """A hog on the same core, and the loop at the lowest priority."""
    done = subprocess.run([sys.executable, "-c", STARVED], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) > 0.1


def test_without_it_nothing_watches(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    def doze(conn: Connection, message: bytes) -> None:
        time.sleep(0.3)
        conn.send_nowait(message)

    async def main() -> None:
        async with watched(doze, stalls=None) as (server, told), connected(server) as peer:
            assert not [name for name in _threads() if name.startswith("wireway-stalls")]
            await peer.send(frame(b"go"))
            await peer.receive(6)
            assert (server.stalls, server.stats.stalls, told.empty()) == ([], 0, True)

    run(main)
    assert not caplog.records


def test_the_thread_ends_with_the_last_server(run: Run) -> None:
    async def main() -> None:
        async with watched(sleeps), watched(sleeps):
            # It names itself when it has a processor.
            await until(lambda: any(name.startswith("wireway-stalls") for name in _threads()))
        await asyncio.sleep(0)

    run(main)
    give_up = time.monotonic() + 20
    while [name for name in _threads() if name.startswith("wireway-stalls")]:
        assert time.monotonic() < give_up


def test_so_many_are_kept(run: Run) -> None:
    async def main() -> None:
        options = Stalls(after=0.05, keep=2, stack=False)
        async with watched(lambda _conn, _message: time.sleep(0.15), stalls=options) as (server, told):
            async with connected(server) as peer:
                for _ in range(3):
                    await peer.send(frame(b"go"))
                    stall = await told.get()
                    assert stall.stack == ()
            assert len(server.stalls) == 2
            assert server.stats.stalls >= 3

    run(main)


@pytest.mark.parametrize("wrong", [{"after": 0}, {"after": True}, {"stack": 1}, {"keep": 0}])
def test_what_is_wrong_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Stalls(**wrong)


def _threads() -> list[str]:
    names = []
    for entry in os.scandir("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            names.append(Path(entry.path, "comm").read_text().strip())
    return names
