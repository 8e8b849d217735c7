"""Pressure: a peer that does not read stops what is made for it, costs bounded memory, and goes on when it reads."""

from __future__ import annotations

import asyncio
import re

import pytest

import wireway
from conftest import Run
from support.peers import Ends, Peer, connected, frame
from wireway import Connection, LengthPrefix, Server
from wireway.config import Buffers

HIGH = 32 * 1024
PIECE = bytes(range(256)) * 16
"""What is sent at a time, 4 KiB."""
COUNT = 2048
"""How often: 8 MiB, more than all the kernel's buffers on the way take."""
BUFFER = 64 * 1024
"""The size of the peer's buffers."""


def make(low: int = HIGH // 4) -> tuple[Server, Ends]:
    """A server without a handler yet, with a low limit."""
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4), buffers=Buffers(low=low, high=HIGH))
    return server, Ends(server)


async def pressed(server: Server) -> Connection:
    """The server's one connection, once it does not take more."""
    while not server.connections or server.connections[0].writable:  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(0)
    return server.connections[0]


async def settled(server: Server) -> None:
    """Wait until nothing moves any more: neither messages in, nor bytes out."""
    before = None
    while before != (now := (server.stats.messages_in, server.connections[0].queued)):
        before = now
        await asyncio.sleep(0.02)


async def fill(conn: Connection) -> None:
    """Send until the connection does not take more, and let the loop turn a few times more."""
    while conn.writable:
        conn.send_nowait(PIECE)
    for _ in range(5):
        await asyncio.sleep(0)
        while conn.writable:
            conn.send_nowait(PIECE)


async def opened(server: Server, peer: Peer) -> Connection:
    """The server's side of `peer`."""
    while not server.connections:  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(0)
    (conn,) = server.connections
    assert conn.peer == peer.sock.getsockname()
    return conn


def test_send_waits_for_a_peer_that_does_not_read(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        most = sent = 0

        @server.on_message
        async def pour(conn: Connection, _message: bytes) -> None:
            nonlocal most, sent
            for _ in range(COUNT):
                await conn.send(PIECE)
                sent += 1
                most = max(most, conn.queued)

        async with server, connected(server, buffer=BUFFER) as peer:
            await peer.send(frame(b"x"))
            conn = await pressed(server)
            await settled(server)
            assert sent < COUNT
            assert conn.queued > 0
            for _ in range(COUNT):
                assert await peer.receive(4 + len(PIECE)) == frame(PIECE)
            assert most <= HIGH + len(frame(PIECE))

    run(main)


@pytest.mark.parametrize("handler", ["function", "coroutine", "batch"])
def test_a_peer_that_does_not_read_is_not_read_from(run: Run, handler: str) -> None:
    """An echo whose peer only sends: the bytes pile up with the peer, not here."""

    async def main() -> None:
        server, _ = make()
        if handler == "function":
            server.on_message(lambda conn, message: conn.send_nowait(message))
        elif handler == "coroutine":
            server.on_message(lambda conn, message: answer(conn, message))
        else:
            server.on_batch(lambda conn, messages: [conn.send_nowait(message) for message in messages])

        async def answer(conn: Connection, message: bytes) -> None:
            await conn.send(message)

        async with server, connected(server, buffer=BUFFER) as peer:
            enough = asyncio.Event()
            sending = asyncio.create_task(push(peer, enough))
            conn = await pressed(server)
            await settled(server)
            assert not sending.done()
            # A batch is what one read brought, which is at most 256 KiB.
            assert conn.queued <= HIGH + (256 * 1024 if handler == "batch" else len(frame(PIECE)))
            enough.set()
            data = await peer.rest()
            assert data == frame(PIECE) * await sending

    run(main)


async def push(peer: Peer, enough: asyncio.Event) -> int:
    """Send until told that it is enough, or far more than all the kernel's buffers on the way take; how often."""
    count = 0
    while count < 8 * COUNT and not enough.is_set():
        await peer.send(frame(PIECE))
        count += 1
    peer.finish()
    return count


def test_send_nowait_queues_above_the_limit(run: Run) -> None:
    async def main() -> None:
        server, ends = make()
        server.on_message(lambda _conn, _message: None)
        async with server, connected(server, buffer=BUFFER) as peer:
            conn = await opened(server, peer)
            assert (conn.writable, conn.queued) == (True, 0)
            await fill(conn)
            before = conn.queued
            for _ in range(100):
                conn.send_nowait(PIECE)
            assert conn.queued == before + 100 * len(frame(PIECE))
            assert not conn.writable
            conn.close()
            data = await peer.rest()
            assert data == frame(PIECE) * (len(data) // len(frame(PIECE)))
            assert (await ends.next()).code == "closed"

    run(main)


def test_drain_waits_for_the_low_watermark(run: Run) -> None:
    async def main() -> None:
        server, _ = make(low=1000)
        server.on_message(lambda _conn, _message: None)
        async with server, connected(server, buffer=BUFFER) as peer:
            conn = await opened(server, peer)
            await conn.drain()
            await fill(conn)
            drained = [asyncio.ensure_future(conn.drain()) for _ in range(3)]
            drained[0].cancel()
            reading = asyncio.create_task(peer.rest())
            await asyncio.gather(*drained[1:])
            assert conn.queued <= 1000
            assert conn.writable
            conn.close()
            assert (await reading).endswith(PIECE)

    run(main)


@pytest.mark.parametrize("how", ["abort", "reset"])
def test_who_waits_learns_of_the_end(run: Run, how: str) -> None:
    async def main() -> None:
        server, ends = make()
        server.on_message(lambda _conn, _message: None)
        async with server, connected(server, buffer=BUFFER) as peer:
            conn = await opened(server, peer)
            await fill(conn)
            waiting = [asyncio.ensure_future(conn.drain()), asyncio.ensure_future(conn.send(PIECE))]
            if how == "abort":
                conn.abort("enough")
            else:
                peer.reset()
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(result, wireway.ConnectionClosedError)
                assert isinstance(result, ConnectionError)
            reason = await ends.next()
            if how == "abort":
                assert (reason.code, reason.why, reason.error) == ("aborted", "enough", None)
            else:
                assert reason.code == "peer-reset"
            with pytest.raises(
                wireway.ConnectionClosedError, match=re.escape(f"the connection is closed: {reason.why}")
            ):
                conn.drain()

    run(main)
