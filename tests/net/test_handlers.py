"""Handlers, plain and asynchronous: each `async def` behaves as if it ran in a Task of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import Run
from support.peers import Ends, connected, frame
from wireway import Connection, LengthPrefix, Server

Handler = Callable[[Connection, bytes], Awaitable[None]]

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="default")


def serve(handler: Callable[[Connection, bytes], Any]) -> tuple[Server, Ends]:
    """A server with that handler."""
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(1))
    server.on_message(handler)
    return server, Ends(server)


async def by_sleeping() -> None:
    await asyncio.sleep(0.001)


async def by_yielding() -> None:
    await asyncio.sleep(0)


async def by_an_event() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    await event.wait()


async def by_a_timeout_that_is_kept() -> None:
    async with asyncio.timeout(30):
        await asyncio.sleep(0)


async def by_a_timeout_that_strikes() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await asyncio.get_running_loop().create_future()


async def by_wait_for() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.001)


async def by_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
    assert [task.result() for task in tasks] == [0, 1, 2]


async def by_a_thread() -> None:
    assert await asyncio.to_thread(lambda: 42) == 42


async def not_at_all() -> None:
    """Finish in the first step."""


WAYS = [
    by_sleeping,
    by_yielding,
    by_an_event,
    by_a_timeout_that_is_kept,
    by_a_timeout_that_strikes,
    by_wait_for,
    by_a_group,
    by_a_thread,
    not_at_all,
]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def suspend(request: pytest.FixtureRequest) -> Callable[[], Awaitable[None]]:
    """A way in which a handler waits."""
    return request.param  # type: ignore[no-any-return]


def test_order_is_kept_while_handlers_wait(run: Run, suspend: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        inside = 0

        async def answer(conn: Connection, message: bytes) -> None:
            nonlocal inside
            inside += 1
            assert inside == 1, "two messages of one connection at a time"
            await suspend()
            inside -= 1
            await conn.send(message)

        server, _ = serve(answer)
        stream = b"".join(frame(b"%d" % number, 1) for number in range(20))
        async with server, connected(server) as peer:
            await peer.send(stream)
            peer.finish()
            assert await peer.rest() == stream

    run(main)


def test_connections_do_not_wait_for_each_other(run: Run) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def answer(conn: Connection, message: bytes) -> None:
            if message == b"wait":
                await go_on.wait()
            await conn.send(message)

        server, _ = serve(answer)
        async with server, connected(server) as slow, connected(server) as quick:
            await slow.send(frame(b"wait", 1))
            await quick.send(frame(b"quick", 1))
            assert await quick.receive(6) == frame(b"quick", 1)
            go_on.set()
            assert await slow.receive(5) == frame(b"wait", 1)

    run(main)


def test_each_handler_is_a_task_of_its_own(run: Run, suspend: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = []

        async def answer(conn: Connection, message: bytes) -> None:
            task = asyncio.current_task()
            assert isinstance(task, asyncio.Task)
            assert not task.done()
            tasks.append(task)
            await suspend()
            assert asyncio.current_task() is task
            await conn.send(message)

        server, _ = serve(answer)
        async with server, connected(server) as peer:
            await peer.send(frame(b"a", 1) + frame(b"b", 1))
            assert await peer.receive(4) == frame(b"a", 1) + frame(b"b", 1)
            assert len(set(tasks)) == 2
            await asyncio.gather(*tasks)  # they are done, or will be

    run(main)


def test_a_variable_that_a_handler_sets_is_its_own(run: Run, suspend: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        seen: list[tuple[str, str]] = []

        async def answer(conn: Connection, message: bytes) -> None:
            before = VARIABLE.get()
            VARIABLE.set(message.decode())
            await suspend()
            seen.append((before, VARIABLE.get()))
            await conn.send(message)

        VARIABLE.set("at the start")
        server, _ = serve(answer)
        async with server, connected(server) as peer:
            VARIABLE.set("later")
            await peer.send(frame(b"a", 1) + frame(b"b", 1))
            await peer.receive(4)
        assert seen == [("at the start", "a"), ("at the start", "b")]

    run(main)
