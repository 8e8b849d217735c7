"""Servers of the loop: what they listen on, how they stop, what they do with those who come."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import sys
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from support.streams import Recorder

Run = Callable[..., Any]
Reports = list[dict[str, Any]]
since_313 = pytest.mark.skipif(sys.version_info < (3, 13), reason="since Python 3.13")


def running() -> AbstractEventLoop:
    return asyncio.get_running_loop()


def watch_reports() -> Reports:
    reports: Reports = []
    running().set_exception_handler(lambda _loop, context: reports.append(context))
    return reports


@asynccontextmanager
async def tcp_server(**options: Any) -> AsyncIterator[tuple[asyncio.Server, list[Recorder]]]:
    """A server on a free port, and the protocols that it makes, which are aborted at the end."""
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = await running().create_server(factory, "127.0.0.1", 0, **options)
    try:
        yield server, made
    finally:
        server.close()
        for protocol in made:
            if not protocol.lost.done():
                protocol.transport.abort()
            await protocol.lost
        await server.wait_closed()


async def connect(server: asyncio.Server) -> socket.socket:
    """A client of `server`. It is in the backlog, perhaps not accepted yet."""
    client = socket.socket()
    client.setblocking(False)
    await running().sock_connect(client, server.sockets[0].getsockname())
    return client


async def accepted(made: list[Recorder], count: int = 1) -> None:
    """Wait until so many clients have a protocol that knows its transport."""
    while len([protocol for protocol in made if protocol.transport]) < count:  # noqa: ASYNC110 - turns of the loop
        await asyncio.sleep(0)


async def refused(address: Any) -> bool:
    with socket.socket() as client:
        client.setblocking(False)
        try:
            await running().sock_connect(client, address)
        except ConnectionRefusedError:
            return True
        return False


# --- serving and stopping -----------------------------------------------------------------------------------------


def test_what_a_server_says_of_itself(run: Run) -> None:
    async def main() -> None:
        async with tcp_server() as (server, _):
            assert isinstance(server, asyncio.Server)
            assert server.get_loop() is running()
            assert server.is_serving()
            (sock,) = server.sockets
            assert sock.getsockname()[0] == "127.0.0.1"
            server.close()
            assert not server.is_serving()
            assert server.sockets == ()
            server.close()

    run(main)


def test_each_client_gets_a_protocol_of_its_own(run: Run) -> None:
    async def main() -> None:
        async with tcp_server() as (server, made):
            clients = [await connect(server) for _ in range(50)]
            await accepted(made, 50)
            names = {protocol.transport.get_extra_info("peername") for protocol in made}
            assert names == {client.getsockname() for client in clients}
            for client in clients:
                client.close()
            assert [await protocol.lost for protocol in made] == [None] * 50

    run(main)


def test_a_closed_server_refuses_and_its_connections_live_on(run: Run) -> None:
    async def main() -> None:
        async with tcp_server() as (server, made):
            address = server.sockets[0].getsockname()
            client = await connect(server)
            await accepted(made)
            server.close()
            assert await refused(address)
            made[0].transport.write(b"still here")
            assert await running().sock_recv(client, 99) == b"still here"
            await running().sock_sendall(client, b"so am I")
            assert await made[0].receives(7) == b"so am I"
            client.close()

    run(main)


def test_wait_closed_waits_for_the_last_connection(run: Run) -> None:
    if sys.version_info < (3, 12):
        pytest.skip("Python 3.11 forgot to wait")

    async def main() -> None:
        async with tcp_server() as (server, made):
            client = await connect(server)
            await accepted(made)
            server.close()
            waiting = asyncio.create_task(server.wait_closed())
            await asyncio.sleep(0)
            assert not waiting.done()
            client.close()
            await waiting
            assert made[0].lost.done()

    run(main)


def test_who_is_in_the_backlog_when_the_server_closes_is_reset(run: Run) -> None:
    async def main() -> None:
        async with tcp_server() as (server, made):
            with socket.socket() as client:
                client.connect(server.sockets[0].getsockname())
                server.close()
                client.setblocking(False)
                with pytest.raises(ConnectionResetError):
                    await running().sock_recv(client, 99)
            assert made == []

    run(main)


def test_a_server_starts_when_told(run: Run) -> None:
    async def main() -> None:
        async with tcp_server(start_serving=False) as (server, made):
            assert not server.is_serving()
            assert await refused(server.sockets[0].getsockname())
            await server.start_serving()
            await server.start_serving()
            assert server.is_serving()
            client = await connect(server)
            await accepted(made)
            client.close()
            await made[0].lost

    run(main)


def test_serve_forever_ends_when_cancelled(run: Run) -> None:
    async def main() -> None:
        async with tcp_server(start_serving=False) as (server, made):
            serving = asyncio.create_task(server.serve_forever())
            await asyncio.sleep(0)
            client = await connect(server)
            await accepted(made)
            with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
                await server.serve_forever()
            client.close()
            await made[0].lost
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert not server.is_serving()
            with pytest.raises(RuntimeError, match="is closed"):
                await server.serve_forever()

    run(main)


def test_close_ends_serve_forever(run: Run) -> None:
    async def main() -> None:
        async with tcp_server() as (server, _):
            serving = asyncio.create_task(server.serve_forever())
            await asyncio.sleep(0)
            server.close()
            with pytest.raises(asyncio.CancelledError):
                await serving

    run(main)


def test_a_server_as_a_context(run: Run) -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        assert not server.is_serving()

    run(main)


@since_313
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_clients_are_closed_by_their_server(run: Run, method: str) -> None:
    async def main() -> None:
        async with tcp_server() as (server, made):
            clients = [await connect(server) for _ in range(3)]
            await accepted(made, 3)
            made[0].transport.write(b"waits")
            server.close()
            getattr(server, method)()
            assert [await protocol.lost for protocol in made] == [None] * 3
            await server.wait_closed()
            for client in clients:
                client.close()

    run(main)


def test_a_server_that_is_closed_by_its_own_protocol(run: Run) -> None:
    async def main() -> None:
        class Closes(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                server.close()
                made.set_result(self)

        made = running().create_future()
        server = await running().create_server(Closes, "127.0.0.1", 0)
        clients = [await connect(server)]
        protocol = await made
        protocol.transport.close()
        await protocol.lost
        await server.wait_closed()
        for client in clients:
            client.close()

    run(main)


# --- those who come -----------------------------------------------------------------------------------------------


def test_a_factory_that_fails_costs_its_client_only(run: Run, ours: str) -> None:
    """asyncio is silent unless in debug mode. Ours always reports it: the client sees a closed connection."""

    async def main() -> None:
        def factory() -> Recorder:
            if fail:
                raise fail.pop()
            made.append(Recorder())
            return made[-1]

        made: list[Recorder] = []
        fail: list[Exception] = [LookupError("lost")]
        reports = watch_reports()
        server = await running().create_server(factory, "127.0.0.1", 0)
        first = await connect(server)
        assert await running().sock_recv(first, 1) == b""
        second = await connect(server)
        await accepted(made)
        (report,) = reports
        assert report["message"] == "Error on transport creation for incoming connection"
        assert str(report["exception"]) == "lost"
        first.close()
        second.close()
        await made[0].lost
        server.close()
        await server.wait_closed()

    run(main)


def test_no_descriptor_is_free(run: Run, ours: str) -> None:
    """Said once, and whoever comes waits in the backlog until there is a descriptor again."""

    async def main() -> None:
        first, *waiting = [socket.socket() for _ in range(4)]
        with only_so_many_descriptors() as limit:
            async with tcp_server() as (server, made):
                reports = watch_reports()
                first.connect(server.sockets[0].getsockname())
                await accepted(made)
                limit()
                for client in waiting:
                    client.connect(server.sockets[0].getsockname())
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(made) == 1
                assert [report["message"] for report in reports] == ["socket.accept() out of system resource"]
                assert reports[0]["exception"].errno == errno.EMFILE
                assert reports[0]["socket"].fileno() == server.sockets[0].fileno()
                for count in range(1, 4):
                    made[count - 1].transport.abort()
                    await accepted(made, count + 1)
                for client in (first, *waiting):
                    client.close()

    run(main)


@contextmanager
def only_so_many_descriptors() -> Iterator[Callable[[], None]]:
    """Lower the limit so far that there is room for a few more, which the call in hand uses up.

    The limit itself stands before a server accepts: io_uring looks at it when accepting begins.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []

    def use_up() -> None:
        with suppress(OSError):
            while True:
                held.append(os.dup(0))

    os.close(last := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (last + 10, hard))
    try:
        yield use_up
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in held:
            os.close(number)


def test_a_thousand_clients_come_and_go(run: Run) -> None:
    async def main() -> None:
        async with tcp_server() as (server, made):
            for _ in range(10):
                made.clear()
                clients = [await connect(server) for _ in range(100)]
                await accepted(made, 100)
                for client in clients:
                    client.close()
                assert [await protocol.lost for protocol in made] == [None] * 100
            # The fixture `no_descriptor_left` looks whether any is.

    run(main)
