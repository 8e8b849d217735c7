"""`send_latest`: where the peer is slow a newer message takes the place of the older one with its key."""

from __future__ import annotations

import asyncio

import pytest

from conftest import Run
from support.peers import connected, frame
from wireway import Buffers, Connection, ConnectionClosedError, LengthPrefix, SendResult, Server

ROUNDS = 500


def test_the_newest_of_each_key_arrives(run: Run) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4), buffers=Buffers(low=1000, high=4000))
        got: list[SendResult] = []

        @server.on_message
        def start(conn: Connection, message: bytes) -> None:
            while conn.writable:
                conn.send_nowait(bytes(4000))
            for number in range(ROUNDS):
                got.extend(conn.send_latest(b"%b%d" % (key, number), key) for key in (b"a", b"b"))

        async with server, connected(server, buffer=4096) as peer:
            await peer.send(frame(b"go"))
            while len(got) < 2 * ROUNDS:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0)
            assert set(got) == {SendResult.OVER, SendResult.DROPPED}
            assert got[:2] == [SendResult.OVER] * 2
            while (size := int.from_bytes(await peer.receive(4))) == 4000:
                assert await peer.receive(size) == bytes(size)
            # In the order of the keys, each once, each the newest.
            assert await peer.receive(size) == b"a%d" % (ROUNDS - 1)
            assert await peer.receive(8) == frame(b"b%d" % (ROUNDS - 1))
            (conn,) = server.connections
            assert conn.send_latest(b"fast", b"a") is SendResult.QUEUED
            assert await peer.receive(8) == frame(b"fast")
            conn.close()
            with pytest.raises(ConnectionClosedError):
                conn.send_latest(b"late", b"a")

    run(main)
