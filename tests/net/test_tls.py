"""TLS on the framework's path: with ourselves and with OpenSSL on the other side, over every back end.

Long because: each scenario is a program of its own.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from support.certificates import authority, localhost
from support.peers import Ends, frame, until
from wireway import Access, Connection, LengthPrefix, Raw, Server, Tls, TlsInfo, connect
from wireway.testing import served

SERVER = Tls(cert=localhost().cert, key=localhost().key)
CLIENT = Tls(ca=authority().pem)


def echo(conn: Connection, message: bytes) -> None:
    conn.send_nowait(message)


@asynccontextmanager
async def serving(handler: Any = echo, tls: Tls = SERVER, **options: Any) -> AsyncIterator[tuple[Server, Ends]]:
    server = Server("tls://127.0.0.1:0", **{"framing": LengthPrefix(4)} | options, tls=tls)
    server.on_message(handler)
    ends = Ends(server)
    async with server:
        yield server, ends


def port_of(server: Server) -> int:
    return int(server.addresses[0].rpartition(":")[2])


@asynccontextmanager
async def openssl(
    server: Server, context: ssl.SSLContext | None = None, name: str = "localhost"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port_of(server), ssl=context or authority().trust(), server_hostname=name
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return


def test_both_sides_are_ours(run: Run) -> None:
    async def main() -> None:
        async with serving() as (server, ends):
            assert server.addresses[0].startswith("tls://127.0.0.1:")
            async with connect(server.addresses[0], framing=LengthPrefix(4), tls=CLIENT) as client:
                assert await client.request(b"hello") == b"hello"
                assert client.connection is not None
                info = client.connection.tls
                assert isinstance(info, TlsInfo)
                assert (info.version, info.server_name, info.alpn) == ("TLSv1.3", "127.0.0.1", None)
                assert info.peer_certificate is not None
                assert "DNS:localhost" in info.peer_certificate.san
            reason = await ends.next()
            assert reason.code == "peer-closed"
            assert "acknowledg" not in str(reason) or "had acknowledged all" in str(reason)
            assert (reason.messages_in, reason.messages_out) == (1, 1)

    run(main)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_openssl_client(run: Run, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        context = authority().trust()
        context.minimum_version = context.maximum_version = version
        messages = [bytes([number % 256]) * (number * 97) for number in range(120)]
        async with serving() as (server, ends), openssl(server, context) as (reader, writer):
            for message in messages:
                writer.write(frame(message))
            for message in messages:
                assert await reader.readexactly(4 + len(message)) == frame(message)
            (conn,) = server.connections
            assert conn.tls is not None
            assert conn.tls.version == version.name.replace("_", ".")
            assert conn.tls.server_name == "localhost"
            writer.close()
            assert (await ends.next()).code == "peer-closed"

    run(main)


def test_an_openssl_server(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 16):
                writer.write(data)
            writer.close()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cert, key = localhost().write(tmp_path, "server")
        context.load_cert_chain(cert, key)
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        try:
            async with connect(f"tls://localhost:{port}", framing=LengthPrefix(4), tls=CLIENT) as client:
                answers = await asyncio.gather(*(client.request(b"%d" % number) for number in range(200)))
                assert answers == [b"%d" % number for number in range(200)]
        finally:
            server.close()
            await server.wait_closed()

    run(main)


@pytest.mark.parametrize("size", [1, 16 * 1024 - 4, 16 * 1024, 1 << 20, 9 << 20])
def test_messages_of_any_size(run: Run, size: int) -> None:
    async def main() -> None:
        message = (bytes(range(251)) * (size // 251 + 1))[:size]
        async with serving() as (server, _ends):
            async with connect(server.addresses[0], framing=LengthPrefix(4), tls=CLIENT) as client:
                assert await client.request(message) == message
            assert server.stats.queued == 0

    run(main)


def test_a_slow_reader_presses_on_the_handler(run: Run) -> None:
    """What waits is plaintext until it can leave: the watermarks hold, and nothing is lost or repeated."""

    async def main() -> None:
        count, size = 400, 50_000

        async def pour(conn: Connection, _message: bytes) -> None:
            for number in range(count):
                await conn.send(number.to_bytes(4, "big") * (size // 4))
                highest.append(conn.queued)

        highest: list[int] = []
        async with serving(pour) as (server, _ends), openssl(server) as (reader, writer):
            writer.write(frame(b"go"))
            await asyncio.sleep(0.1)  # as long as nobody reads
            for number in range(count):
                assert await reader.readexactly(4) == size.to_bytes(4, "big")
                assert await reader.readexactly(size) == number.to_bytes(4, "big") * (size // 4)
            assert max(highest) < 1_000_000
            await until(lambda: server.stats.queued == 0)

    run(main)


def test_messages_of_one_turn_share_records(run: Run) -> None:
    async def main() -> None:
        def burst(conn: Connection, _message: bytes) -> None:
            for _ in range(100):
                conn.send_nowait(b"x" * 16)

        async with serving(burst) as (server, _ends), openssl(server) as (reader, writer):
            before = server.stats.bytes_out
            writer.write(frame(b"go"))
            await reader.readexactly(100 * 20)
            assert server.stats.bytes_out - before < 100 * 20 + 600  # a hundred records would add 2,200 bytes

    run(main)


def test_the_peer_is_known_before_on_connect(run: Run) -> None:
    async def main() -> None:
        device = authority().issue("device-7.example", common_name="device-7")
        seen: list[tuple[str | None, str]] = []
        tls = Tls(
            cert=localhost().cert,
            key=localhost().key,
            client_ca=authority().pem,
            client_auth="required",
            alpn=("a/1", "b/2"),
        )
        server = Server("tls://127.0.0.1:0", framing=LengthPrefix(4), tls=tls)
        server.on_message(echo)

        @server.on_connect
        def greet(conn: Connection) -> None:
            assert conn.tls is not None
            certificate = conn.tls.peer_certificate
            assert certificate is not None
            seen.append((certificate.common_name, conn.tls.alpn or ""))
            assert {each.oid for each in certificate.extensions} >= {"2.5.29.17", "2.5.29.37"}
            assert certificate.not_before < certificate.not_after
            conn.send_nowait(b"welcome")

        own = Tls(ca=authority().pem, cert=device.cert, key=device.key, alpn=("b/2",), server_name="localhost")
        async with server, connect(server.addresses[0], framing=LengthPrefix(4), tls=own) as client:
            assert await client.receive() == b"welcome"
            assert await client.request(b"1") == b"1"
        assert seen == [("device-7", "b/2")]

    run(main)


def test_several_certificates_by_name(run: Run) -> None:
    async def main() -> None:
        other = authority().issue("other.example", "*.wild.example")
        tls = Tls(cert=localhost().cert, key=localhost().key, certificates=[(other.cert, other.key)])
        async with serving(tls=tls) as (server, _ends):
            for name, wanted in (
                ("localhost", "DNS:localhost"),
                ("other.example", "DNS:other.example"),
                ("a.wild.example", "DNS:*.wild.example"),
            ):
                own = Tls(ca=authority().pem, server_name=name)
                async with connect(server.addresses[0], framing=LengthPrefix(4), tls=own) as client:
                    assert client.connection is not None
                    assert client.connection.tls is not None
                    shown = client.connection.tls.peer_certificate
                    assert shown is not None
                    assert wanted in shown.san

    run(main)


def test_sessions_are_resumed(run: Run) -> None:
    async def main() -> None:
        async with serving() as (server, _ends):
            context, session, reused = authority().trust(), None, []
            context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose sessions Python can carry over
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                peer = context.wrap_bio(incoming, outgoing, server_hostname="localhost", session=session)
                while True:
                    try:
                        peer.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        writer.write(outgoing.read())
                        incoming.write(await reader.read(1 << 16))
                writer.write(outgoing.read())
                peer.write(frame(b"x"))
                writer.write(outgoing.read())
                assert await reader.read(1 << 16)
                session = peer.session
                reused.append(peer.session_reused)
                (conn,) = server.connections
                assert conn.tls is not None
                assert conn.tls.resumed == peer.session_reused
                writer.close()
                await until(lambda: not server.connections)
            assert reused == [False, True]

    run(main)


def test_broadcasts_groups_and_raw(run: Run) -> None:
    async def main() -> None:
        async with (
            serving(lambda conn, _message: conn.join("all"), framing=LengthPrefix(2)) as (server, _ends),
            openssl(server) as (one, w1),
            openssl(server) as (two, w2),
        ):
            for writer in (w1, w2):
                writer.write(b"\0\1x")
            await until(lambda: len(server.members("all")) == 2)
            assert server.broadcast(b"news", group="all") == 2
            assert await one.readexactly(6) == await two.readexactly(6) == b"\0\4news"
        async with serving(framing=Raw()) as (server, _ends), openssl(server) as (reader, writer):
            writer.write(b"z" * 300_000)
            assert await reader.readexactly(300_000) == b"z" * 300_000

    run(main)


def test_nothing_is_sent_before_the_handshake(run: Run) -> None:
    async def main() -> None:
        async with serving() as (server, _ends):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            await until(lambda: server.connections)
            (conn,) = server.connections
            assert conn.tls is None
            assert server.broadcast(b"secret") == 0
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.2)
            writer.close()
            await writer.wait_closed()

    run(main)


def test_a_half_close_is_a_goodbye_and_reading_goes_on(run: Run) -> None:
    async def main() -> None:
        async def converse(conn: Connection) -> None:
            await conn.send(b"that is all from me")
            conn.half_close()
            heard.extend([message async for message in conn])
            done.set()

        heard: list[bytes] = []
        done = asyncio.Event()
        server = Server("tls://127.0.0.1:0", framing=LengthPrefix(4), tls=SERVER)
        server.on_connect(converse)
        ends = Ends(server)
        async with server, connect(server.addresses[0], framing=LengthPrefix(4), tls=CLIENT) as client:
            assert await client.receive() == b"that is all from me"
            await asyncio.wait_for(done.wait(), 10)
            assert (await ends.next()).code == "peer-closed"

    run(main)


def test_the_server_ends_with_a_goodbye(run: Run) -> None:
    async def main() -> None:
        def bye(conn: Connection, _message: bytes) -> None:
            conn.send_nowait(b"bye")
            conn.close()

        async with serving(bye) as (server, _ends), openssl(server) as (reader, writer):
            writer.write(frame(b"x"))
            assert await reader.read() == frame(b"bye")  # OpenSSL raises where the close_notify is missing
        async with serving() as (server, _ends), openssl(server) as (reader, writer):
            writer.write(frame(b"x"))
            await reader.readexactly(5)
            await server.close()
            assert await reader.read() == b""

    run(main)


def test_behind_a_proxy(run: Run) -> None:
    """The PROXY header comes first, in the clear; what is behind it in the same segment is the handshake."""

    async def main() -> None:
        access = Access(proxy_protocol="required", proxies=("127.0.0.1",))
        async with serving(access=access) as (server, _ends):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            peer = authority().trust().wrap_bio(incoming, outgoing, server_hostname="localhost")
            with pytest.raises(ssl.SSLWantReadError):
                peer.do_handshake()
            writer.write(b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 443\r\n" + outgoing.read())
            while True:
                incoming.write(await reader.read(1 << 16))
                try:
                    peer.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
            peer.write(frame(b"x"))
            writer.write(outgoing.read())
            while True:
                incoming.write(await reader.read(1 << 16))
                try:
                    assert peer.read(100) == frame(b"x")
                    break
                except ssl.SSLWantReadError:
                    continue
            (conn,) = server.connections
            assert conn.peer == ("192.0.2.7", 4000)
            assert conn.tls is not None
            writer.close()

    run(main)


def test_tls_and_plain_side_by_side(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = Server(["tcp://127.0.0.1:0", "tls://127.0.0.1:0"], framing=LengthPrefix(4), tls=SERVER)
        server.on_message(echo)
        async with server:
            plain, secured = server.addresses
            assert (plain[:6], secured[:6]) == ("tcp://", "tls://")
            async with connect(plain, framing=LengthPrefix(4)) as client:
                assert await client.request(b"1") == b"1"
                assert client.connection is not None
                assert client.connection.tls is None
            async with connect(secured, framing=LengthPrefix(4), tls=CLIENT) as client:
                assert await client.request(b"2") == b"2"

    with caplog.at_level(logging.WARNING):
        run(main)
    assert not caplog.records


def test_a_connection_that_was_secured_weighs_its_session(run: Run) -> None:
    async def main() -> None:
        async with serving() as (server, _ends), openssl(server) as (reader, writer):
            writer.write(frame(b"x"))
            await reader.readexactly(5)
            (conn,) = server.connections
            memory = conn.memory()
            assert memory.core_fixed > 500
            assert memory.core_queued == memory.core_received == 0
            assert conn.stats["bytes_in"] > 5

    run(main)


def test_what_tests_of_services_need(run: Run) -> None:
    """`served` and its link with faults, under TLS."""

    async def main() -> None:
        server = Server("tls://example.com:9443", framing=LengthPrefix(4), tls=SERVER)
        server.on_message(echo)
        async with served(server, faults=True) as running:
            assert running.address.startswith("tls://127.0.0.1:")
            client = await running.connect(tls=CLIENT)
            assert await client.request(b"x") == b"x"
            running.link.drop_connections()
            with pytest.raises(ConnectionError):
                await client.request(b"y")

    run(main)
