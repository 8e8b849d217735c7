"""Handlers in a class, and several addresses: other ways to say what the decorators and one URL say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.peers import Peer, connected
from wireway import CloseReason, Connection, Server

ANYWHERE = "tcp://127.0.0.1:0"


class Chat:
    """Counts what it is called for."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_connect(self, conn: Connection) -> None:
        self.seen.append("connect")

    async def on_message(self, conn: Connection, message: bytes) -> None:
        self.seen.append("message")
        await conn.send(message)

    def on_close(self, conn: Connection, reason: CloseReason) -> None:
        self.seen.append(reason.code)


class Batches:
    def on_batch(self, conn: Connection, messages: list[bytes]) -> None:
        conn.send_nowait(b"".join(messages))


async def answers(peer: Peer) -> None:
    await peer.send(b"hello")
    assert await peer.receive(5) == b"hello"


def test_an_instance_is_used(run: Run) -> None:
    async def main() -> None:
        chat = Chat()
        async with Server(ANYWHERE, handler=chat) as server, connected(server) as peer:
            await answers(peer)
        assert chat.seen == ["connect", "message", "server-stopped"]

    run(main)


def test_of_a_class_each_server_makes_one_instance(run: Run) -> None:
    made: list[Chat] = []

    class Counted(Chat):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    async def main() -> None:
        servers = [Server(ANYWHERE, handler=Counted) for _ in range(2)]
        for server in servers:
            async with server, connected(server) as peer:
                await answers(peer)
        assert [one.seen for one in made] == [["connect", "message", "server-stopped"]] * 2

    run(main)


def test_what_a_class_has_not_may_be_decorated(run: Run) -> None:
    async def main() -> None:
        server = Server(ANYWHERE, handler=Batches)
        ends: list[str] = []
        server.on_close(lambda _conn, reason: ends.append(reason.code))
        with pytest.raises(wireway.ConfigError, match="on_message and on_batch exclude each other"):
            server.on_message(lambda _conn, _message: None)
        async with server, connected(server) as peer:
            await answers(peer)
        assert ends == ["server-stopped"]

    run(main)


class Typo(Chat):
    def on_mesage(self, conn: Connection, message: bytes) -> None:
        """Misspelled."""


class Both(Chat, Batches):
    """One handler too many."""


class NoFunction:
    on_message = 5


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (
            Typo,
            "handler Typo has on_mesage, which a server never calls: it calls on_connect, on_message, on_batch, on_cl",
        ),
        (
            object(),
            "handler object has no method that a server calls: on_connect, on_message, on_batch, on_close, on_stall",
        ),
        (lambda _conn, _message: None, "handler function has no method that a server calls"),
        (Both, "on_message and on_batch exclude each other"),
        (NoFunction, "a handler is a function, not int"),
    ],
)
def test_a_class_that_is_wrong(handler: Any, text: str) -> None:
    with pytest.raises(wireway.ConfigError, match=text):
        Server(ANYWHERE, handler=handler)


def test_several_addresses(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with Server([ANYWHERE, f"unix://{tmp_path}/app.sock", ANYWHERE], handler=Chat) as server:
            assert [url.partition(":")[0] for url in server.addresses] == ["tcp", "unix", "tcp"]
            for url in server.addresses:
                async with connected(server, url) as peer:
                    await answers(peer)
            assert server.stats.accepted == 3

    run(main)


@pytest.mark.parametrize(
    ("address", "text"),
    [([], "address is empty, a server listens on at least one"), ([ANYWHERE, 5], "an address is a URL, not int")],
)
def test_addresses_that_are_wrong(address: Any, text: str) -> None:
    with pytest.raises(wireway.ConfigError, match=text):
        Server(address)
