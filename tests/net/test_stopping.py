"""The end of a server: what runs and what is queued is finished, nothing new begins; what takes too long is aborted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import pytest

from conftest import Run
from support.peers import Ends, connected, frame
from wireway import Connection, LengthPrefix, Server

ANYWHERE = "tcp://127.0.0.1:0"


def make(**options: float) -> tuple[Server, Ends]:
    """A server without a handler yet."""
    server = Server(ANYWHERE, framing=LengthPrefix(4), **options)  # type: ignore[arg-type]
    return server, Ends(server)


def ignore(_conn: Connection, _message: bytes) -> None:
    """Do nothing with a message."""


def test_idle_connections_end_in_order(run: Run) -> None:
    async def main() -> None:
        server, ends = make()
        server.on_message(ignore)
        async with server, connected(server) as one, connected(server) as two:
            await one.send(frame(b"x") + b"\0\0")  # also in the middle of a frame
            await two.send(frame(b"x"))
            while server.stats.messages_in < 2:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0)
            await server.close()
            assert (await one.rest(), await two.rest()) == (b"", b"")
            assert [(end.code, end.why) for end in ends.all()] == [("server-stopped", "the server stops")] * 2
            assert server.addresses == []

    run(main)


def test_a_running_handler_finishes(run: Run) -> None:
    async def main() -> None:
        server, ends = make()
        started, go_on = asyncio.Event(), asyncio.Event()
        taken: list[bytes] = []

        @server.on_message
        async def answer(conn: Connection, message: bytes) -> None:
            taken.append(message)
            started.set()
            await go_on.wait()
            await conn.send(message)

        async with server, connected(server) as peer:
            await peer.send(frame(b"first") + frame(b"second"))
            await started.wait()
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0)
            await peer.send(frame(b"third"))
            assert ends.all() == []
            go_on.set()
            await closing
            assert [end.code for end in ends.all()] == ["server-stopped"]
            assert taken == [b"first"]
            assert await peer.receive(9) == frame(b"first")
            await peer.gone()

    run(main)


def test_what_is_queued_is_sent(run: Run) -> None:
    async def main() -> None:
        server, ends = make()
        data = bytes(range(256)) * 65536

        @server.on_message
        def answer(conn: Connection, _message: bytes) -> None:
            conn.send_nowait(data)
            sent.set()

        sent = asyncio.Event()
        async with server, connected(server, buffer=4096) as peer:
            await peer.send(frame(b"x"))
            await sent.wait()
            assert server.connections[0].queued > 0
            closing = asyncio.create_task(server.close())
            assert await peer.rest() == frame(data)
            await closing
            assert [end.code for end in ends.all()] == ["server-stopped"]

    run(main)


@pytest.mark.parametrize("why", ["a handler that waits", "a peer that does not read"])
def test_what_takes_too_long_is_aborted(run: Run, why: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server, ends = make(drain_timeout=0.05)
        started = asyncio.Event()

        @server.on_message
        async def wait(conn: Connection, _message: bytes) -> None:
            started.set()
            if why == "a handler that waits":
                await asyncio.sleep(3600)
            else:
                conn.send_nowait(bytes(1 << 24))

        async with server, connected(server, buffer=4096) as peer:
            await peer.send(frame(b"x"))
            await started.wait()
            await server.close()
            assert [(end.code, end.why) for end in ends.all()] == [("aborted", "the server stopped")]
            await peer.gone()

    with caplog.at_level(logging.WARNING, "wireway.server"):
        run(main)
    assert [record.getMessage() for record in caplog.records] == [
        "1 connections did not finish in 0.05 s and are aborted"
    ]


def test_a_handler_that_is_aborted_is_cancelled(run: Run) -> None:
    async def main() -> None:
        server, _ = make(drain_timeout=0)
        started, cancelled = asyncio.Event(), asyncio.Event()

        @server.on_message
        async def wait(_conn: Connection, _message: bytes) -> None:
            started.set()
            try:
                await asyncio.sleep(3600)
            finally:
                cancelled.set()

        async with server, connected(server) as peer:
            await peer.send(frame(b"x"))
            await started.wait()
        await cancelled.wait()

    run(main)


def test_cancelling_close_aborts_at_once(run: Run) -> None:
    async def main() -> None:
        server, ends = make(drain_timeout=3600)
        started = asyncio.Event()

        @server.on_message
        async def wait(_conn: Connection, _message: bytes) -> None:
            started.set()
            await asyncio.sleep(3600)

        async with server, connected(server) as peer:
            await peer.send(frame(b"x"))
            await started.wait()
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert [end.code for end in ends.all()] == ["aborted"]

    run(main)


def test_who_was_accepted_in_the_last_moment_is_served(run: Run) -> None:
    """The kernel may have let somebody in of whom we have not heard: closing must not reset it."""

    async def main() -> None:
        server, _ = make()
        greeted: list[int] = []

        @server.on_connect
        def greet(conn: Connection) -> None:
            greeted.append(conn.id)
            conn.send_nowait(b"hello")

        server.on_message(ignore)
        await server.start()
        await asyncio.sleep(0)  # it accepts by now
        host, _, port = server.addresses[0].removeprefix("tcp://").rpartition(":")
        peers = [socket.create_connection((host, int(port))) for _ in range(20)]  # blocking: the loop stands still
        late = server._stop_listening()
        await server.close()
        assert len(greeted) == late
        told = 0
        for peer in peers:
            with peer:
                peer.settimeout(10)
                # A reset: it waited in the backlog of a socket that nobody else holds open.
                with contextlib.suppress(ConnectionResetError):
                    told += peer.recv(9, socket.MSG_WAITALL) == frame(b"hello")
        assert told == late
        assert server.stats.accepted == late

    run(main)
