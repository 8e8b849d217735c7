"""The life of a server: start, serve, stop, start again; what it counts; what it says of a wrong use."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Any

import pytest

import wireway
from conftest import Run
from support.peers import Ends, connected
from wireway import Connection, Raw, Server
from wireway.net.stats import ServerStats

ANYWHERE = "tcp://127.0.0.1:0"


def echo(**options: Any) -> Server:
    """A server that sends back what comes."""
    server = Server(ANYWHERE, **options)
    server.on_message(lambda conn, message: conn.send_nowait(message))
    return server


async def answers(server: Server) -> None:
    """Check that it serves."""
    async with connected(server) as peer:
        await peer.send(b"hello")
        assert await peer.receive(5) == b"hello"


def test_it_counts(run: Run) -> None:
    async def main() -> None:
        server = echo()
        ends = Ends(server)
        assert server.stats == ServerStats()
        assert (server.connections, server.addresses) == ([], [])
        async with server:
            await answers(server)
            await ends.next()
            async with connected(server) as peer:
                await peer.send(b"x")
                await peer.receive(1)
                stats = server.stats
                assert (stats.accepted, stats.open, stats.messages_in) == (2, 1, 2)
                (conn,) = server.connections
                assert (conn.id, conn.peer, conn.local) == (2, peer.sock.getsockname(), peer.sock.getpeername())
                assert repr(conn) == f"<Connection 2 peer={conn.peer}>"
        assert server.connections == []
        assert (server.stats.accepted, server.stats.open, server.stats.messages_in) == (2, 0, 2)

    run(main)


@pytest.mark.parametrize("waits", [False, True])
def test_on_connect_comes_before_the_first_message(run: Run, waits: bool) -> None:
    async def main() -> None:
        server = Server(ANYWHERE)

        @server.on_connect
        async def greet(conn: Connection) -> None:
            assert conn.state is None
            if waits:
                await arrived.wait()
            conn.state = "greeted"
            await conn.send(b"welcome")

        @server.on_message
        def answer(conn: Connection, _message: bytes) -> None:
            conn.send_nowait(conn.state.encode())

        arrived = asyncio.Event()
        async with server, connected(server) as peer:
            await peer.send(b"x")
            arrived.set()
            assert await peer.receive(14) == b"welcomegreeted"

    run(main)


def test_on_connect_may_refuse(run: Run) -> None:
    async def main() -> None:
        server = echo()
        server.on_connect(lambda conn: conn.close("not today"))
        ends = Ends(server)
        async with server, connected(server) as peer:
            assert await peer.rest() == b""
            assert (await ends.next()).why == "not today"

    run(main)


def test_on_connect_may_fail(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = echo()

        @server.on_connect
        async def fail(_conn: Connection) -> None:
            raise ValueError("in on_connect")

        ends = Ends(server)
        async with server, connected(server) as peer:
            assert await peer.rest() == b""
            assert (await ends.next()).code == "handler-error"
            assert server.stats.messages_in == 0

    with caplog.at_level(logging.CRITICAL, "wireway.server"):
        run(main)


def test_a_server_may_start_again(run: Run) -> None:
    async def main() -> None:
        server = echo()
        for _ in range(3):
            async with server:
                await answers(server)
                assert server.stats.accepted == 1
            assert server.addresses == []

    run(main)


def test_a_server_may_start_again_on_another_loop(run: Run) -> None:
    server = echo()

    async def main() -> None:
        async with server:
            await answers(server)

    run(main)
    run(main)


def test_a_running_server_does_not_start(run: Run) -> None:
    async def main() -> None:
        async with echo() as server:
            with pytest.raises(wireway.WirewayError, match=r"^the server runs already$"):
                await server.start()
            await answers(server)

    run(main)


def test_several_servers_in_one_loop(run: Run) -> None:
    async def main() -> None:
        async with echo() as one, echo() as two, echo(framing=Raw()) as three:
            assert len({*one.addresses, *two.addresses, *three.addresses}) == 3
            async with connected(one) as peer:
                await two.close()
                await answers(three)
                await peer.send(b"still here")
                assert await peer.receive(10) == b"still here"

    run(main)


@pytest.mark.parametrize("how", ["stop", "close", "cancel"])
def test_serve_ends(run: Run, how: str) -> None:
    async def main() -> None:
        server = echo()
        ends = Ends(server)
        await server.start()
        serving = asyncio.create_task(server.serve())
        async with connected(server) as peer:
            await peer.send(b"x")
            await peer.receive(1)
            if how == "stop":
                server.stop()
                await serving
            elif how == "close":
                await server.close()
                await serving
            else:
                serving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await serving
            assert [end.code for end in ends.all()] == ["server-stopped"]
            assert server.addresses == []

    run(main)


def test_several_may_close_it_at_once(run: Run) -> None:
    async def main() -> None:
        server = Server(ANYWHERE, drain_timeout=3600)
        started, go_on = asyncio.Event(), asyncio.Event()

        @server.on_message
        async def wait(_conn: Connection, _message: bytes) -> None:
            started.set()
            await go_on.wait()

        async with server, connected(server) as peer:
            await peer.send(b"x")
            await started.wait()
            closing = [asyncio.create_task(server.close()) for _ in range(3)]
            await asyncio.sleep(0)
            go_on.set()
            await asyncio.gather(*closing)
            await server.close()

    run(main)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_ends_at_a_signal(backend: str, number: signal.Signals) -> None:
    server = echo()
    seen: list[str] = []

    def started(running: Server) -> None:
        assert running is server
        seen.extend([running.backend, *running.addresses])
        assert running.backend_reason
        os.kill(os.getpid(), number)

    server.run(backend=backend, on_started=started)
    assert seen[0] == backend
    assert len(seen) == 2
    assert server.addresses == []


def test_a_server_that_did_not_start_has_no_back_end() -> None:
    with pytest.raises(wireway.WirewayError, match=r"^the server has not started$"):
        _ = echo().backend
