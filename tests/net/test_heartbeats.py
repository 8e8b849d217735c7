"""Heartbeats: silent peers are pinged, those that answer live, those that do not end, and no handler sees any of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from conftest import Run
from support.peers import Peer, connected, frame
from support.timed import DAY, SMALL, Timed, fill, narrow, timed, whole
from wireway import Connection, ConnectionClosedError, Framing, Heartbeat, LengthPrefix, Lines, Raw, Varint

PING = frame(b"ping")
PONG = frame(b"pong")


def beat(every: float = 10, *, jitter: float = 0, **options: Any) -> dict[str, Heartbeat]:
    """A heartbeat by the clock, unless told."""
    return {"heartbeat": Heartbeat(**{"every": every, "ping": b"ping", "pong": b"pong", "jitter": jitter} | options)}


def waiting(peer: Peer) -> bytes:
    """What has come to a peer and was not read yet."""
    try:
        return peer.sock.recv(1 << 16)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize(
    ("framing", "ping"), [(LengthPrefix(4), PING), (Lines(), b"ping\n"), (Varint(), b"\x04ping"), (Raw(), b"ping")]
)
def test_a_silent_peer_is_pinged_in_its_framing(run: Run, framing: Framing, ping: bytes) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        pong = ping.replace(b"ping", b"pong")
        handler = lambda _conn, message: seen.append(message)  # noqa: E731
        async with timed(handler, framing=framing, **beat()) as it, connected(it.server) as peer:
            await it.opened()
            for _ in range(3):
                await it.lives(9.9)
                assert waiting(peer) == b""
                await it.lives(0.2)
                assert waiting(peer) == ping, "one, and not one more"
                await peer.send(pong)
                await it.lives(0)
            await peer.send(ping)
            await it.until(lambda: bool(seen))
            assert seen == [b"ping"], "the word is theirs to use: only the pong is swallowed"

    run(main, limit=DAY)


def test_a_new_framing_holds_for_pings_too(run: Run) -> None:
    async def main() -> None:
        async with timed(**beat()) as it, connected(it.server) as peer:
            (conn,) = await it.opened()
            conn.set_framing(Lines())
            await it.lives(10.1)
            assert waiting(peer) == b"ping\n"
            await peer.send(b"pong\nhello\n")
            assert await peer.receive(6) == b"hello\n"

    run(main, limit=DAY)


def test_a_peer_that_just_spoke_is_not_pinged(run: Run) -> None:
    async def main() -> None:
        async with timed(lambda _conn, _message: None, **beat()) as it, connected(it.server) as peer:
            await it.opened()
            for _ in range(5):
                await it.lives(9.5)
                await peer.send(frame(b"news"))
            await it.lives(9.9)
            assert waiting(peer) == b""

    run(main, limit=DAY)


def test_what_we_send_is_no_life_of_the_peers(run: Run) -> None:
    async def main() -> None:
        async with timed(**beat(timeout=5)) as it, connected(it.server) as peer:
            await it.opened()
            for _ in range(3):
                await it.lives(4.9)
                it.server.broadcast(b"news")
            assert await it.code(0.5) == "heartbeat-timeout"
            assert whole(await peer.rest()) == [b"news", b"news", b"ping", b"news"]

    run(main, limit=DAY)


@pytest.mark.parametrize(("timeout", "end"), [(None, 20), (3, 13), (0.5, 10.5)])
def test_a_peer_that_does_not_answer(run: Run, timeout: float | None, end: float) -> None:
    async def main() -> None:
        async with timed(**beat(timeout=timeout)) as it, connected(it.server) as dead, connected(it.server) as alive:
            await it.opened(2)
            await it.lives(10.1)
            await alive.send(PONG)
            await it.lives(end - 10.2)
            await it.clock.advance(0.2)
            (reason,) = it.ends.all()
            assert (reason.connection, reason.code, reason.side) == (1, "heartbeat-timeout", "local")
            assert f"for {end:g} s" in reason.why
            assert end <= reason.idle_in <= end + 0.1
            await dead.gone()

    run(main, limit=DAY)


def test_pings_are_spread_by_their_jitter(run: Run) -> None:
    async def main() -> None:
        count, rounds = 60, 3
        waits: list[float] = []
        async with timed(**beat(jitter=0.5)) as it, AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(connected(it.server)) for _ in range(count)]
            await it.opened(count)
            since = dict.fromkeys(peers, it.clock.now)
            while len(waits) < count * rounds:
                await it.clock.advance(0.1)
                for peer in peers:
                    if data := waiting(peer):
                        assert data == PING
                        waits.append(it.clock.now - since[peer])
                        since[peer] = it.clock.now
                        await peer.send(PONG)
                await it.lives(0)
            assert 5 <= min(waits) < 5.5
            assert 9.5 < max(waits) <= 10.2
            halves = sum(wait < 7.5 for wait in waits)
            assert 0.3 < halves / len(waits) < 0.7
            assert it.ends.all() == []

    run(main, limit=DAY)


@pytest.mark.parametrize("kind", ["function", "coroutine", "batch", "pulled"])
def test_no_handler_sees_them(run: Run, kind: str) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        handlers: dict[str, Any] = {}

        async def later(_conn: Connection, message: bytes) -> None:
            await asyncio.sleep(0)
            seen.append(message)

        async def pull(conn: Connection) -> None:
            seen.append(await conn.receive())
            seen.extend([message async for message in conn])

        if kind == "function":
            handlers["handler"] = lambda _conn, message: seen.append(message)
        elif kind == "coroutine":
            handlers["handler"] = later
        elif kind == "batch":
            handlers["on_batch"] = lambda _conn, messages: seen.append(b"+".join(messages))
        else:
            handlers["on_connect"] = pull
        options = beat(answers={b"are you there?": b"yes", b"?": b""})
        async with timed(**handlers, **options) as it, connected(it.server) as peer:
            asked = frame(b"are you there?")
            await peer.send(PONG + asked)
            assert await peer.receive(7) == frame(b"yes")
            await peer.send(frame(b"a") + asked + frame(b"b") + PONG + frame(b"?") + asked)
            assert await peer.receive(7 + 4 + 7) == frame(b"yes") + frame(b"") + frame(b"yes")
            for cut in range(1, len(asked)):
                await peer.send(asked[:cut])
                await it.lives(0)
                await peer.send(asked[cut:] + frame(b"%d" % cut))
                assert await peer.receive(7) == frame(b"yes")
            peer.finish()
            await peer.rest()
            numbers = [b"%d" % cut for cut in range(1, len(asked))]
            assert seen == ([b"a+b"] if kind == "batch" else [b"a", b"b"]) + numbers
            assert [end.code for end in it.ends.all()] == ["peer-closed"]

    run(main, limit=DAY)


def test_answers_keep_their_place_among_messages(run: Run) -> None:
    async def main() -> None:
        async with timed(**beat(answers={b"PING": b"PONG"})) as it, connected(it.server) as peer:
            await peer.send(frame(b"a") + frame(b"PING") + frame(b"b"))
            assert whole(await peer.receive(5 + 8 + 5)) == [b"a", b"PONG", b"b"]

    run(main, limit=DAY)


async def answer(it: Timed, peer: Peer, times: int) -> None:
    """Answer so many pings."""
    for _ in range(times):
        await it.lives(10.1)
        assert waiting(peer) == PING
        await peer.send(PONG)
        await it.lives(0)


def test_they_go_on_while_a_handler_is_suspended(run: Run) -> None:
    async def main() -> None:
        done = asyncio.Event()
        seen: list[bytes] = []

        async def work(conn: Connection, message: bytes) -> None:
            seen.append(message)
            await done.wait()
            conn.send_nowait(b"done")

        async with timed(work, **beat()) as it, connected(it.server) as peer, connected(it.server) as dead:
            await peer.send(frame(b"one"))
            await dead.send(frame(b"two"))
            await it.until(lambda: it.server.stats.handlers == 2)
            await answer(it, peer, 1)
            await peer.send(frame(b"three"))
            assert await it.code(9.95) == "heartbeat-timeout", "who is gone is found, busy as we are"
            await it.lives(0.1)
            assert waiting(peer) == PING
            await peer.send(PONG)
            await it.lives(0)
            await answer(it, peer, 3)
            done.set()
            assert whole(await peer.receive(16)) == [b"done"] * 2
            assert sorted(seen) == [b"one", b"three", b"two"]
            await answer(it, peer, 2)
            await dead.gone()

    run(main, limit=DAY)


def test_who_waits_in_receive_is_told_of_the_end(run: Run) -> None:
    async def main() -> None:
        errors: list[str] = []

        async def talk(conn: Connection) -> None:
            with pytest.raises(ConnectionClosedError) as info:
                async for _ in conn:
                    pass
            errors.append(str(info.value))

        async with timed(on_connect=talk, **beat()) as it, connected(it.server) as peer:
            await it.opened()
            await answer(it, peer, 3)
            assert await it.code(20.1) == "heartbeat-timeout"
            await it.clock.advance(0)
            assert "no answer to a heartbeat" in errors[0]

    run(main, limit=DAY)


def test_who_is_not_read_from_is_not_judged(run: Run) -> None:
    async def main() -> None:
        async with timed(**beat()) as it, connected(it.server) as peer:
            (conn,) = await it.opened()
            conn.pause()
            await it.lives(100)
            assert waiting(peer) == b""
            conn.resume()
            await answer(it, peer, 2)
            assert await it.code(20.1) == "heartbeat-timeout"

    run(main, limit=DAY)


def test_a_stuck_peer_is_not_sent_pings_as_well(run: Run) -> None:
    async def main() -> None:
        async with timed(**narrow(**beat())) as it, connected(it.server, buffer=SMALL) as peer:
            (conn,) = await it.opened()
            count = await fill(conn)
            await it.lives(15)
            assert conn.stats["messages_out"] == count
            assert await it.code(5.2) == "heartbeat-timeout"
            await peer.gone()

    run(main, limit=DAY)


@pytest.mark.parametrize("kind", ["message", "batch", "pulled"])
def test_who_asks_and_does_not_read_gets_no_more_answers(run: Run, kind: str) -> None:
    async def main() -> None:
        async def pull(conn: Connection) -> None:
            async for _ in conn:
                pass

        nothing: dict[str, Any] = {
            "message": {"handler": lambda _conn, _message: None},
            "batch": {"on_batch": lambda _conn, _messages: None},
            "pulled": {"on_connect": pull},
        }[kind]
        options = narrow(**beat(answers={b"?": bytes(5_000)}))
        async with timed(**nothing, **options) as it, connected(it.server, buffer=SMALL) as peer:
            (conn,) = await it.opened()
            asking = asyncio.ensure_future(peer.send(frame(b"?") * 10_000))
            await it.until(lambda: not conn.writable)
            for _ in range(100):
                await asyncio.sleep(0)
            assert conn.queued < 300_000, "65,536 and what one read asked for at most"
            reading = asyncio.ensure_future(peer.rest())
            await asking
            peer.finish()
            assert len(whole(await reading)) == 10_000, "who reads gets them all"

    run(main, limit=DAY)
