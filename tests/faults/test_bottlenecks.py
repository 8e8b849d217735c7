"""`Connection.explain` of real connections that are held up: by the peer, the network, our handler, or nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from conftest import Run
from support import netns
from support.peers import connected
from support.watched import Watched, house, peer
from wireway import Connection, Server


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that only the kernel knows; the test's own limit ends it."""
    while not condition():  # noqa: ASYNC110 (the kernel tells nobody)
        await asyncio.sleep(0.01)


async def flooded(one: Watched) -> None:
    """Send more than a small window takes, and wait until it is shut."""
    one.send(b"x" * 8_000_000)
    await until(lambda: one.info().snd_wnd == 0)


def test_nobody_waits(run: Run) -> None:
    async def main() -> None:
        async with house() as home:
            with peer(home.address):
                one = await home.arrived.get()
                assert one.conn.explain() == "nothing: neither side waits for the other"

    run(main)


def test_the_peer_does_not_read(run: Run) -> None:
    async def main() -> None:
        async with house() as home:
            with peer(home.address, receive_buffer=4096):
                one = await home.arrived.get()
                await flooded(one)
                assert one.conn.explain().startswith("peer window: it is full (0 bytes)")
                one.conn.abort()

    run(main)


def test_the_peer_reads_again(run: Run) -> None:
    async def main() -> None:
        async with house() as home:
            with peer(home.address, receive_buffer=4096) as sock:
                one = await home.arrived.get()
                await flooded(one)
                left = 8_000_000
                sock.setblocking(False)
                while left:
                    left -= len(await asyncio.get_running_loop().sock_recv(sock, 1 << 20))
                await until(lambda: one.info().unacked == 0)
                assert one.conn.explain().startswith("nothing")

    run(main, limit=60.0)


def test_the_network_loses_everything(run: Run) -> None:
    async def main() -> None:
        with netns.pair() as cable:
            async with house(cable.ours) as home:
                with cable.theirs.inside():
                    sock = socket.socket()
                with sock:
                    await asyncio.to_thread(sock.connect, home.address)
                    one = await home.arrived.get()
                    cable.cut()
                    one.send(b"x" * 100_000)
                    await until(lambda: one.info().retransmits)
                    assert one.conn.explain().startswith("network: ")
                    one.conn.abort()

    run(main)


def test_our_handler_is_slow(run: Run) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0")
        go_on, started = asyncio.Event(), asyncio.Event()
        handled: list[Connection] = []

        @server.on_message
        async def slow(conn: Connection, _message: bytes) -> None:
            handled.append(conn)
            started.set()
            await go_on.wait()

        async with server, connected(server) as sock:
            await sock.send(b"first")
            await started.wait()
            (conn,) = handled
            assert conn.explain() == "our handler: it has not finished a message, and nothing waits for it"
            await sock.send(b"second")
            await until(lambda: "6 bytes" in conn.explain())
            assert conn.explain() == "our handler: it has not finished a message, and 6 bytes that came wait for it"
            go_on.set()
            await until(lambda: conn.explain().startswith("nothing"))

    run(main)


def test_a_handler_that_waits_for_the_peer_holds_nothing_up(run: Run) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0")
        talks: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        go_on = asyncio.Event()

        @server.on_connect
        async def talk(conn: Connection) -> None:
            talks.set_result(conn)
            assert await conn.receive() == b"first"
            await go_on.wait()
            assert await conn.receive() == b"second"

        async with server, connected(server) as sock:
            conn = await talks
            await until(lambda: conn.explain() == "nothing: neither side waits for the other")
            await sock.send(b"first")
            await until(lambda: conn.explain().startswith("our handler: "))
            go_on.set()
            await until(lambda: conn.explain().startswith("nothing"))
            await sock.send(b"second")

    run(main)
