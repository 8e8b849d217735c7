"""One loop in several threads, several loops at once, and what a fork leaves to parent and child."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import socket
import threading
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Callable

import pytest

LoopFactory = Callable[[], AbstractEventLoop]

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


async def exercise() -> str:
    """Use timers, a reader, a server, a client and an executor of the running loop."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()
        await writer.wait_closed()
        ended.set()

    await asyncio.sleep(0.001)
    assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"fine")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    await ended.wait()
    server.close()
    await server.wait_closed()
    reading, writing = os.pipe()
    ready = loop.create_future()
    loop.add_reader(reading, ready.set_result, None)
    os.write(writing, b"x")
    await ready
    loop.remove_reader(reading)
    os.close(reading)
    os.close(writing)
    return answer.decode()


def in_thread(work: Callable[[], object]) -> object:
    """The result of `work()` in a thread of its own."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(timeout=30)
    assert results, "the thread failed or hangs"
    return results[0]


def in_child(work: Callable[[], object]) -> int:
    """Fork; the child does `work()`. Returns the child's number. The child exits with 0 if nothing was raised."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the child must not go on with pytest
        traceback.print_exc()
    finally:
        os._exit(code)


def succeeded(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- threads ------------------------------------------------------------------------------------------------------


def test_a_loop_runs_in_one_thread_after_another(loop: AbstractEventLoop) -> None:
    for _ in range(3):
        assert loop.run_until_complete(exercise()) == "fine"
        assert in_thread(lambda: loop.run_until_complete(exercise())) == "fine"


def test_a_transport_moves_with_its_loop(loop: AbstractEventLoop) -> None:
    ours, other = socket.socketpair()

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(sock=ours)

    async def talk(count: int) -> None:
        other.sendall(b"%04d" % count)
        assert await reader.readexactly(4) == b"%04d" % count
        writer.write(b"%04d" % count)
        await writer.drain()
        await asyncio.sleep(0)
        assert other.recv(4) == b"%04d" % count

    async def close() -> None:
        writer.close()
        await writer.wait_closed()

    reader, writer = loop.run_until_complete(connect())
    for count in range(0, 8, 2):
        loop.run_until_complete(talk(count))
        in_thread(lambda count=count: loop.run_until_complete(talk(count + 1)))  # type: ignore[misc]
    loop.run_until_complete(close())
    other.close()


def test_a_loop_made_here_is_run_and_closed_there(loop_factory: LoopFactory) -> None:
    loop = loop_factory()

    def work() -> str:
        try:
            return loop.run_until_complete(exercise())
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    assert in_thread(work) == "fine"


def test_four_loops_in_four_threads(loop_factory: LoopFactory) -> None:
    def work() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            results.extend(runner.run(exercise()) for _ in range(5))

    results: list[str] = []
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert results == ["fine"] * 20


def test_two_loops_in_turns_in_one_thread(loop: AbstractEventLoop, loop_factory: LoopFactory) -> None:
    other = loop_factory()
    try:
        for _ in range(3):
            assert loop.run_until_complete(exercise()) == "fine"
            assert other.run_until_complete(exercise()) == "fine"
    finally:
        other.run_until_complete(other.shutdown_default_executor())
        other.close()


def test_a_future_that_is_done_in_another_loop(loop: AbstractEventLoop, loop_factory: LoopFactory) -> None:
    """What `asyncio.run_coroutine_threadsafe` and `wrap_future` do between two loops that run."""

    async def asks() -> int:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(answers(), other))

    async def answers() -> int:
        await asyncio.sleep(0.001)
        return 42

    other = loop_factory()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    assert [loop.run_until_complete(asks()) for _ in range(5)] == [42] * 5
    other.call_soon_threadsafe(other.stop)
    thread.join()
    other.close()


# --- forks --------------------------------------------------------------------------------------------------------


def test_a_child_makes_a_loop_of_its_own_and_the_parent_goes_on(
    loop: AbstractEventLoop, loop_factory: LoopFactory
) -> None:
    async def main() -> bool:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            accepting = loop.create_task(loop.sock_accept(listener))
            await asyncio.sleep(0)
            pid = in_child(child)
            assert await loop.run_in_executor(None, succeeded, pid)
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            accepted, _ = await accepting
        await loop.sock_sendall(accepted, b"the parent's")
        accepted.close()
        assert await reader.read() == b"the parent's"
        writer.close()
        await writer.wait_closed()
        return await exercise() == "fine"

    def child() -> None:
        assert asyncio._get_running_loop() is None
        for _ in range(2):
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                assert runner.run(exercise()) == "fine"

    assert loop.run_until_complete(main())


def test_a_child_that_drops_the_parents_loop_disturbs_nobody(loop: AbstractEventLoop) -> None:
    """What a child does that ends as Python does: everything of its parent is collected there."""
    ours, other = socket.socketpair()

    async def main() -> bytes:
        reader, writer = await asyncio.open_connection(sock=ours)
        pid = in_child(gc.collect)
        assert await loop.run_in_executor(None, succeeded, pid)
        other.send(b"to the parent")
        data = await reader.read(99)
        writer.write(b"from the parent")
        writer.close()
        await writer.wait_closed()
        assert other.recv(99) == b"from the parent"
        return data

    assert loop.run_until_complete(main()) == b"to the parent"
    other.close()


def test_a_child_that_closes_the_parents_loop_disturbs_nobody(loop: AbstractEventLoop, ours: str) -> None:
    mine, other = socket.socketpair()

    def child() -> None:
        asyncio._set_running_loop(None)
        loop._thread_id = None  # type: ignore[attr-defined]
        loop.close()

    async def main() -> bytes:
        reader, writer = await asyncio.open_connection(sock=mine)
        await asyncio.sleep(0)
        assert await loop.run_in_executor(None, succeeded, in_child(child))
        other.send(b"to the parent")
        data = await reader.read(99)
        assert await exercise() == "fine"
        writer.close()
        await writer.wait_closed()
        return data

    assert loop.run_until_complete(main()) == b"to the parent"
    other.close()


def test_a_loop_at_rest_is_not_disturbed_by_a_child(loop: AbstractEventLoop, loop_factory: LoopFactory) -> None:
    assert loop.run_until_complete(exercise()) == "fine"

    def child() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert runner.run(exercise()) == "fine"

    pid = in_child(child)
    assert loop.run_until_complete(exercise()) == "fine"
    assert succeeded(pid)
    assert loop.run_until_complete(exercise()) == "fine"


def test_many_children_at_once(loop: AbstractEventLoop, loop_factory: LoopFactory) -> None:
    def child() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert runner.run(exercise()) == "fine"

    async def main() -> list[bool]:
        pids = [in_child(child) for _ in range(5)]
        assert await exercise() == "fine"
        return await asyncio.gather(*[loop.run_in_executor(None, succeeded, pid) for pid in pids])

    assert loop.run_until_complete(main()) == [True] * 5


def test_multiprocessing_with_fork(loop: AbstractEventLoop, loop_factory: LoopFactory) -> None:
    def child() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            answers.put(runner.run(exercise()))

    async def main() -> object:
        process = context.Process(target=child)
        process.start()
        answer = await loop.run_in_executor(None, answers.get)
        await loop.run_in_executor(None, process.join)
        assert process.exitcode == 0
        process.close()
        return answer

    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    assert loop.run_until_complete(main()) == "fine"
    answers.close()
