"""What a server counts, and what makes its connections wait: handlers at a time, messages and bytes a second."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack
from typing import Any

import pytest

from conftest import Run
from support.peers import Peer, connected, frame
from support.timed import DAY, Timed, timed, whole
from wireway import Connection, LengthPrefix, Limits, Refused, Server
from wireway.net.stats import ServerStats


def balanced(server: Server) -> ServerStats:
    """The counts, which are of one moment."""
    stats = server.stats
    assert stats.accepted == stats.open + sum(stats.closed.values())
    assert stats.open == len(server.connections)
    return stats


def waiting(peer: Peer) -> bytes:
    """What has come to a peer and was not read yet."""
    try:
        return peer.sock.recv(1 << 16)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("how", ["closed", "aborted", "refused", "handler-error", "bad", "peer-closed", "peer-reset"])
def test_counts_balance_in_every_way_to_end(run: Run, how: str, late: bool) -> None:
    async def main() -> None:
        seen = 0

        async def act(conn: Connection, message: bytes) -> None:
            nonlocal seen
            seen += 1
            balanced(server)
            if late:
                await asyncio.sleep(0)
            match message:
                case b"closed":
                    conn.close()
                case b"aborted":
                    conn.abort()
                case b"refused":
                    raise Refused("no")
                case b"handler-error":
                    raise ValueError("no")
            balanced(server)

        async with timed(act, framing=LengthPrefix(4, max_size=100)) as it, connected(it.server) as stays:
            server = it.server
            server._callbacks.on_close, told = lambda *_: balanced(server), server._callbacks.on_close
            assert told is not None
            for number in range(1, 4):
                async with connected(server) as peer:
                    await it.until(lambda number=number: balanced(server).accepted == number + 1)
                    data = b"\xff" * 4 if how == "bad" else frame(how.encode())
                    await peer.send(data)
                    if how.startswith("peer"):
                        await it.until(lambda number=number: seen == number)
                        peer.finish() if how == "peer-closed" else peer.reset()
                    await it.until(lambda: balanced(server).open == 1)
                code = "frame-too-large" if how == "bad" else how
                assert balanced(server).closed == {code: number}
            await stays.send(frame(b"x"))
        assert balanced(server).open == 0

    run(main, limit=DAY)


def test_bytes_and_messages_are_counted(run: Run) -> None:
    async def main() -> None:
        async with timed() as it, connected(it.server) as peer, connected(it.server):
            conn = (await it.opened(2))[0]
            await peer.send(frame(b"hello") + frame(b"") + frame(b"half")[:6])
            assert await peer.receive(13) == frame(b"hello") + frame(b"")
            assert it.server.broadcast(b"all") == 2
            await peer.receive(7)
            stats = conn.stats
            assert (stats["messages_in"], stats["messages_out"]) == (2, 3)
            assert (stats["bytes_in"], stats["bytes_out"]) == (19, 20)
            await it.until(lambda: it.server.stats.queued == 0)
            total = it.server.stats
            assert (total.messages_in, total.messages_out, total.bytes_in, total.bytes_out) == (2, 4, 19, 27)

    run(main, limit=DAY)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_the_message_that_ends_it_is_counted(run: Run, how: str) -> None:
    async def main() -> None:
        def end(conn: Connection, _message: bytes) -> None:
            assert conn.stats["messages_in"] == it.server.stats.messages_in == 1
            getattr(conn, how)()

        async with timed(end) as it, connected(it.server) as peer:
            await peer.send(frame(b"x"))
            await peer.gone()
            (reason,) = it.ends.all()
            assert (reason.messages_in, reason.phase) == (1, "open")

    run(main, limit=DAY)


def test_a_forgotten_connection_is_named(run: Run) -> None:
    async def main() -> None:
        held: list[Connection] = []

        def take(conn: Connection, message: bytes) -> None:
            if message == b"hold":
                held.append(conn)
            elif message == b"join":
                conn.join("group")

        async with timed(take) as it, AsyncExitStack() as stack:
            for number, message in enumerate((b"hold", b"join", b"forget", b"forget"), 1):
                peer = await stack.enter_async_context(connected(it.server))
                await it.until(lambda number=number: it.server.stats.open == number)
                await peer.send(frame(message))
            await it.until(lambda: it.server.stats.messages_in == 4)
            await it.lives(59)
            gc.collect()
            assert it.server.leaks() == []
            await peer.send(frame(b"forget"))
            await it.lives(2)
            gc.collect()
            assert [conn.id for conn in it.server.leaks()] == [3], "the fourth has just spoken"
            assert [conn.id for conn in it.server.leaks(idle=1)] == [3, 4]
            held.clear()
            gc.collect()
            assert [conn.id for conn in it.server.leaks()] == [1, 3]
            assert it.server.leaks(age=62) == []

    run(main, limit=DAY)


def test_never_more_handlers_than_allowed(run: Run) -> None:
    async def main() -> None:
        running = most = 0
        done: dict[int, list[bytes]] = {}

        async def work(conn: Connection, message: bytes) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            assert it.server.stats.handlers <= 3
            for _ in range(3):
                await asyncio.sleep(0)
            running -= 1
            done.setdefault(conn.id, []).append(message)

        async with timed(work, limits=Limits(handlers=3)) as it, AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(connected(it.server)) for _ in range(20)]
            words = [b"%d" % number for number in range(10)]
            for peer in peers:
                await peer.send(b"".join(map(frame, words)))
            await it.until(lambda: sum(map(len, done.values())) >= 60)
            assert max(map(len, done.values())) <= 6, "nobody takes all the turns"
            assert len(done) == 20, "nobody starves"
            await it.until(lambda: sum(map(len, done.values())) == 200)
            assert most == 3
            assert all(each == words for each in done.values())
            await it.until(lambda: it.server.stats.handlers == 0)

    run(main, limit=DAY)


def test_who_leaves_while_it_waits_for_a_handler(run: Run) -> None:
    async def main() -> None:
        go_on = asyncio.Event()
        done: list[bytes] = []

        async def work(_conn: Connection, message: bytes) -> None:
            await go_on.wait()
            done.append(message)

        async with timed(work, limits=Limits(handlers=1)) as it, connected(it.server) as first:
            await first.send(frame(b"first"))
            await it.until(lambda: it.server.stats.handlers == 1)
            async with connected(it.server) as leaves, connected(it.server) as breaks, connected(it.server) as stays:
                for peer, word in ((leaves, b"leaves"), (breaks, b"breaks"), (stays, b"stays")):
                    await peer.send(frame(word))
                await it.lives(0)
                await it.until(lambda: it.server.stats.bytes_in == 9 + 10 + 10 + 9)
                breaks.reset()
                leaves.finish()
                await it.until(lambda: it.server.stats.closed == {"peer-reset": 1})
                go_on.set()
                await it.until(lambda: len(done) == 3)
                assert sorted(done) == [b"first", b"leaves", b"stays"]
                await it.until(lambda: it.server.stats.open == 2)
                assert balanced(it.server).closed == {"peer-closed": 1, "peer-reset": 1}

    run(main, limit=DAY)


def kinds(kind: str, seen: list[bytes]) -> dict[str, Any]:
    """The handlers of a server that keeps what came."""

    async def pull(conn: Connection) -> None:
        seen.extend([await conn.receive()])
        async for message in conn:
            seen.append(message)  # noqa: PERF401 - each is looked at when it comes

    return {
        "message": {"handler": lambda _conn, message: seen.append(message)},
        "batch": {"on_batch": lambda _conn, messages: seen.extend(messages)},
        "pulled": {"on_connect": pull},
    }[kind]


@pytest.mark.parametrize("kind", ["message", "batch", "pulled"])
def test_messages_a_second(run: Run, kind: str) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        limits = Limits(message_rate=10, message_burst=5)
        async with timed(**kinds(kind, seen), limits=limits) as it, connected(it.server) as peer:
            words = [b"%03d" % number for number in range(100)]
            for word in words[:5]:
                await peer.send(frame(word))
                await it.lives(0)
            assert seen == words[:5], "a burst is free, one by one too"
            sending = asyncio.ensure_future(peer.send(b"".join(map(frame, words[5:]))))
            await it.lives(0)
            assert len(seen) == 5
            assert it.server.stats.paused == 1
            await it.lives(2)
            assert 24 <= len(seen) <= 26
            await it.lives(8)
            await sending
            assert seen == words
            await it.lives(1)
            assert it.server.stats.paused == 0

    run(main, limit=DAY)


@pytest.mark.parametrize("kind", ["message", "batch", "pulled"])
def test_bytes_a_second(run: Run, kind: str) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        limits = Limits(byte_rate=10_000, byte_burst=20_000)
        async with timed(**kinds(kind, seen), limits=limits) as it, connected(it.server, buffer=4096) as peer:
            count = 300
            sending = asyncio.ensure_future(peer.send(frame(bytes(996)) * count))
            await it.lives(10)
            assert 50 <= len(seen) <= 130, "20 s worth at the start, and 10 s"
            assert it.ends.all() == []
            await it.lives(30)
            await sending
            assert len(seen) == count
            peer.finish()
            await it.until(lambda: it.server.stats.open == 0)
            assert it.ends.all()[0].code == "peer-closed"

    run(main, limit=DAY)


async def other_is_served(it: Timed, peer: Peer) -> None:
    await peer.send(frame(b"x"))
    assert await peer.receive(5) == frame(b"x")


def test_a_rate_is_each_connections_own(run: Run) -> None:
    async def main() -> None:
        limits = Limits(message_rate=1, message_burst=2)
        async with timed(limits=limits) as it, connected(it.server) as eager, connected(it.server) as other:
            await eager.send(frame(b"a") * 4)
            await other_is_served(it, other)
            await other_is_served(it, other)
            assert whole(waiting(eager)) == [b"a"] * 2
            eager.finish()
            await it.lives(1.1)
            assert whole(waiting(eager)) == [b"a"]
            await it.clock.advance(1)
            assert whole(await eager.rest()) == [b"a"]
            assert [end.code for end in it.ends.all()] == ["peer-closed"]

    run(main, limit=DAY)
