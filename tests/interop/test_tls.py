"""TLS with client certificates: through streams and protocols, big data, refusals, upgrade, half-done handshakes."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Certificates

Run = Callable[..., Any]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def exchange(port: int, context: ssl.SSLContext, data: bytes) -> None:
    """Send `data` to an echo server while reading it back; it must come whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:

        async def send() -> None:
            for start in range(0, len(data), 100_000):
                writer.write(data[start : start + 100_000])
                await writer.drain()

        _, back = await asyncio.gather(send(), reader.readexactly(len(data)))
        assert back == data
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_client_certificates_over_sixty_connections(
    run: Run, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    names: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peercert")
        names.append(dict(item[0] for item in peer["subject"])["commonName"])
        assert writer.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
        await echo(reader, writer)

    async def main() -> None:
        context = certificates.client()
        context.minimum_version = context.maximum_version = version
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificates.server(require_client=True))
        async with server:
            data = [random.Random(i).randbytes(200_000 if i else 8 << 20) for i in range(60)]
            await asyncio.gather(*(exchange(port_of(server), context, part) for part in data))

    run(main())
    assert names == ["wireway"] * 60


@pytest.mark.parametrize("certificate", ["none", "foreign"])
def test_a_client_without_our_certificate_is_refused(run: Run, certificates: Certificates, certificate: str) -> None:
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await echo(reader, writer)

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificates.server(require_client=True))
        async with server:
            for _ in range(10):
                with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                    await exchange(port_of(server), certificates.client(certificate), b"hello")
            await exchange(port_of(server), certificates.client(), b"the right one still comes in")

    run(main())
    assert served == 1


def test_a_client_that_does_not_trust_the_server_says_so(run: Run, certificates: Certificates) -> None:
    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server())
        async with server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await exchange(port_of(server), certificates.distrusting_client(), b"hello")

    run(main())


def test_start_tls_upgrades_both_sides_after_plain_text(run: Run, certificates: Certificates) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(certificates.server(require_client=True))
        assert writer.get_extra_info("peercert")
        await echo(reader, writer)

    async def client(port: int, seed: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(certificates.client(), server_hostname="localhost")
        data = random.Random(seed).randbytes(500_000)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            await asyncio.gather(*(client(port_of(server), seed) for seed in range(20)))

    run(main())


def test_handshakes_that_never_finish_time_out_and_others_pass(run: Run, certificates: Certificates) -> None:
    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificates.server(), ssl_handshake_timeout=0.3)
        async with server:
            loop = asyncio.get_running_loop()
            silent = [socket.create_connection(("127.0.0.1", port_of(server))) for _ in range(10)]
            garbage = [socket.create_connection(("127.0.0.1", port_of(server))) for _ in range(10)]
            for sock in garbage:
                sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            await asyncio.gather(*(exchange(port_of(server), certificates.client(), b"x" * 9_000) for _ in range(10)))
            for sock in (*silent, *garbage):
                sock.setblocking(False)
                try:
                    while await loop.sock_recv(sock, 4096):
                        pass
                except ConnectionResetError:
                    pass
                sock.close()

    run(main())


def test_a_cancelled_handshake_leaves_nothing(run: Run, certificates: Certificates) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await asyncio.open_connection(
                            "127.0.0.1", port, ssl=certificates.client(), server_hostname="localhost"
                        )
                peer, _ = listener.accept()
                peer.setblocking(False)
                loop = asyncio.get_running_loop()
                try:
                    while await loop.sock_recv(peer, 4096):  # ends only when the client has closed its side
                        pass
                except ConnectionResetError:
                    pass
                peer.close()

    run(main())
