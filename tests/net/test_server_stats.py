"""What a server tells of itself: counts that balance at every moment, why connections ended, which were forgotten."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

import wireway
from conftest import Run
from support.peers import Ends, connected, frame
from wireway import Connection, LengthPrefix, Server
from wireway.net.stats import ServerStats

ANYWHERE = "tcp://127.0.0.1:0"


def balanced(server: Server) -> ServerStats:
    stats = server.stats
    assert stats.accepted == stats.open + sum(stats.closed.values())
    return stats


def obey(conn: Connection, message: bytes) -> None:
    """Do what the message says."""
    if message == b"fail":
        raise ValueError("no good")
    if message == b"close":
        conn.close("enough")
    else:
        conn.send_nowait(message)


def test_the_counts_balance_at_every_moment(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = Server(ANYWHERE, framing=LengthPrefix(4, max_size=100))
        ends = Ends(server)
        server.on_connect(lambda _conn: balanced(server) and None)
        server.on_message(lambda conn, message: balanced(server) and obey(conn, message))
        async with server:
            for message in (b"echo", b"close", b"fail", b"x" * 101):
                async with connected(server) as peer:
                    assert balanced(server).open <= 1
                    await peer.send(frame(message))
                    if message == b"echo":
                        await peer.receive(8)
                        peer.finish()
                    await peer.gone()
                    await ends.next()
                    assert balanced(server).open == 0
            async with connected(server) as peer:
                await peer.send(frame(b"open"))
                await peer.receive(8)
                stats = balanced(server)
                assert (stats.open, stats.messages_in, stats.messages_out, stats.queued) == (1, 4, 2, 0)
                assert (stats.bytes_out, stats.handlers, stats.paused) == (16, 0, 0)
        expected = {"peer-closed": 1, "closed": 1, "handler-error": 1, "frame-too-large": 1, "server-stopped": 1}
        assert balanced(server).closed == expected, "also after the end"
        assert server.stats.accepted == 5

    with caplog.at_level(logging.CRITICAL, "wireway.server"):
        run(main)


def test_a_suspended_handler_is_counted(run: Run) -> None:
    async def main() -> None:
        server = Server(ANYWHERE)
        started, go_on = asyncio.Event(), asyncio.Event()

        @server.on_message
        async def wait(_conn: Connection, _message: bytes) -> None:
            started.set()
            await go_on.wait()

        async with server, connected(server) as peer:
            await peer.send(b"x")
            await started.wait()
            await asyncio.sleep(0)
            assert server.stats.handlers == 1
            go_on.set()
            await server.close()
            assert server.stats.handlers == 0

    run(main)


def test_the_log_of_ends(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = Server(ANYWHERE, framing=LengthPrefix(4))

        @server.on_message
        async def obey_later(conn: Connection, message: bytes) -> None:
            await asyncio.sleep(0)
            obey(conn, message)

        async with server:
            for message in (b"close", b"fail"):
                async with connected(server) as peer:
                    await peer.send(frame(message))
                    await peer.gone()
        for log in (server.closed, server.closed):
            assert [(end.code, end.why, end.connection) for end in log] == [
                ("closed", "enough", 1),
                ("handler-error", "ValueError: no good", 2),
            ]
        (failed,) = server.closed.filter(code="handler-error")
        assert failed.error is None, "the exception would keep the objects of its frames"
        assert failed.detail.endswith("ValueError: no good\n")
        assert len(server.closed.filter(peer="127.0.0.1")) == 2
        async with server:
            assert list(server.closed) == [], "a new start is a new log"

    with caplog.at_level(logging.CRITICAL, "wireway.server"):
        run(main)


def test_a_connection_that_nobody_holds_is_found(run: Run) -> None:
    async def main() -> None:
        server = Server(ANYWHERE)
        kept: list[Connection] = []

        @server.on_message
        def answer(conn: Connection, message: bytes) -> None:
            if message == b"keep":
                kept.append(conn)
            elif message == b"join":
                conn.join("somewhere")
            conn.send_nowait(message)

        async with server, connected(server) as one, connected(server) as two, connected(server) as three:
            for peer, message in ((one, b"keep"), (two, b"join"), (three, b"lose")):
                await peer.send(message)
                await peer.receive(4)
            gc.collect()
            (found,) = server.leaks(age=0.0, idle=0.0)
            assert found.peer == three.sock.getsockname()
            del found
            assert server.leaks() == [], "none is that old"

    run(main)


def refuse_with_false(_conn: Connection) -> bool:
    return False


async def refuse_with_false_later(_conn: Connection) -> bool:
    await asyncio.sleep(0)
    return False


def refuse_with_text(_conn: Connection) -> None:
    raise wireway.Refused("not today")


async def refuse_with_text_later(_conn: Connection) -> None:
    await asyncio.sleep(0)
    raise wireway.Refused("not today")


@pytest.mark.parametrize(
    ("on_connect", "why"),
    [
        (refuse_with_false, "on_connect"),
        (refuse_with_false_later, "on_connect"),
        (refuse_with_text, "not today"),
        (refuse_with_text_later, "not today"),
    ],
)
def test_on_connect_refuses(run: Run, on_connect: Any, why: str) -> None:
    async def main() -> None:
        server = Server(ANYWHERE)
        messages: list[bytes] = []
        server.on_connect(on_connect)
        server.on_message(lambda _conn, message: messages.append(message))
        ends = Ends(server)
        async with server, connected(server) as peer:
            await peer.send(b"hello")
            await peer.gone()
            peer.sock.close()
            reason = await ends.next()
            assert reason.code == "refused"
            assert why in reason.why
            assert balanced(server).closed == {"refused": 1}
        assert messages == []

    run(main)


@pytest.mark.parametrize("result", [None, 0, "", True])
def test_what_is_not_false_does_not_refuse(run: Run, result: object) -> None:
    async def main() -> None:
        server = Server(ANYWHERE)
        server.on_connect(lambda _conn: result)
        server.on_message(obey)
        async with server, connected(server) as peer:
            await peer.send(b"hello")
            assert await peer.receive(5) == b"hello"

    run(main)


def test_on_connect_alone_is_the_whole_conversation(run: Run) -> None:
    async def main() -> None:
        server = Server(ANYWHERE, framing=LengthPrefix(4))

        @server.on_connect
        async def talk(conn: Connection) -> None:
            name = await conn.receive()
            await conn.send(b"hello " + name)
            async for message in conn:
                await conn.send(message)

        ends = Ends(server)
        async with server, connected(server) as peer:
            await peer.send(frame(b"ann") + frame(b"one") + frame(b"two"))
            peer.finish()
            assert await peer.rest() == frame(b"hello ann") + frame(b"one") + frame(b"two")
            assert (await ends.next()).code == "peer-closed"

    run(main)
