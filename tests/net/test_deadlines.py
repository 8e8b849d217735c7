"""Deadlines of a connection: each closes with its code, not before its time, and nobody who did what was asked."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from conftest import Run
from support.peers import connected, frame
from support.timed import DAY, SMALL, fill, narrow, timed, whole
from wireway import Connection, ConnectionClosedError, Timeouts

CODES = {
    "first_message": "first-message-timeout",
    "idle": "idle-timeout",
    "idle_read": "read-timeout",
    "idle_write": "write-timeout",
    "lifetime": "lifetime",
}


def only(option: str, seconds: float = 10) -> dict[str, Timeouts]:
    """One deadline and no other."""
    return {"timeouts": Timeouts(**{option: seconds})}


@pytest.mark.parametrize("option", CODES)
def test_a_silent_peer_is_closed_at_its_time(run: Run, option: str) -> None:
    async def main() -> None:
        async with timed(**only(option)) as it, connected(it.server) as peer:
            await it.opened()
            await it.lives(9.9)
            await it.clock.advance(0.2)
            (end,) = it.ends.all()
            assert (end.code, end.side) == (CODES[option], "local")
            assert 10 <= end.age <= 10.1
            assert end.why.endswith(" for 10 s")
            assert await peer.rest() == b"", "an end, not a reset"

    run(main, limit=DAY)


def test_without_deadlines_silence_is_fine(run: Run) -> None:
    async def main() -> None:
        async with timed() as it, connected(it.server) as peer:
            await it.opened()
            await it.lives(7 * DAY, step=DAY / 8)
            await peer.send(frame(b"still here"))
            assert await peer.receive(14) == frame(b"still here")

    run(main, limit=30 * DAY)


def test_a_byte_a_second_is_no_first_message(run: Run) -> None:
    async def main() -> None:
        async with timed(**only("first_message")) as it, connected(it.server) as slow, connected(it.server) as good:
            await it.opened(2)
            stream = frame(bytes(100))
            for place in range(9):
                await slow.send(stream[place : place + 1])
                await it.lives(1)
            await good.send(frame(b"hello"))
            assert await good.receive(9) == frame(b"hello")
            await it.clock.advance(1.1)
            (end,) = it.ends.all()
            assert (end.code, end.partial + end.backlog) == ("first-message-timeout", 9)
            await it.lives(100)

    run(main, limit=DAY)


@pytest.mark.parametrize("option", ["idle", "idle_read", "idle_write"])
def test_a_peer_that_talks_in_time_is_not_idle(run: Run, option: str) -> None:
    async def main() -> None:
        async with timed(**only(option)) as it, connected(it.server) as peer:
            await it.opened()
            for _ in range(4):
                await it.lives(9.5)
                await peer.send(frame(b"x"))
                assert await peer.receive(5) == frame(b"x")
            await it.lives(9.9)
            assert await it.code(0.2) == CODES[option]

    run(main, limit=DAY)


@pytest.mark.parametrize(("option", "lives"), [("idle", True), ("idle_read", False), ("idle_write", True)])
def test_what_only_we_send(run: Run, option: str, lives: bool) -> None:
    async def main() -> None:
        async with timed(**only(option)) as it, connected(it.server) as peer:
            await it.opened()
            for _ in range(3):
                await it.clock.advance(4)
                it.server.broadcast(b"news")
            ends = [end.code for end in it.ends.all()]
            assert ends == ([] if lives else ["read-timeout"])
            assert whole(await peer.receive(16)) == [b"news"] * 2

    run(main, limit=DAY)


@pytest.mark.parametrize(("option", "lives"), [("idle", True), ("idle_read", True), ("idle_write", False)])
def test_what_only_the_peer_sends(run: Run, option: str, lives: bool) -> None:
    async def main() -> None:
        async with timed(lambda _conn, _message: None, **only(option)) as it, connected(it.server) as peer:
            await it.opened()
            for _ in range(3):
                await it.clock.advance(4)
                if it.server.stats.open:
                    await peer.send(frame(b"news"))
            ends = [end.code for end in it.ends.all()]
            assert ends == ([] if lives else ["write-timeout"])

    run(main, limit=DAY)


def test_a_life_ends_whatever_it_does(run: Run) -> None:
    async def main() -> None:
        async with timed(**only("lifetime")) as it, connected(it.server) as peer:
            await it.opened()
            for _ in range(9):
                await peer.send(frame(b"x"))
                assert await peer.receive(5) == frame(b"x")
                await it.lives(1.1)
            assert await it.code(0.2) == "lifetime"

    run(main, limit=DAY)


def test_the_earliest_of_several_is_kept(run: Run) -> None:
    async def main() -> None:
        timeouts = Timeouts(first_message=3, idle=7, lifetime=20)
        async with timed(timeouts=timeouts) as it, AsyncExitStack() as stack:
            silent, once, often = [await stack.enter_async_context(connected(it.server)) for _ in range(3)]
            await it.opened(3)
            await it.clock.advance(1.1)
            await once.send(frame(b"x"))
            for second in range(2, 20):
                await often.send(frame(b"x"))
                await it.clock.advance(1)
                codes = [end.code for end in it.ends.all()]
                assert codes == {3: ["first-message-timeout"], 9: ["idle-timeout"]}.get(second, [])
            assert await it.code(1.1) == "lifetime"
            assert await silent.rest() == b""

    run(main, limit=DAY)


def test_our_long_handler_is_not_the_peers_silence(run: Run) -> None:
    async def main() -> None:
        done = asyncio.Event()

        async def think(conn: Connection, message: bytes) -> None:
            await done.wait()
            await conn.send(message)

        timeouts = Timeouts(idle=10, idle_read=12)
        async with timed(think, timeouts=timeouts) as it, connected(it.server) as peer:
            await peer.send(frame(b"x"))
            await it.until(lambda: it.server.stats.handlers == 1)
            await it.lives(100)
            done.set()
            assert await peer.receive(5) == frame(b"x")
            await it.lives(9.9)
            assert await it.code(0.2) == "idle-timeout"

    run(main, limit=DAY)


@pytest.mark.parametrize("option", ["idle", "idle_read"])
def test_who_waits_for_a_message_waits_for_the_peer(run: Run, option: str) -> None:
    """With `on_connect` alone a handler runs as long as the connection: its peer can be idle nevertheless."""

    async def main() -> None:
        seen: list[Any] = []
        work = asyncio.Event()

        async def talk(conn: Connection) -> None:
            try:
                async for message in conn:
                    seen.append(message)
                    await work.wait()
            except ConnectionClosedError as error:
                seen.append(str(error))

        async with timed(on_connect=talk, **only(option)) as it, connected(it.server) as peer:
            await it.opened()
            await it.lives(9)
            await peer.send(frame(b"x"))
            await it.until(lambda: seen == [b"x"])
            await it.lives(100)
            work.set()
            await it.lives(9.9)
            assert await it.code(0.2) == CODES[option]
            await it.clock.advance(0)
            assert seen[1:] == [f"the connection is closed: {it.server.closed.filter(code=CODES[option])[0].why}"]

    run(main, limit=DAY)


def test_a_handler_that_asks_for_the_next_message(run: Run) -> None:
    async def main() -> None:
        async def pair(conn: Connection, message: bytes) -> None:
            await conn.send(message + await conn.receive())

        async with timed(pair, **only("idle")) as it, connected(it.server) as peer:
            await peer.send(frame(b"a"))
            await it.until(lambda: it.server.stats.handlers == 1)
            await it.lives(9.9)
            await peer.send(frame(b"b"))
            assert await peer.receive(6) == frame(b"ab")
            await peer.send(frame(b"c"))
            await it.until(lambda: it.server.stats.handlers == 1)
            await it.lives(9.9)
            assert await it.code(0.2) == "idle-timeout"

    run(main, limit=DAY)


def test_who_is_not_read_from_is_not_idle(run: Run) -> None:
    async def main() -> None:
        timeouts = Timeouts(idle=10, idle_read=12)
        async with timed(timeouts=timeouts) as it, connected(it.server) as peer:
            (conn,) = await it.opened()
            conn.pause()
            await it.lives(100)
            await peer.send(frame(b"x"))
            await it.lives(100)
            conn.resume()
            assert await peer.receive(5) == frame(b"x")
            await it.lives(9.9)
            assert await it.code(0.2) == "idle-timeout"

    run(main, limit=DAY)


@pytest.mark.parametrize("speaks", [True, False])
def test_our_waiting_on_connect_is_not_the_peers(run: Run, speaks: bool) -> None:
    async def main() -> None:
        ready = asyncio.Event()

        async def greet(conn: Connection) -> None:
            await ready.wait()
            conn.send_nowait(b"welcome")

        def echo(conn: Connection, message: bytes) -> None:
            conn.send_nowait(message)

        timeouts = Timeouts(first_message=10)
        async with timed(echo, on_connect=greet, timeouts=timeouts) as it, connected(it.server) as peer:
            if speaks:
                await peer.send(frame(b"early"))
            await it.opened()
            await it.lives(30)
            ready.set()
            assert await peer.receive(11) == frame(b"welcome")
            if speaks:
                assert await peer.receive(9) == frame(b"early")
                await it.lives(100)
            else:
                await it.lives(9.9)
                assert await it.code(0.2) == "first-message-timeout"

    run(main, limit=DAY)


def test_a_peer_that_takes_nothing(run: Run) -> None:
    async def main() -> None:
        async with timed(**narrow(**only("write_stall"))) as it, connected(it.server, buffer=SMALL) as peer:
            (conn,) = await it.opened()
            await it.lives(100)
            await fill(conn)
            await it.lives(9.8)
            await it.clock.advance(0.4)
            (end,) = it.ends.all()
            assert end.code == "write-stalled"
            assert end.queued > 0
            await peer.gone()

    run(main, limit=DAY)


def test_a_peer_that_takes_a_little_in_time(run: Run) -> None:
    async def main() -> None:
        async with timed(**narrow(**only("write_stall"))) as it, connected(it.server, buffer=SMALL) as peer:
            (conn,) = await it.opened()
            count = await fill(conn)
            data = b""
            for _ in range(4):
                await it.lives(9)
                data += await peer.receive(20_000)
                await it.until(lambda before=conn.stats["bytes_out"]: conn.stats["bytes_out"] >= before)
            reading = asyncio.ensure_future(peer.receive(count * 4100 - len(data)))
            assert len(whole(data + await reading)) == count
            await it.lives(100)

    run(main, limit=DAY)


def test_a_close_waits_for_its_queue_and_no_longer(run: Run) -> None:
    async def main() -> None:
        async with (
            timed(**narrow(**only("close_linger", 5))) as it,
            connected(it.server, buffer=SMALL) as deaf,
            connected(it.server, buffer=SMALL) as slow,
        ):
            conns = await it.opened(2)
            count = [await fill(conn) for conn in conns][1]
            for conn in conns:
                conn.close("enough")
            await it.lives(4.9)
            received = whole(await slow.rest())
            assert len(received) == count, "closing loses nothing for who reads"
            await it.until(lambda: it.server.stats.open == 1)
            await it.clock.advance(0.2)
            first, second = it.ends.all()
            assert (first.connection, first.code, first.queued) == (2, "closed", 0)
            assert (second.connection, second.code, second.phase) == (1, "linger-timeout", "closing")
            assert second.why.startswith("enough; the peer did not take the last ")
            assert second.queued > 0
            assert 5 <= second.age <= 5.1
            await deaf.gone()

    run(main, limit=DAY)


def test_very_many_deadlines_at_once(run: Run, backend: str) -> None:
    async def main() -> None:
        count = 400 if backend == "select" else 1000  # FD_SETSIZE
        async with timed(**only("idle")) as it, AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(connected(it.server)) for _ in range(count)]
            await it.opened(count)
            await it.lives(5)
            for peer in peers[::2]:
                await peer.send(frame(b"x"))
                assert await peer.receive(5) == frame(b"x")
            await it.lives(4.9)
            await it.clock.advance(0.2)
            first = it.ends.all()
            assert [end.code for end in first] == ["idle-timeout"] * (count // 2)
            assert {end.connection for end in first} == set(range(2, count + 1, 2))
            await it.lives(4.7)
            await it.clock.advance(0.3)
            assert [end.code for end in it.ends.all()] == ["idle-timeout"] * (count // 2)
            assert all([await peer.rest() == b"" for peer in peers])

    run(main, limit=DAY)
