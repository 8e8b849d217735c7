"""Peers that do not read: what becomes of their messages, what they cost, and that nobody else notices."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from conftest import Run
from support.peers import connected, frame
from support.timed import DAY, SMALL, Timed, fill, narrow, timed, whole
from wireway import Buffers, Connection, Limits, SendResult

MARKS = {"low": 8 * 1024, "high": 32 * 1024}
PIECE = bytes(4096)


async def stuck(it: Timed, count: int = 1) -> Connection:
    """The newest connection, whose peer does not read, with more waiting than the high mark."""
    conn = (await it.opened(count))[-1]
    await fill(conn)
    return conn


def test_what_send_nowait_says(run: Run) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(**MARKS, when_slow="drop-oldest", droppable=3))
        async with timed(**options) as it, connected(it.server, buffer=SMALL) as peer:
            (conn,) = await it.opened()
            assert conn.send_nowait(b"first") is SendResult.QUEUED
            await fill(conn)
            before = conn.queued
            assert before > MARKS["low"]
            assert [conn.send_nowait(b"%d" % number) for number in range(5)] == [SendResult.OVER] * 3 + [
                SendResult.DROPPED
            ] * 2
            assert conn.queued == before, "what may be dropped is not in the queue yet"
            reading = asyncio.ensure_future(peer.rest())
            await it.until(lambda: conn.writable and conn.queued == 0)
            assert conn.send_nowait(b"last") is SendResult.QUEUED
            conn.close()
            messages = whole(await reading)
            assert messages[0] == b"first"
            assert messages[-4:] == [b"2", b"3", b"4", b"last"]
            assert set(messages[1:-4]) == {PIECE}

    run(main, limit=DAY)


def test_pausing_keeps_everything(run: Run) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(**MARKS))
        async with timed(**options) as it, connected(it.server, buffer=SMALL) as peer:
            conn = await stuck(it)
            before = conn.queued
            assert {conn.send_nowait(b"%03d" % number) for number in range(500)} == {SendResult.OVER}
            assert conn.queued == before + 500 * 7
            conn.close()
            assert whole(await peer.rest())[-500:] == [b"%03d" % number for number in range(500)]

    run(main, limit=DAY)


def test_more_than_the_hard_mark_closes_at_once(run: Run) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(**MARKS, hard=100_000))
        async with (
            timed(**options) as it,
            connected(it.server, buffer=SMALL) as other,
            connected(it.server, buffer=SMALL) as peer,
        ):
            conn = await stuck(it, 2)
            assert conn.id == 2
            while conn.queued + 4100 <= 100_000:
                assert conn.send_nowait(PIECE) is SendResult.OVER
            assert it.ends.all() == []
            assert conn.send_nowait(PIECE) is SendResult.DROPPED
            assert conn.is_closing
            (end,) = it.ends.all()
            assert (end.connection, end.code, end.side) == (2, "slow-consumer", "local")
            assert "the hard mark is 100000 bytes" in end.why
            assert end.queued > 100_000
            await peer.gone()
            await other.send(frame(b"x"))
            assert await other.receive(5) == frame(b"x")

    run(main, limit=DAY)


def test_a_large_message_to_who_reads_is_no_slow_consumer(run: Run) -> None:
    async def main() -> None:
        async with timed(buffers=Buffers(**MARKS, hard=100_000)) as it, connected(it.server) as peer:
            (conn,) = await it.opened()
            reading = asyncio.ensure_future(peer.receive(20 * 90_004))
            for _ in range(20):
                await conn.send(bytes(90_000))
                await conn.drain()
            assert await reading == frame(bytes(90_000)) * 20

    run(main, limit=DAY)


def test_more_than_the_soft_mark_for_long(run: Run) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(**MARKS, soft=64_000, soft_seconds=10))
        async with timed(**options) as it, connected(it.server, buffer=SMALL) as peer:
            conn = await stuck(it)
            await it.lives(30)
            assert conn.queued <= 64_000
            while conn.queued <= 64_000:
                conn.send_nowait(PIECE)
            await it.lives(9.9)
            while conn.queued > 64_000:
                await peer.receive(4100)
                await it.lives(0)
            await it.lives(30)
            while conn.queued <= 64_000:
                conn.send_nowait(PIECE)
            await it.lives(9.9)
            assert await it.code(0.2) == "slow-consumer"
            await peer.gone()

    run(main, limit=DAY)


@pytest.mark.parametrize("mark", ["soft", "hard"])
def test_a_mark_on_trial_counts_and_closes_nobody(run: Run, mark: str) -> None:
    async def main() -> None:
        buffers = Buffers(**MARKS, **{mark: 64_000}, soft_seconds=10)
        options = narrow(buffers=buffers, limits=Limits(dry_run=frozenset({mark})))
        async with timed(**options) as it, connected(it.server, buffer=SMALL) as peer:
            conn = await stuck(it)
            for _ in range(20):
                conn.send_nowait(PIECE)
            await it.lives(100)
            assert it.server.stats.would_close == {mark: 1}
            conn.close()
            assert set(whole(await peer.rest())) == {PIECE}

    run(main, limit=DAY)


def test_the_latest_of_each_key(run: Run) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(**MARKS, when_slow="latest", droppable=3))
        async with (
            timed(**options) as it,
            connected(it.server) as good,
            connected(it.server, buffer=SMALL) as slow,
        ):
            await stuck(it, 2)
            for price in range(50):
                for name in (b"gold", b"tin"):
                    assert it.server.broadcast(b"%s %d" % (name, price), key=name) == 2
            it.server.broadcast(b"note")
            every = [b"%s %d" % (name, price) for price in range(50) for name in (b"gold", b"tin")] + [b"note"]
            assert whole(await good.receive(sum(4 + len(each) for each in every))) == every
            for conn in it.server.connections:
                conn.close()
            assert [each for each in whole(await slow.rest()) if each != PIECE] == [b"gold 49", b"tin 49", b"note"]

    run(main, limit=DAY)


def test_the_policy_of_one_message(run: Run) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(**MARKS, droppable=2))
        async with timed(**options) as it, connected(it.server, buffer=SMALL) as slow, connected(it.server) as good:
            (conn, _) = await it.opened(2)
            await fill(conn)
            for number in range(5):
                assert it.server.broadcast(b"tick %d" % number, when_slow="drop-oldest") == 2
            assert it.server.broadcast(b"state 1", key=b"s", when_slow="latest") == 2
            assert it.server.broadcast(b"state 2", key=b"s", when_slow="latest") == 2
            assert it.ends.all() == []
            good_ones = [b"tick %d" % number for number in range(5)] + [b"state 1", b"state 2"]
            assert whole(await good.receive(5 * 10 + 2 * 11)) == good_ones
            reading = asyncio.ensure_future(slow.rest())
            await it.until(lambda: conn.queued == 0)
            conn.close()
            assert [each for each in whole(await reading) if each != PIECE] == [b"tick 4", b"state 2"]

    run(main, limit=DAY)


@pytest.mark.parametrize("how", ["server", "message"])
def test_slow_ones_may_be_closed(run: Run, how: str) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(**MARKS, when_slow="close" if how == "server" else "pause"))
        async with timed(**options) as it, connected(it.server, buffer=SMALL) as slow, connected(it.server) as good:
            (conn, _) = await it.opened(2)
            await fill(conn)
            assert it.ends.all() == []
            sent = it.server.broadcast(b"x") if how == "server" else it.server.broadcast(b"x", when_slow="close")
            assert sent == 1
            (end,) = it.ends.all()
            assert (end.connection, end.code) == (1, "slow-consumer")
            assert await good.receive(5) == frame(b"x")
            await slow.gone()

    run(main, limit=DAY)


@pytest.mark.parametrize("how", ["close", "half_close"])
def test_what_may_be_dropped_is_still_sent_at_the_end(run: Run, how: str) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(**MARKS, when_slow="drop-oldest", droppable=3))
        async with timed(**options) as it, connected(it.server, buffer=SMALL) as peer:
            conn = await stuck(it)
            for number in range(4):
                conn.send_nowait(b"%d" % number)
            getattr(conn, how)()
            assert whole(await peer.rest())[-4:] == [PIECE, b"1", b"2", b"3"]

    run(main, limit=DAY)


def test_a_budget_ends_the_greediest_and_no_other(run: Run) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(**MARKS), limits=Limits(queued_bytes=300_000))
        async with AsyncExitStack() as stack:
            it = await stack.enter_async_context(timed(**options))
            peers = [await stack.enter_async_context(connected(it.server, buffer=SMALL)) for _ in range(3)]
            good = await stack.enter_async_context(connected(it.server))
            small, big, middle, fine = await it.opened(4)
            for conn, size in ((small, 50_000), (big, 140_000), (middle, 90_000)):
                await fill(conn)
                while conn.queued < size:
                    conn.send_nowait(PIECE)
            assert it.ends.all() == []
            while not (ends := it.ends.all()):
                fine.send_nowait(b"x")
                small.send_nowait(PIECE)
            (end,) = ends
            assert (end.connection, end.code) == (big.id, "memory-budget")
            assert "allowed are 300000" in end.why
            assert not any(conn.is_closing for conn in (small, middle, fine))
            assert await good.receive(5) == frame(b"x")
            await peers[1].gone()
            for conn in (small, middle):
                conn.abort()

    run(main, limit=DAY)


def test_a_budget_is_for_what_does_not_leave(run: Run) -> None:
    """One broadcast to all makes more than the budget, for a moment: everybody reads, so nobody ends."""

    async def main() -> None:
        limits = Limits(queued_bytes=20_000)
        async with timed(limits=limits) as it, AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(connected(it.server)) for _ in range(50)]
            await it.opened(50)
            for _ in range(3):
                assert it.server.broadcast(bytes(1000)) == 50
                for peer in peers:
                    assert await peer.receive(1004) == frame(bytes(1000))
            assert it.ends.all() == []
            assert it.server.stats.queued == 0

    run(main, limit=DAY)


def test_a_budget_on_trial_counts_and_closes_nobody(run: Run) -> None:
    async def main() -> None:
        limits = Limits(queued_bytes=50_000, dry_run=frozenset({"queued_bytes"}))
        options = narrow(buffers=Buffers(**MARKS), limits=limits)
        async with timed(**options) as it, connected(it.server, buffer=SMALL):
            conn = await stuck(it)
            while conn.queued < 100_000:
                conn.send_nowait(PIECE)
            await it.lives(1)
            assert it.server.stats.would_close == {"queued_bytes": 1}
            conn.abort()

    run(main, limit=DAY)


def resident() -> int:
    """This process's memory, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("policy", ["drop-oldest", "close-hard"])
def test_three_hundred_stuck_clients(run: Run, policy: str) -> None:
    """A broadcast of 1 KB a second for a minute: what the stuck ones cost is bounded, and another gets everything."""

    async def main() -> None:
        marks = {"low": 2048, "high": 8192}
        buffers = Buffers(**marks, when_slow="drop-oldest", droppable=5) if "drop" in policy else Buffers(**marks)
        options = narrow(buffers=buffers, limits=Limits(queued_bytes=1 << 21) if "drop" not in policy else Limits())
        async with timed(**options) as it, AsyncExitStack() as stack:
            for _ in range(300):
                await stack.enter_async_context(connected(it.server, buffer=2048))
            good = await stack.enter_async_context(connected(it.server, buffer=1 << 18))
            for conn in (await it.opened(301))[:300]:
                await fill(conn, bytes(1020))
            gc.collect()
            before, queued = resident(), it.server.stats.queued
            for second in range(60):
                message = b"%04d" % second + bytes(1020)
                it.server.broadcast(message)
                await it.clock.advance(1, step=0.5)
                assert await good.receive(1028) == frame(message)
                assert it.server.stats.queued <= (queued if "drop" in policy else 1 << 21)
            assert resident() - before < 8 << 20, "of 18 MiB that were sent to them"
            ends = it.ends.all()
            assert {end.code for end in ends} <= {"memory-budget"}
            assert 301 not in {end.connection for end in ends}
            assert it.server.stats.open == 301 - len(ends)
            for conn in it.server.connections:
                conn.abort()

    run(main, limit=DAY)
