"""A `Server` behind a `FaultyLink`, on every back end: its messages stay whole, and its ends have the right reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from conftest import Run
from support.peers import Ends, frame
from wireway import Connection, LengthPrefix, Server
from wireway.testing import FaultyLink


class Served(NamedTuple):
    """An echo server, a link to it, and a client of the link."""

    server: Server
    ends: Ends
    link: FaultyLink
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4))

    @server.on_message
    async def echo(conn: Connection, message: bytes) -> None:
        await conn.send(message)

    ends = Ends(server)
    async with server:
        with FaultyLink(server.addresses[0]) as link:
            reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
            try:
                yield Served(server, ends, link, reader, writer)
            finally:
                writer.transport.abort()


async def echoed(one: Served, message: bytes) -> None:
    one.writer.write(frame(message))
    assert await one.reader.readexactly(4 + len(message)) == frame(message)


async def fill(conn: Connection) -> int:
    """Send pieces of 4 KiB until the connection is not writable; how many."""
    count = 0
    while conn.writable:
        conn.send_nowait(b"x" * 4096)
        count += 1
        await asyncio.sleep(0)
    return count


def test_messages_stay_whole_at_every_cut(run: Run) -> None:
    async def main() -> None:
        async with served() as one:
            one.link.slice(1, every=0.001)
            await echoed(one, b"0123456789")
            one.link.lift()
            for size in range(1, 20):
                with one.link.slice(size):
                    await echoed_many(one, size)

    async def echoed_many(one: Served, count: int) -> None:
        messages = [bytes([number]) * number for number in range(count)]
        one.writer.write(b"".join(map(frame, messages)))
        expected = b"".join(map(frame, messages))
        assert await one.reader.readexactly(len(expected)) == expected

    run(main)


def test_a_delay_and_a_narrow_line_only_take_time(run: Run) -> None:
    async def main() -> None:
        async with served() as one:
            one.link.delay(0.01, 0.02)
            one.link.bandwidth(500_000)
            await echoed(one, b"x" * 20_000)

    run(main)


def test_a_reset_is_told_as_one(run: Run) -> None:
    async def main() -> None:
        async with served() as one:
            await echoed(one, b"x")
            one.link.reset()
            assert (await one.ends.next()).code == "peer-reset"

    run(main)


def test_a_reset_within_a_message(run: Run) -> None:
    async def main() -> None:
        async with served() as one:
            one.link.reset(after_bytes=6, direction="upstream")
            one.writer.write(frame(b"message"))
            assert (await one.ends.next()).code == "peer-reset"
            assert one.server.stats.messages_in == 0

    run(main)


def test_a_half_close_within_a_message(run: Run) -> None:
    async def main() -> None:
        async with served() as one:
            await echoed(one, b"x")
            one.writer.write(frame(b"message")[:6])
            await asyncio.to_thread(one.link.wait, lambda counts: counts.upstream == 11)
            one.link.half_close()
            assert (await one.ends.next()).code == "truncated-frame"
            assert await one.reader.read() == b""

    run(main)


def test_dropped_connections_ended_in_order(run: Run) -> None:
    async def main() -> None:
        async with served() as one:
            await echoed(one, b"x")
            one.link.drop_connections()
            assert (await one.ends.next()).code == "peer-closed"

    run(main)


def test_a_blackhole_stops_the_sender_and_nobody_else(run: Run) -> None:
    async def main() -> None:
        async with served() as one, served() as other:
            await echoed(one, b"x")
            (conn,) = one.server.connections
            with one.link.blackhole():
                expected = frame(b"x" * 4096) * await fill(conn)
                await echoed(other, b"still here")
                assert not conn.is_closing
            assert await one.reader.readexactly(len(expected)) == expected
            await conn.drain()

    run(main)


def test_a_closed_window_is_no_end(run: Run) -> None:
    async def main() -> None:
        async with served() as one:
            await echoed(one, b"x")
            (conn,) = one.server.connections
            fault = one.link.zero_window(direction="downstream")
            expected = frame(b"x" * 4096) * await fill(conn)
            fault.lift()
            assert await one.reader.readexactly(len(expected)) == expected

    run(main)


def test_refused_and_then_served(run: Run) -> None:
    async def main() -> None:
        async with served() as one:
            with one.link.refuse():
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", one.link.port)
                await echoed(one, b"open ones stay")

    run(main)
