"""Handlers that fail: their connection ends, with the exception as its reason, and everything else goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Run
from support.peers import Ends, connected, frame
from wireway import Connection, LengthPrefix, Server


def make() -> tuple[Server, Ends]:
    """A server without a handler yet."""
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(1))
    return server, Ends(server)


def at_once(conn: Connection, message: bytes) -> None:
    if message == b"fail":
        raise ValueError("no good")
    conn.send_nowait(message)


async def in_the_first_step(conn: Connection, message: bytes) -> None:
    at_once(conn, message)


async def after_waiting(conn: Connection, message: bytes) -> None:
    await asyncio.sleep(0)
    at_once(conn, message)


async def in_a_group(conn: Connection, message: bytes) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(after_waiting(conn, message))
    except* ValueError as errors:
        raise errors.exceptions[0] from None


@pytest.mark.parametrize("handler", [at_once, in_the_first_step, after_waiting, in_a_group])
def test_an_exception_ends_that_connection_only(
    run: Run, handler: Callable[[Connection, bytes], Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server, ends = make()
        server.on_message(handler)
        async with server, connected(server) as good, connected(server) as bad:
            await bad.send(frame(b"first", 1) + frame(b"fail", 1) + frame(b"never", 1))
            # What was answered before is not lost.
            assert await bad.rest() == frame(b"first", 1)
            reason = await ends.next()
            assert (reason.code, reason.why) == ("handler-error", "ValueError: no good")
            assert type(reason.error) is ValueError
            await good.send(frame(b"still here", 1))
            assert await good.receive(11) == frame(b"still here", 1)
            assert server.stats.messages_in == 3
        assert [reason.code for reason in ends.all()] == ["server-stopped"]

    with caplog.at_level(logging.ERROR, "wireway.server"):
        run(main)
    (record,) = caplog.records
    assert "handler-error: ValueError: no good" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


@pytest.mark.parametrize("waits", [False, True])
def test_a_handler_that_is_cancelled(run: Run, waits: bool) -> None:
    async def main() -> None:
        server, ends = make()

        @server.on_message
        async def cancel_myself(_conn: Connection, _message: bytes) -> None:
            if waits:
                await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(30)

        async with server, connected(server) as peer:
            await peer.send(frame(b"x", 1))
            assert await peer.rest() == b""
            reason = await ends.next()
            assert reason.code == "handler-cancelled"
            assert isinstance(reason.error, asyncio.CancelledError)

    run(main)


def test_a_handler_that_caught_its_cancellation_goes_on(run: Run) -> None:
    async def main() -> None:
        server, _ = make()

        @server.on_message
        async def survive(conn: Connection, message: bytes) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(30)
            task.uncancel()
            await conn.send(message)

        async with server, connected(server) as peer:
            await peer.send(frame(b"a", 1) + frame(b"b", 1))
            assert await peer.receive(4) == frame(b"a", 1) + frame(b"b", 1)

    run(main)


@pytest.mark.parametrize("waits", [False, True])
def test_an_exception_after_close_is_reported_to_the_loop(run: Run, waits: bool) -> None:
    """The connection's reason is given already, so it must be told elsewhere: it may not be lost."""

    async def main() -> None:
        told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.put_nowait(context))
        server, ends = make()

        @server.on_message
        async def close_and_fail(conn: Connection, _message: bytes) -> None:
            conn.close("that is all")
            if waits:
                await asyncio.sleep(0)
            raise ValueError("too late")

        async with server, connected(server) as peer:
            await peer.send(frame(b"x", 1))
            assert await peer.rest() == b""
            reason = await ends.next()
            assert (reason.code, reason.why) == ("closed", "that is all")
            context = await told.get()
            assert str(context["exception"]) == "too late"
            assert isinstance(context["connection"], Connection)

    run(main)


def test_on_close_may_fail(run: Run) -> None:
    async def main() -> None:
        told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.put_nowait(context))
        server = Server("tcp://127.0.0.1:0")
        server.on_message(lambda conn, message: conn.send_nowait(message))

        @server.on_close
        def fail(_conn: Connection, _reason: object) -> None:
            raise ValueError("in on_close")

        async with server, connected(server) as peer:
            peer.finish()
            assert await peer.rest() == b""
            assert str((await told.get())["exception"]) == "in on_close"
            assert server.stats.open == 0

    run(main)


def test_what_only_looks_like_a_coroutine_is_refused(run: Run) -> None:
    async def main() -> None:
        server, ends = make()
        server.on_message(lambda _conn, _message: asyncio.get_running_loop().create_future())
        async with server, connected(server) as peer:
            await peer.send(frame(b"x", 1))
            assert await peer.rest() == b""
            reason = await ends.next()
            assert isinstance(reason.error, TypeError)
            assert "make the handler `async def`" in reason.why

    run(main)
