"""Everything that goes wrong with TLS closes the connection with a code that says which, on the right side."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import Run
from support.certificates import authority, localhost, stranger
from support.peers import Ends, frame, until
from wireway import (
    Client,
    CloseReason,
    ConnectError,
    Connection,
    ConnectionClosedError,
    LengthPrefix,
    Reconnect,
    Server,
    Tls,
    TlsError,
    connect,
)

MUTUAL = Tls(cert=localhost().cert, key=localhost().key, client_ca=authority().pem, client_auth="required")
PLAIN = Tls(cert=localhost().cert, key=localhost().key)


def echo(conn: Connection, message: bytes) -> None:
    conn.send_nowait(message)


async def ended(tls: Tls, act: Callable[[int], Awaitable[Any]]) -> CloseReason:
    """How a server saw what `act` did with its port."""
    server = Server("tls://127.0.0.1:0", framing=LengthPrefix(4), tls=tls)
    server.on_message(echo)
    ends = Ends(server)
    async with server:
        await act(int(server.addresses[0].rpartition(":")[2]))
        reason = await ends.next()
        assert server.stats.closed == {reason.code: 1}
    assert not server.connections
    return reason


async def speak(port: int, data: bytes) -> bytes:
    """Send bytes and take what comes until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\x16\x03\x01\x00\x05hello", frame(b"x" * 40), bytes(range(256))]
)
def test_garbage(run: Run, data: bytes) -> None:
    async def main() -> None:
        reason = await ended(PLAIN, lambda port: speak(port, data))
        assert reason.code == "tls-garbage"
        assert reason.phase == "tls-handshake"
        assert reason.side == "peer"
        assert reason.verdict.confidence >= 0.8

    run(main)


def openssl(change: Callable[[ssl.SSLContext], object], name: str = "localhost") -> Callable[[int], Awaitable[None]]:
    async def act(port: int) -> None:
        context = authority().trust()
        change(context)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        except (ssl.SSLError, ConnectionError):
            return
        try:
            await reader.read()  # TLS 1.3: what the server thinks of our certificate comes after our handshake
        except (ssl.SSLError, ConnectionError):
            return
        finally:
            writer.close()

    return act


def _old(context: ssl.SSLContext) -> None:
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def test_a_version_that_is_too_old(run: Run) -> None:
    async def main() -> None:
        strict = Tls(cert=localhost().cert, key=localhost().key, min_version="1.3")
        reason = await ended(strict, openssl(_old))
        assert (reason.code, reason.phase) == ("tls-version", "tls-handshake")

    run(main)


def test_a_client_without_a_certificate(run: Run) -> None:
    async def main() -> None:
        assert (await ended(MUTUAL, openssl(lambda _context: None))).code == "tls-no-certificate"

    run(main)


@pytest.mark.parametrize(
    ("issuer", "age", "life", "code"),
    [
        (stranger, 0, 3600, "tls-unknown-ca"),
        (authority, 7200, 3600, "tls-expired"),
        (authority, -3600, 7200, "tls-expired"),
    ],
)
def test_a_client_with_a_wrong_certificate(
    run: Run, tmp_path: Any, issuer: Any, age: float, life: float, code: str
) -> None:
    async def main() -> None:
        files = issuer().issue("client.example", age=age, life=life).write(tmp_path, "client")
        assert (await ended(MUTUAL, openssl(lambda context: context.load_cert_chain(*files)))).code == code

    run(main)


def test_a_client_that_refuses_us(run: Run) -> None:
    """OpenSSL on a socket of its own: asyncio aborts before the alert is out."""

    def refuse(port: int) -> None:
        context = authority().trust()
        with (
            socket.create_connection(("127.0.0.1", port)) as sock,
            pytest.raises(ssl.SSLCertVerificationError),
            context.wrap_socket(sock, server_hostname="elsewhere.example"),
        ):
            pass

    async def main() -> None:
        reason = await ended(PLAIN, lambda port: asyncio.to_thread(refuse, port))
        assert reason.code == "tls-rejected"
        assert "alert" in reason.why

    run(main)


def test_a_stream_that_is_cut(run: Run) -> None:
    """FIN without a close_notify: what came before is handled, and the reason says that more may have been lost."""

    async def main() -> None:
        async def cut(port: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            peer = authority().trust().wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    peer.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(1 << 16))
            peer.write(frame(b"last words"))
            writer.write(outgoing.read())
            writer.write_eof()
            incoming.write(await reader.read())
            assert peer.read(100) == frame(b"last words")
            writer.close()

        reason = await ended(PLAIN, cut)
        assert (reason.code, reason.messages_in, reason.phase) == ("tls-truncated", 1, "open")

    run(main)


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_a_peer_that_leaves_in_the_handshake(run: Run, data: bytes) -> None:
    async def main() -> None:
        async def leave(port: int) -> None:
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            writer.close()
            await writer.wait_closed()

        assert (await ended(PLAIN, leave)).code == ("tls-truncated" if data else "peer-closed")

    run(main)


def test_a_peer_that_resets_in_the_handshake(run: Run) -> None:
    async def main() -> None:
        async def reset(port: int) -> None:
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        reason = await ended(PLAIN, reset)
        assert reason.code == "peer-reset"

    run(main)


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_a_handshake_has_a_deadline(run: Run, data: bytes) -> None:
    async def main() -> None:
        quick = Tls(cert=localhost().cert, key=localhost().key, handshake_timeout=0.3)
        reason = await ended(quick, lambda port: speak(port, data))
        assert reason.code == "tls-handshake-timeout"
        assert 0.3 <= reason.age < 10

    run(main)


def test_records_that_were_changed_on_their_way(run: Run) -> None:
    async def main() -> None:
        async def change(port: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            peer = authority().trust().wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    peer.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(1 << 16))
            writer.write(outgoing.read())
            peer.write(frame(b"x" * 100))
            record = bytearray(outgoing.read())
            record[-1] ^= 1
            writer.write(bytes(record))
            await reader.read()
            writer.close()

        assert (await ended(PLAIN, change)).code == "tls-error"

    run(main)


# --- seen by our own client -----------------------------------------------------------------------------------------


async def refused(server_tls: Tls, client_tls: Tls, **options: Any) -> tuple[TlsError, Client]:
    server = Server("tls://127.0.0.1:0", framing=LengthPrefix(4), tls=server_tls)
    server.on_message(echo)
    async with server:
        client = connect(server.addresses[0], framing=LengthPrefix(4), tls=client_tls, **options)
        with pytest.raises(TlsError) as caught:
            await client
        assert client.closed_reason is not None
        assert client.closed_reason.code == caught.value.code
        assert client.closed_reason.phase == "tls-handshake"
        await until(lambda: not server.connections)
    return caught.value, client


@pytest.mark.parametrize(
    ("server", "client", "code"),
    [
        (lambda: localhost(), lambda: Tls(ca=stranger().pem), "tls-unknown-ca"),
        (lambda: localhost(), lambda: Tls(ca=authority().pem, server_name="elsewhere.example"), "tls-wrong-host"),
        (lambda: authority().issue("127.0.0.1", age=7200, life=3600), lambda: Tls(ca=authority().pem), "tls-expired"),
        (lambda: authority().issue("127.0.0.1", age=-3600), lambda: Tls(ca=authority().pem), "tls-expired"),
    ],
)
def test_a_server_that_is_not_trusted(run: Run, server: Any, client: Any, code: str) -> None:
    async def main() -> None:
        pair = server()
        error, _client = await refused(Tls(cert=pair.cert, key=pair.key), client())
        assert error.code == code
        assert "tls://127.0.0.1:" in str(error)
        assert isinstance(error, ConnectError)

    run(main)


def test_a_server_without_tls(run: Run) -> None:
    async def main() -> None:
        async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            with pytest.raises(TlsError) as caught:
                await connect(f"tls://127.0.0.1:{port}", tls=Tls(ca=authority().pem))
        assert caught.value.code == "tls-garbage"

    run(main)


def test_a_server_that_says_nothing(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            tls = Tls(ca=authority().pem, handshake_timeout=0.3)
            with pytest.raises(TlsError) as caught:
                await connect(f"tls://127.0.0.1:{listener.getsockname()[1]}", tls=tls)
        assert caught.value.code == "tls-handshake-timeout"

    run(main)


def test_a_client_is_cancelled_or_closed_in_the_handshake(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"tls://127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await connect(url, tls=Tls(ca=authority().pem))
            client = connect(url, tls=Tls(ca=authority().pem))
            opening = asyncio.ensure_future(client._open())
            await asyncio.sleep(0.2)
            await client.close()
            with pytest.raises(ConnectionClosedError):
                await asyncio.wait_for(opening, 5)

    run(main)


def test_a_lost_connection_is_made_again(run: Run) -> None:
    async def main() -> None:
        server = Server("tls://127.0.0.1:0", framing=LengthPrefix(4), tls=PLAIN)
        server.on_message(echo)
        async with server:
            reconnect = Reconnect(first=0.01)
            tls = Tls(ca=authority().pem)
            async with connect(server.addresses[0], framing=LengthPrefix(4), tls=tls, reconnect=reconnect) as client:
                for number in range(3):
                    assert await client.request(b"%d" % number) == b"%d" % number
                    (conn,) = server.connections
                    conn.abort()
                    await until(lambda number=number: client.reconnects > number)
                assert client.connection is not None
                assert client.connection.tls is not None
                assert client.connection.tls.resumed

    run(main)
