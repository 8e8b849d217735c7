"""TLS over our transports: the handshake, both upgrades, data, and every end. TLS itself is asyncio's."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.streams import BufferedRecorder, Recorder

Run = Callable[..., Any]
CERTIFICATE = Path(__file__).parents[1] / "support" / "localhost.pem"

BIG = bytes(range(256)) * (16 * 1024)


def running() -> AbstractEventLoop:
    return asyncio.get_running_loop()


def server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


class Pair:
    """A client and a server protocol that talk TLS."""

    def __init__(self, client: Any, server: Any) -> None:
        self.client, self.server = client, server


@asynccontextmanager
async def pair(client: Callable[[], Any] = Recorder, server: Callable[[], Any] = Recorder) -> AsyncIterator[Pair]:
    made = running().create_future()

    def factory() -> Any:
        made.set_result(protocol := server())
        return protocol

    listening = await running().create_server(factory, "127.0.0.1", 0, ssl=server_context())
    _, first = await running().create_connection(
        client, *listening.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
    )
    both = Pair(first, await made)
    await both.server.until(lambda: both.server.transport)
    listening.close()
    try:
        yield both
    finally:
        for protocol in (both.client, both.server):
            if not protocol.lost.done():
                protocol.transport.abort()
            await protocol.lost
        await listening.wait_closed()


def test_what_a_tls_transport_tells(run: Run) -> None:
    async def main() -> None:
        async with pair() as both:
            told = both.client.transport.get_extra_info
            assert isinstance(told("ssl_object"), ssl.SSLObject)
            assert isinstance(told("sslcontext"), ssl.SSLContext)
            assert ("commonName", "localhost") in [pair[0] for pair in told("peercert")["subject"]]
            assert told("cipher")[1].startswith("TLS")
            assert told("peername") == both.server.transport.get_extra_info("sockname")
            assert told("sockname") == both.server.transport.get_extra_info("peername")
            assert told("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert (
                both.server.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            )

    run(main)


class LendsView(BufferedRecorder):
    """asyncio's TLS cuts the buffer where it is filled so far: a piece of a bytearray would be a copy."""

    def get_buffer(self, sizehint: int) -> memoryview:  # type: ignore[override]
        return memoryview(super().get_buffer(sizehint))


@pytest.mark.parametrize("protocol", [Recorder, LendsView])
def test_data_goes_both_ways(run: Run, protocol: type[Recorder]) -> None:
    async def main() -> None:
        async with pair(protocol, protocol) as both:
            both.client.transport.write(BIG)
            both.server.transport.writelines([BIG, b"and more"])
            assert await both.server.receives(len(BIG)) == BIG
            assert await both.client.receives(len(BIG) + 8) == BIG + b"and more"

    run(main)


def test_a_big_transfer_against_a_slow_reader(run: Run) -> None:
    size = 32 << 20

    async def main() -> None:
        nonlocal ended
        ended = running().create_future()
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context())
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        sent = hashlib.sha256()
        for count in range(size >> 20):
            piece = bytes([count]) * (1 << 20)
            sent.update(piece)
            writer.write(piece)
            await writer.drain()
        assert await reader.readexactly(32) == sent.digest()
        writer.close()
        await writer.wait_closed()
        await ended
        server.close()
        await server.wait_closed()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received, left = hashlib.sha256(), size
        while left:
            data = await reader.read(min(left, 100_000))
            left -= len(data)
            received.update(data)
            await asyncio.sleep(0)
        writer.write(received.digest())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set_result(None)

    ended: asyncio.Future[None]
    run(main)


def test_flow_control(run: Run) -> None:
    async def main() -> None:
        async with pair() as both:
            both.server.transport.pause_reading()
            for _ in range(16):
                both.client.transport.write(BIG)
            assert both.client.calls == ["made", "pause"]
            assert both.client.transport.get_write_buffer_size() > 0
            both.server.transport.resume_reading()
            assert len(await both.server.receives(16 * len(BIG))) == 16 * len(BIG)
            await both.client.until(lambda: "resume" in both.client.calls)

    run(main)


# --- ends ---------------------------------------------------------------------------------------------------------


def test_close_sends_what_waits_and_tells_both_sides(run: Run) -> None:
    async def main() -> None:
        async with pair() as both:
            both.client.transport.write(BIG)
            both.client.transport.close()
            assert both.client.transport.is_closing()
            assert await both.server.receives(len(BIG)) == BIG
            assert await both.server.lost is None
            assert await both.client.lost is None
            assert "eof" in both.server.calls

    run(main)


def test_abort(run: Run) -> None:
    async def main() -> None:
        async with pair() as both:
            both.client.transport.write(BIG)
            both.client.transport.abort()
            assert await both.client.lost is None
            await both.server.lost
            assert len(both.server.data) < len(BIG)

    run(main)


def test_a_peer_that_is_reset(run: Run) -> None:
    async def main() -> None:
        async with pair() as both:
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            both.server.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            both.server.transport.abort()
            assert isinstance(await both.client.lost, ConnectionResetError)

    run(main)


# --- upgrades -----------------------------------------------------------------------------------------------------


def test_both_sides_are_upgraded_in_the_midst(run: Run) -> None:
    async def main() -> None:
        made = running().create_future()
        server = await running().create_server(lambda: made.set_result(p := Recorder()) or p, "127.0.0.1", 0)
        transport, client = await running().create_connection(Recorder, *server.sockets[0].getsockname())
        serving = await made
        await serving.until(lambda: serving.transport)
        transport.write(b"STARTTLS")
        assert await serving.receives(8) == b"STARTTLS"
        secure_server, secure_client = await asyncio.gather(
            running().start_tls(serving.transport, serving, server_context(), server_side=True),
            running().start_tls(transport, client, client_context(), server_hostname="localhost"),
        )
        secure_client.write(BIG)
        assert (await serving.receives(8 + len(BIG)))[8:] == BIG
        secure_server.write(b"welcome")
        assert await client.receives(7) == b"welcome"
        secure_client.close()
        assert await client.lost is None
        assert await serving.lost is None
        assert client.calls.count("made") == 1
        server.close()
        await server.wait_closed()

    run(main)


def test_an_upgrade_that_fails_closes_the_connection(run: Run) -> None:
    async def main() -> None:
        ours, other = socket.socketpair()
        transport, protocol = await running().create_connection(Recorder, sock=ours)
        upgrading = asyncio.create_task(
            running().start_tls(transport, protocol, client_context(), server_hostname="localhost")
        )
        await asyncio.sleep(0)
        other.sendall(b"HTTP/1.1 400 this is not TLS\r\n\r\n")
        with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|wrong version number|record layer failure"):
            await upgrading
        assert transport.is_closing()
        await asyncio.sleep(0)
        other.close()

    run(main)


def test_streams_are_upgraded(run: Run) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(8) == b"STARTTLS"
        writer.write(b"ready")
        await writer.start_tls(server_context())
        writer.write((await reader.readexactly(5)).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async def main() -> None:
        nonlocal ended
        ended = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS")
        assert await reader.readexactly(5) == b"ready"
        await writer.start_tls(client_context(), server_hostname="localhost")
        writer.write(b"hello")
        assert await reader.read() == b"HELLO"
        writer.close()
        await writer.wait_closed()
        await ended.wait()
        server.close()
        await server.wait_closed()

    ended: asyncio.Event
    run(main)


# --- handshakes that fail -----------------------------------------------------------------------------------------


def test_a_client_that_does_not_trust_us(run: Run) -> None:
    async def main() -> None:
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await running().create_server(factory, "127.0.0.1", 0, ssl=server_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            await running().create_connection(
                Recorder,
                *server.sockets[0].getsockname(),
                ssl=ssl.create_default_context(),
                server_hostname="localhost",
            )
        with pytest.raises(ssl.SSLCertVerificationError, match="elsewhere"):
            await running().create_connection(
                Recorder, *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="elsewhere"
            )
        server.close()
        await server.wait_closed()
        assert [protocol.calls for protocol in made if protocol.calls] == []

    run(main)


def test_a_server_that_never_answers(run: Run) -> None:
    async def main() -> None:
        ours, other = socket.socketpair()
        with pytest.raises(ConnectionAbortedError, match=r"SSL handshake is taking longer than 0\.05 seconds"):
            await running().create_connection(
                Recorder, sock=ours, ssl=client_context(), server_hostname="localhost", ssl_handshake_timeout=0.05
            )
        other.close()

    run(main)


def test_a_client_that_never_speaks_or_speaks_nonsense_costs_nothing(run: Run) -> None:
    async def main() -> None:
        server = await running().create_server(
            Recorder, "127.0.0.1", 0, ssl=server_context(), ssl_handshake_timeout=0.05
        )
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n"):
            client = socket.socket()
            client.setblocking(False)
            await running().sock_connect(client, server.sockets[0].getsockname())
            await running().sock_sendall(client, words)
            try:
                while await running().sock_recv(client, 999):
                    pass
            except ConnectionResetError:
                pass
            client.close()
        server.close()
        await server.wait_closed()

    run(main)
