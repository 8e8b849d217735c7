"""PROXY headers before the first message: whose address holds then, at every cut, and what becomes of lies."""

from __future__ import annotations

import struct

import pytest

from conftest import Run
from support.limits import echo, lives, peer_at, refused
from support.peers import frame
from wireway import Access, Connection, LengthPrefix, Limits, Server

LINE = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
BINARY = SIGNATURE + bytes([0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 7]) + struct.pack("!HH", 56324, 443)
CLIENT = ("192.0.2.1", 56324)

LIES = {
    "no-header": frame(b"hello, this is not a header"),
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "no-end": b"PROXY TCP4 " + b"1" * 200,
    "zero-in-front": b"PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n",
    "other-family": b"PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n",
    "lf-only": LINE.replace(b"\r\n", b"\n"),
    "too-short": SIGNATURE + bytes([0x21, 0x21, 0, 12]) + bytes(12),
    "too-long": SIGNATURE + bytes([0x21, 0x11, 0xFF, 0xFF]),
    "version-1": SIGNATURE + bytes([0x11, 0x11, 0, 12]) + bytes(12),
    "extension-too-long": SIGNATURE + bytes([0x21, 0x11, 0, 15]) + bytes(12) + bytes([4, 0, 9]),
    "checksum": SIGNATURE + bytes([0x21, 0x11, 0, 19]) + bytes(12) + bytes([3, 0, 4, 1, 2, 3, 4]),
}


def who(access: Access, limits: Limits | None = None) -> Server:
    """A server that answers with the address that it sees."""
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4, max_size=100), access=access, limits=limits)

    @server.on_message
    def answer(conn: Connection, message: bytes) -> None:
        conn.send_nowait(repr(conn.peer).encode())

    return server


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["line", "binary"])
def test_the_client_is_the_peer(run: Run, header: bytes) -> None:
    async def main() -> None:
        server = who(Access(proxy_protocol="required"))
        expected = frame(repr(CLIENT).encode())
        async with server:
            async with peer_at(server) as peer:
                # The header and the first message in one piece.
                await peer.send(header + frame(b"who"))
                assert await peer.receive(len(expected)) == expected
            async with peer_at(server) as peer:
                for byte in header + frame(b"who"):
                    await peer.send(bytes([byte]))
                assert await peer.receive(len(expected)) == expected

    run(main)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\0\0\0"], ids=["unknown", "local"])
def test_a_proxy_that_speaks_for_itself_keeps_its_address(run: Run, header: bytes) -> None:
    async def main() -> None:
        server = who(Access(proxy_protocol="required"))
        async with server, peer_at(server) as peer:
            expected = frame(repr(peer.sock.getsockname()).encode())
            await peer.send(header + frame(b"who"))
            assert await peer.receive(len(expected)) == expected

    run(main)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_header_that_lies_ends_the_connection(run: Run, lie: bytes) -> None:
    async def main() -> None:
        server, ends = echo(access=Access(proxy_protocol="required"))
        async with server, peer_at(server) as good:
            await good.send(LINE)
            await lives(good)
            async with peer_at(server) as bad:
                await bad.send(lie)
                await bad.gone()
            assert (await ends.next()).code == "bad-proxy-header"
            await lives(good)

    run(main)


def test_only_a_proxy_may_come_in(run: Run) -> None:
    async def main() -> None:
        server, _ = echo(access=Access(proxy_protocol="required", proxies=("127.0.0.1",)))
        async with server, peer_at(server) as good:
            await good.send(LINE)
            await lives(good)
            await refused(server, "127.0.0.2", "denied")
            await lives(good)

    run(main)


def test_a_header_of_who_is_no_proxy_is_a_message(run: Run) -> None:
    async def main() -> None:
        server, ends = echo(access=Access(proxy_protocol="optional", proxies=("127.0.0.1",)))
        async with server, peer_at(server, "127.0.0.2") as stranger:
            await lives(stranger)
            async with peer_at(server, "127.0.0.2") as bad:
                await bad.send(LINE)
                await bad.gone()
            assert (await ends.next()).code == "frame-too-large"

    run(main)


def test_an_optional_header_may_be_absent(run: Run) -> None:
    async def main() -> None:
        server, _ = echo(access=Access(proxy_protocol="optional"))
        async with server, peer_at(server) as plain, peer_at(server) as behind:
            await lives(plain)
            await behind.send(BINARY)
            await lives(behind)

    run(main)


def test_limits_are_those_of_the_client(run: Run) -> None:
    async def main() -> None:
        access = Access(proxy_protocol="required", deny=("198.51.100.0/24",))
        server, ends = echo(Limits(per_address=1), access)
        async with server, peer_at(server) as first, peer_at(server) as second:
            await first.send(LINE)
            await lives(first)
            await second.send(LINE.replace(b"192.0.2.1", b"192.0.2.2"))
            await lives(second)
            for header, code in (
                (LINE, "limit-address"),
                (LINE.replace(b"192.0.2.1", b"198.51.100.1"), "denied"),
            ):
                async with peer_at(server) as third:
                    await third.send(header)
                    await third.gone()
                assert (await ends.next()).code == code
            await lives(first)

    run(main)
