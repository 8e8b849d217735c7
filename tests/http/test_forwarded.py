"""What proxies say of the client, and who is believed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.talking import ANYWHERE, LAST, peer, say, serving
from wireway.http import HttpOptions, WebServer
from wireway.http.forwarded import Forwarded

PEER = ("127.0.0.1", 5)


def believed(trusted: tuple[str, ...], *fields: tuple[bytes, bytes]) -> tuple[Any, str]:
    scope: dict[str, Any] = {"client": PEER, "scheme": "http", "headers": list(fields)}
    Forwarded(trusted).believe(scope)
    return scope["client"], scope["scheme"]


@pytest.mark.parametrize(
    ("trusted", "said", "client"),
    [
        ("127.0.0.1", b"192.0.2.1", ("192.0.2.1", 0)),
        ("127.0.0.1", b"10.9.9.9, 192.0.2.1", ("192.0.2.1", 0)),  # what the client wrote itself is not believed
        ("127.0.0.1,10.0.0.0/8", b"192.0.2.1, 10.1.2.3, 10.1.2.4", ("192.0.2.1", 0)),
        ("127.0.0.1,10.0.0.0/8", b"192.0.2.7, 192.0.2.1, 10.1.2.3", ("192.0.2.1", 0)),
        ("127.0.0.1,10.0.0.0/8", b"10.1.2.3, 10.1.2.4", ("10.1.2.3", 0)),  # all are ours: the farthest
        ("*", b"192.0.2.7, 192.0.2.1", ("192.0.2.7", 0)),
        ("127.0.0.1", b"192.0.2.1:8080", ("192.0.2.1", 8080)),
        ("127.0.0.1", b"2001:db8::1", ("2001:db8::1", 0)),
        ("127.0.0.1", b"[2001:db8::1]", ("2001:db8::1", 0)),
        ("127.0.0.1", b"[2001:db8::1]:8080", ("2001:db8::1", 8080)),
        ("127.0.0.1,2001:db8::/32", b"192.0.2.1, ::ffff:127.0.0.1, 2001:db8::1", ("192.0.2.1", 0)),
        ("127.0.0.1", b"unknown", PEER),
        ("127.0.0.1", b"192.0.2.1, _hidden", PEER),
        ("127.0.0.1", b"", PEER),
        ("127.0.0.1", b"192.0.2.1:99x", PEER),
        ("127.0.0.1", b"\xff\xff", PEER),
    ],
)
def test_the_client(trusted: str, said: bytes, client: Any) -> None:
    assert believed(tuple(trusted.split(",")), (b"x-forwarded-for", said)) == (client, "http")


def test_several_fields_are_one() -> None:
    fields = [(b"x-forwarded-for", b"192.0.2.9"), (b"x-forwarded-for", b"192.0.2.1, 10.0.0.1")]
    assert believed(("10.0.0.0/8",), *fields)[0] == ("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("said", "hops", "scheme"),
    [
        (b"https", b"192.0.2.1", "https"),
        (b"HTTPS", b"", "https"),
        (b"wss", b"192.0.2.1", "https"),  # that of the request; a WebSocket's is made of it
        (b"gopher", b"192.0.2.1", "http"),
        (b"https, http", b"192.0.2.1, 10.0.0.1", "https"),  # that of the client's hop
        (b"https, http", b"192.0.2.1", "http"),  # of hops that we do not know the last, which is our proxy's
    ],
)
def test_the_scheme(said: bytes, hops: bytes, scheme: str) -> None:
    fields = [(b"x-forwarded-proto", said), *([(b"x-forwarded-for", hops)] if hops else [])]
    assert believed(("127.0.0.1", "10.0.0.0/8"), *fields)[1] == scheme


@pytest.mark.parametrize(
    ("trusted", "peer_address", "is_trusted"),
    [
        (("127.0.0.1",), ("127.0.0.1", 1), True),
        (("127.0.0.1",), ("127.0.0.2", 1), False),
        (("127.0.0.0/8",), ("::ffff:127.0.0.2", 1), True),
        (("fe80::/10",), ("fe80::1%eth0", 1), True),
        (("*",), "", True),
        (("127.0.0.1",), "", False),
        (("unix",), "", True),
    ],
)
def test_who_is_trusted(trusted: tuple[str, ...], peer_address: Any, is_trusted: bool) -> None:
    assert Forwarded(trusted).trusts(peer_address) == is_trusted


def test_what_is_no_network() -> None:
    with pytest.raises(wireway.ConfigError, match=r"forwarded_allow has 'proxy\.example'"):
        WebServer(ANYWHERE, app, http=HttpOptions(forwarded_allow=("proxy.example",)))


async def app(scope: Any, receive: Any, send: Any) -> None:
    await say(send, repr((scope["client"], scope["scheme"])).encode())


SAID = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
ASKED = LAST.replace(b"Connection: close\r\n\r\n", SAID)


@pytest.mark.parametrize(("trusted", "is_believed"), [(("127.0.0.1",), True), (("192.0.2.0/24",), False), ((), False)])
def test_over_a_connection(run: Run, trusted: tuple[str, ...], is_believed: bool) -> None:
    async def main() -> None:
        options = HttpOptions(forwarded_allow=trusted)
        async with serving(app, lifespan="off", http=options) as (_, host, port), peer(host, port) as client:
            await client.send(ASKED)
            answer = (await client.answer())[2]
            assert (answer == repr((("192.0.2.1", 0), "https")).encode()) == is_believed

    run(main)


def test_over_a_unix_socket(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        place = tmp_path / "socket"
        async with WebServer(f"unix://{place}", app, lifespan="off", http=HttpOptions(forwarded_allow=("unix",))):
            reader, writer = await asyncio.open_unix_connection(str(place))
            writer.write(ASKED)
            assert b"192.0.2.1" in await reader.read()
            writer.close()
            await writer.wait_closed()

    run(main)
