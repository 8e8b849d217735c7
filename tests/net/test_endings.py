"""How a connection ends: with one reason, told once, and without a word to the other connections."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from conftest import Run
from support.peers import Ends, connected, frame
from wireway import Connection, LengthPrefix, Server

ANYWHERE = "tcp://127.0.0.1:0"


def echo(max_size: int = 1 << 24, *, batch: bool = False) -> tuple[Server, Ends]:
    """A server that sends back what comes."""
    server = Server(ANYWHERE, framing=LengthPrefix(4, max_size=max_size))
    if batch:

        @server.on_batch
        def answer_all(conn: Connection, messages: list[bytes]) -> None:
            for message in messages:
                conn.send_nowait(message)

    else:

        @server.on_message
        async def answer(conn: Connection, message: bytes) -> None:
            await conn.send(message)

    return server, Ends(server)


@pytest.fixture(params=[False, True], ids=["message", "batch"])
def batch(request: pytest.FixtureRequest) -> bool:
    """Whether the handler takes messages one by one or all at once."""
    return bool(request.param)


def test_a_frame_of_just_the_limit_is_taken(run: Run, batch: bool) -> None:
    async def main() -> None:
        server, _ = echo(1000, batch=batch)
        async with server, connected(server) as peer:
            await peer.send(frame(b"x" * 1000))
            assert await peer.receive(1004) == frame(b"x" * 1000)

    run(main)


def test_a_frame_over_the_limit_ends_that_connection_from_its_header_alone(run: Run, batch: bool) -> None:
    async def main() -> None:
        server, ends = echo(1000, batch=batch)
        async with server, connected(server) as good, connected(server) as bad:
            await bad.send(frame(b"answered") + (1001).to_bytes(4, "big"))
            assert await bad.rest() == frame(b"answered")
            reason = await ends.next()
            assert (reason.code, reason.error) == ("frame-too-large", None)
            assert "1001" in reason.why
            assert "1000" in reason.why
            await good.send(frame(b"still here"))
            assert await good.receive(14) == frame(b"still here")
            assert (server.stats.open, server.stats.accepted) == (1, 2)

    run(main)


@pytest.mark.parametrize("cut", [0, 1, 4])
def test_what_came_before_a_frame_over_the_limit_is_still_answered(run: Run, cut: int) -> None:
    """Also by a handler that is suspended, and however the bad header arrives."""

    async def main() -> None:
        server = Server(ANYWHERE, framing=LengthPrefix(4, max_size=1000))
        started, go_on = asyncio.Event(), asyncio.Event()

        @server.on_batch
        async def answer(conn: Connection, messages: list[bytes]) -> None:
            started.set()
            await go_on.wait()
            for message in messages:
                await conn.send(message)

        ends = Ends(server)
        async with server, connected(server) as peer:
            bad = (1001).to_bytes(4, "big")
            await peer.send(frame(b"one") + frame(b"two") + bad[:cut])
            await started.wait()
            await peer.send(bad[cut:])
            assert ends.all() == []
            go_on.set()
            assert await peer.rest() == frame(b"one") + frame(b"two")
            assert (await ends.next()).code == "frame-too-large"

    run(main)


def test_the_largest_length_there_is_costs_no_memory(run: Run) -> None:
    async def main() -> None:
        server = Server(ANYWHERE, framing=LengthPrefix(8))
        server.on_message(lambda conn, message: conn.send_nowait(message))
        ends = Ends(server)
        async with server, connected(server) as peer:
            await peer.send(b"\xff" * 8)
            assert await peer.rest() == b""
            reason = await ends.next()
            assert reason.code == "frame-too-large"
            assert str((1 << 64) - 1) in reason.why

    run(main)


@pytest.mark.parametrize("left", [b"\0", b"\0\0\0", b"\0\0\0\5", b"\0\0\0\5four"])
def test_a_peer_that_ends_in_the_middle_of_a_frame(run: Run, batch: bool, left: bytes) -> None:
    async def main() -> None:
        server, ends = echo(batch=batch)
        async with server, connected(server) as peer:
            await peer.send(frame(b"whole") + left)
            peer.finish()
            assert await peer.rest() == frame(b"whole")
            reason = await ends.next()
            assert (reason.code, reason.error) == ("truncated-frame", None)

    run(main)


def test_a_peer_that_ends_between_frames(run: Run, batch: bool) -> None:
    async def main() -> None:
        server, ends = echo(batch=batch)
        async with server, connected(server) as peer:
            await peer.send(frame(b"whole"))
            assert await peer.receive(9) == frame(b"whole")
            peer.sock.close()
            reason = await ends.next()
            assert (reason.code, reason.error) == ("peer-closed", None)

    run(main)


def test_a_peer_that_resets(run: Run, batch: bool) -> None:
    async def main() -> None:
        server, ends = echo(batch=batch)
        async with server, connected(server) as good, connected(server) as bad:
            await bad.send(frame(b"whole"))
            assert await bad.receive(9) == frame(b"whole")
            bad.reset()
            reason = await ends.next()
            assert reason.code == "peer-reset"
            assert isinstance(reason.error, ConnectionResetError)
            assert reason.error.errno == errno.ECONNRESET
            await good.send(frame(b"still here"))
            assert await good.receive(14) == frame(b"still here")

    run(main)


def test_who_reset_is_known_at_the_end(run: Run) -> None:
    """The kernel forgets the peer's name at a reset. Whoever reads the log must not."""

    async def main() -> None:
        server = Server(ANYWHERE)
        server.on_message(lambda _conn, _message: None)
        told = asyncio.get_running_loop().create_future()
        server.on_close(lambda conn, reason: told.set_result((conn.peer, reason.code)))
        async with server, connected(server) as peer:
            name = peer.sock.getsockname()
            peer.reset()
            assert await told == (name, "peer-reset")

    run(main)


def test_a_peer_that_resets_while_its_handler_waits(run: Run) -> None:
    async def main() -> None:
        started, failed = asyncio.Event(), asyncio.Event()
        server = Server(ANYWHERE, framing=LengthPrefix(4))

        @server.on_message
        async def ask_again(conn: Connection, _message: bytes) -> None:
            started.set()
            await over.wait()
            assert conn.is_closing
            with pytest.raises(ConnectionError, match="the connection is closed: "):
                await conn.send(b"too late")
            failed.set()

        over = asyncio.Event()
        ends = Ends(server)
        async with server, connected(server) as peer:
            await peer.send(frame(b"x"))
            await started.wait()
            peer.reset()
            assert (await ends.next()).code == "peer-reset"
            over.set()
            await failed.wait()
        assert ends.all() == []

    run(main)


def test_the_peer_is_known_until_on_close_was_called(run: Run) -> None:
    seen: list[tuple[object, object, bool]] = []
    kept: list[Connection] = []

    async def main() -> None:
        server = Server(ANYWHERE)
        server.on_message(lambda conn, _message: kept.append(conn))
        gone = asyncio.Event()

        @server.on_close
        def closed(conn: Connection, _reason: object) -> None:
            seen.append((conn.peer, conn.local, conn.is_closing))
            gone.set()

        async with server, connected(server) as peer:
            names = peer.sock.getsockname(), peer.sock.getpeername(), True
            await peer.send(b"x")
            peer.sock.shutdown(socket.SHUT_RDWR)
            await gone.wait()
        assert seen == [names]
        assert (kept[0].peer, kept[0].local) == (None, None)
        assert repr(kept[0]) == "<Connection 1 closed>"

    run(main)
