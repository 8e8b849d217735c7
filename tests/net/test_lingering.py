"""A close while the peer still sends: it reads our last bytes and an end, not a reset; we wait a bounded time."""

from __future__ import annotations

import asyncio

import pytest

from conftest import Run
from support.peers import connected, frame
from support.timed import DAY, timed
from wireway import Connection, Timeouts

LAST = b"last words" * 1000


def goodbye(conn: Connection, _message: bytes) -> None:
    """Answer the first message with our last, and hear no more."""
    conn.send_nowait(LAST)
    conn.close("enough")


@pytest.mark.parametrize("more", [1, 100_000, 1_000_000])
def test_the_peer_reads_our_last_bytes_and_an_end(run: Run, more: int) -> None:
    async def main() -> None:
        async with timed(goodbye) as it, connected(it.server) as peer:
            sending = asyncio.ensure_future(peer.send(frame(b"hello") + frame(bytes(more))))
            assert await peer.rest() == frame(LAST), "neither cut nor reset"
            await sending
            peer.finish()
            await it.until(lambda: it.server.stats.open == 0)
            (end,) = it.ends.all()
            assert (end.code, end.why, end.messages_in) == ("closed", "enough", 1)

    run(main, limit=DAY)


def test_a_peer_that_never_ends_is_waited_for_a_while(run: Run) -> None:
    async def main() -> None:
        async def pause(conn: Connection, _message: bytes) -> None:
            conn.pause()
            await asyncio.sleep(1)
            conn.close("enough")

        async with timed(pause, timeouts=Timeouts(close_linger=3)) as it, connected(it.server) as peer:
            await peer.send(frame(b"hello"))
            await it.until(lambda: it.server.stats.handlers == 1)
            await peer.send(bytes(50_000))
            await it.clock.advance(1.1)
            assert await peer.rest() == b""
            assert it.server.stats.open == 1
            for _ in range(3):
                await peer.send(b"and more")
                await it.lives(0.9)
            await it.clock.advance(0.5)
            (end,) = it.ends.all()
            assert (end.code, end.why) == ("closed", "enough")
            assert 4 <= end.age <= 4.2

    run(main, limit=DAY)


def test_who_has_said_all_is_not_waited_for(run: Run) -> None:
    async def main() -> None:
        async with timed(goodbye) as it, connected(it.server) as peer:
            await peer.send(frame(b"hello"))
            assert await peer.rest() == frame(LAST)
            await it.until(lambda: it.server.stats.open == 0)

    run(main, limit=DAY)


def test_an_abort_waits_for_nobody(run: Run) -> None:
    async def main() -> None:
        async with timed() as it, connected(it.server) as peer:
            (conn,) = await it.opened()
            conn.pause()
            await peer.send(frame(b"hello"))
            await it.lives(0)
            conn.abort()
            assert it.server.stats.open == 0
            with pytest.raises(ConnectionResetError):
                await peer.rest()

    run(main, limit=DAY)
