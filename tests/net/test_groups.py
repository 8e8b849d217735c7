"""Groups, users and broadcasts: who gets a message, in which order, and who is counted."""

from __future__ import annotations

import asyncio

import pytest

from conftest import Run
from support.peers import Ends, Peer, connected, frame
from wireway import Connection, LengthPrefix, Server


def make() -> tuple[Server, Ends]:
    """A server whose peers say whom they are, `name@group`, and are answered when they are known."""
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(1))

    @server.on_message
    def introduce(conn: Connection, message: bytes) -> None:
        name, _, group = message.decode().partition("@")
        conn.user = name or None
        if group:
            conn.join(group)
        conn.send_nowait(b"welcome")

    return server, Ends(server)


async def introduced(peer: Peer, who: str) -> None:
    await peer.send(frame(who.encode(), 1))
    assert await answer(peer) == b"welcome"


async def answer(peer: Peer) -> bytes:
    return await peer.receive((await peer.receive(1))[0])


def test_before_and_after_there_is_nobody(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        for _ in range(2):
            assert (server.groups, server.members("red"), server.connections_of("ann")) == ({}, [], [])
            assert (server.broadcast(b"x"), server.broadcast(b"x", "red"), server.send_to_user("ann", b"x")) == (
                0,
                0,
                0,
            )
            assert (server.leaks(age=0, idle=0), server.bans, server.unban("192.0.2.1")) == ([], {}, False)
            async with server:
                assert server.broadcast(b"x") == 0

    run(main)


def test_a_broadcast_reaches_those_it_is_for(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        async with server, connected(server) as ann, connected(server) as bob, connected(server) as cat:
            for peer, who in ((ann, "ann@red"), (bob, "bob@red"), (cat, "cat@blue")):
                await introduced(peer, who)
            assert server.groups == {"red": 2, "blue": 1}
            first, second = server.members("red")
            assert {first.user, second.user} == {"ann", "bob"}
            (out,) = (conn for conn in server.connections if conn.user == "bob")
            assert server.broadcast(b"all") == 3
            assert server.broadcast(b"red", "red") == 2
            assert server.broadcast(b"not bob", exclude=[out]) == 2
            assert server.broadcast(b"red, not bob", "red", exclude=(out,)) == 1
            assert server.broadcast(b"nobody", "green") == 0
            assert [await answer(ann) for _ in range(4)] == [b"all", b"red", b"not bob", b"red, not bob"]
            assert [await answer(bob) for _ in range(2)] == [b"all", b"red"]
            assert [await answer(cat) for _ in range(2)] == [b"all", b"not bob"]

    run(main)


def test_a_user_may_have_several_connections(run: Run) -> None:
    async def main() -> None:
        server, ends = make()
        async with server, connected(server) as desk, connected(server) as phone, connected(server) as other:
            for peer, who in ((desk, "ann"), (phone, "ann"), (other, "bob")):
                await introduced(peer, who)
            assert server.send_to_user("ann", b"hello ann") == 2
            assert [await answer(desk), await answer(phone)] == [b"hello ann"] * 2
            assert len(server.connections_of("ann")) == 2
            phone.finish()
            await phone.rest()
            await ends.next()
            assert server.send_to_user("ann", b"again") == 1
            assert await answer(desk) == b"again"
            assert server.send_to_user("nobody", b"x") == 0
            await introduced(other, "ann")
            assert server.send_to_user("ann", b"both") == 2

    run(main)


def test_who_ends_leaves_all_groups(run: Run) -> None:
    async def main() -> None:
        server, ends = make()
        async with server, connected(server) as stays:
            await introduced(stays, "ann@red")
            async with connected(server) as goes:
                await introduced(goes, "bob@red")
                assert server.groups == {"red": 2}
            await ends.next()
            assert server.groups == {"red": 1}
            (conn,) = server.connections
            assert conn.leave("red")
            assert server.groups == {}

    run(main)


@pytest.mark.parametrize("named", [False, True])
def test_a_broadcast_within_a_handler_keeps_its_place(run: Run, named: bool) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(1))
        server.on_connect(lambda conn: conn.join("all") and None)

        @server.on_message
        def relay(conn: Connection, message: bytes) -> None:
            conn.send_nowait(b"before")
            server.broadcast(message, "all" if named else None)
            conn.send_nowait(b"after")

        async with server, connected(server) as one, connected(server) as two:
            while server.stats.open < 2:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0)
            await one.send(frame(b"hello", 1))
            assert [await answer(one) for _ in range(3)] == [b"before", b"hello", b"after"]
            assert await answer(two) == b"hello"

    run(main)
