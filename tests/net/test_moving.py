"""Connections that move from one server to another: what nobody at their other end may notice."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Run
from support.peers import Ends, Peer, connected, frame
from support.timed import SMALL
from wireway import Buffers, Connection, LengthPrefix, Lines, Server, SocketOptions

ANYWHERE = "tcp://127.0.0.1:0"


def echo(conn: Connection, message: bytes) -> None:
    """Send a message back."""
    conn.send_nowait(message)


def make(handler: Callable[[Connection, bytes], Any] = echo, **options: Any) -> Server:
    """A server that echoes, unless told."""
    server = Server(ANYWHERE, **{"framing": LengthPrefix(4), "drain_timeout": 1} | options)
    server.on_message(handler)
    return server


async def opened(server: Server, count: int = 1) -> list[Connection]:
    """The connections of a server, once there are so many."""
    while len(server.connections) != count:  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(0)
    return sorted(server.connections, key=lambda conn: conn.id)


async def move(conn: Connection, to: Server) -> Connection:
    """From the server that has it to another on the same loop, as between processes, where a descriptor is copied."""
    conn._hush()
    while (why := conn._stays()) is not None:
        assert why == "a handler runs", why
        await asyncio.sleep(0)
    fd, picture = conn._export()
    copy = os.dup(fd)
    conn._moved()
    core = to._core
    assert core is not None
    there = core._adopt(copy, picture)
    asyncio.get_running_loop().call_soon(there._unhush)
    return there


def test_a_stream_of_frames_in_any_pieces(run: Run) -> None:
    """Every message is answered once and in order, however often its connection moves."""

    async def main() -> None:
        async with make() as one, make() as two, connected(one) as peer:
            (conn,) = await opened(one)
            chance = random.Random(4711)
            messages = [bytes([number % 251]) * chance.randrange(0, 3000) for number in range(600)]
            sent = b"".join(frame(message) for message in messages)

            async def talk() -> None:
                place = 0
                while place < len(sent):
                    size = chance.choice((1, 3, 100, 1500, 20_000))
                    await peer.send(sent[place : place + size])
                    place += size
                    await asyncio.sleep(0)

            talking = asyncio.create_task(talk())
            listening = asyncio.create_task(peer.receive(len(sent)))
            servers = [two, one]
            moves = 0
            while not listening.done():
                conn = await move(conn, servers[moves % 2])
                moves += 1
                for _ in range(chance.randrange(1, 6)):
                    await asyncio.sleep(0)
            await talking
            assert await listening == sent
            assert moves > 20
            assert one.stats.messages_in + two.stats.messages_in == len(messages)
            for server in (one, two):
                stats = server.stats
                assert stats.accepted == stats.open + sum(stats.closed.values())
                assert set(stats.closed) <= {"handed-over"}
            assert conn.stats["messages_in"] == len(messages)

    run(main)


def test_what_the_peer_does_not_read_arrives_exactly(run: Run) -> None:
    async def main() -> None:
        options = {"socket": SocketOptions(send_buffer=SMALL, user_timeout=None), "buffers": Buffers(high=64 * 1024)}
        async with make(**options) as one, make(**options) as two, connected(one, buffer=SMALL) as peer:
            (conn,) = await opened(one)
            numbers = iter(range(1_000_000))
            sent = b""
            for server in (two, one, two):
                while conn.queued < 200_000:
                    message = b"%07d" % next(numbers) * 500
                    conn.send_nowait(message)
                    sent += frame(message)
                await asyncio.sleep(0)
                conn = await move(conn, server)
                assert conn.queued > 0
            conn.send_nowait(b"last")
            sent += frame(b"last")
            assert await peer.receive(len(sent)) == sent

    run(main)


def test_groups_user_and_a_pause_move_along(run: Run) -> None:
    async def main() -> None:
        async with make() as one, make() as two, connected(one) as peer:
            (conn,) = await opened(one)
            conn.join("room")
            conn.join("hall")
            conn.user = "ada"
            conn.pause()
            name = conn.peer
            there = await move(conn, two)
            assert (sorted(there.groups), there.user, there.peer) == (["hall", "room"], "ada", name)
            assert one.groups == {}
            assert one.connections_of("ada") == []
            assert two.members("room") == two.connections_of("ada") == [there]
            await peer.send(frame(b"waits"))
            for _ in range(20):
                await asyncio.sleep(0)
            assert two.stats.messages_in == 0
            assert two.broadcast(b"all", "hall") == 1
            assert await peer.receive(7) == frame(b"all")
            there.resume()
            assert await peer.receive(9) == frame(b"waits")
            assert two.stats.adopted == 1

    run(main)


def test_it_may_stay_after_all(run: Run) -> None:
    async def main() -> None:
        async with make() as one, connected(one) as peer:
            (conn,) = await opened(one)
            whole = frame(b"in two halves")
            await peer.send(whole[:9])
            for _ in range(20):
                await asyncio.sleep(0)
            conn._hush()
            conn._export()
            await peer.send(whole[9:] + whole)
            for _ in range(20):
                await asyncio.sleep(0)
            assert one.stats.messages_in == 0
            asyncio.get_running_loop().call_soon(conn._unhush)
            assert await peer.receive(2 * len(whole)) == 2 * whole
            assert one.stats.open == 1

    run(main)


def test_the_peer_hears_nothing(run: Run) -> None:
    """Neither FIN nor RST leaves when the old side lets go, and nobody is told of an end."""

    async def main() -> None:
        one = make()
        ends = Ends(one)
        async with one, make() as two, connected(one) as peer:
            (conn,) = await opened(one)
            there = await move(conn, two)
            await one.close()
            assert ends.all() == []
            assert conn.is_closing
            await peer.send(frame(b"x"))
            assert await peer.receive(5) == frame(b"x")
            assert one.closed.counts == {"handed-over": 1}
            there.close()
            assert await peer.rest() == b""

    run(main)


def test_who_can_not_move_says_why(run: Run) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def wait(conn: Connection, _message: bytes) -> None:
            await go_on.wait()
            conn.send_nowait(b"done")

        server = make(wait, framing=Lines())
        async with server, connected(server) as peer:
            (conn,) = await opened(server)
            await peer.send(b"x\n")
            while server.stats.handlers == 0:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0)
            conn._hush()
            assert conn._stays() == "a handler runs"
            with pytest.raises(RuntimeError, match="a handler runs"):
                conn._export()
            go_on.set()
            assert await peer.receive(5) == b"done\n"
            while conn._stays() is not None:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0)
            conn.set_framing(LengthPrefix(4))
            assert conn._stays() == "it has a framing of its own"

    run(main)


def test_an_end_that_came_meanwhile_is_seen(run: Run) -> None:
    async def main() -> None:
        async with make() as one, connected(one) as peer:
            (conn,) = await opened(one)
            conn._hush()
            peer.finish()
            for _ in range(20):
                await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="ended"):
                conn._export()
            asyncio.get_running_loop().call_soon(conn._unhush)
            assert await peer.rest() == b""

    run(main)


@pytest.mark.parametrize("change", [{"version": 99}, {"queued": 5}, {"peer": "nowhere"}, {"groups": None}])
def test_a_picture_that_is_not_understood(run: Run, change: dict[str, Any]) -> None:
    async def main() -> None:
        async with make() as one, connected(one) as peer:
            (conn,) = await opened(one)
            conn._hush()
            fd, picture = conn._export()
            core = one._core
            assert core is not None
            with pytest.raises(ValueError, match="picture"):
                core._adopt(fd, picture | change)
            with pytest.raises(ValueError, match="has no"):
                core._adopt(fd, {"version": 1})
            asyncio.get_running_loop().call_soon(conn._unhush)
            await still_there(peer)

    run(main)


async def still_there(peer: Peer) -> None:
    """Its messages are answered."""
    await peer.send(frame(b"here"))
    assert await peer.receive(8) == frame(b"here")
