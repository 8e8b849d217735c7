"""Owns what the tests of limits share: an echo server under limits, and peers that come from any address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from support.peers import Ends, Peer, frame
from wireway import Access, Connection, LengthPrefix, Limits, Server

ANYWHERE = "tcp://127.0.0.1:0"


def echo(limits: Limits | None = None, access: Access | None = None) -> tuple[Server, Ends]:
    """A server that sends back what comes, at most 100 bytes."""
    server = Server(ANYWHERE, framing=LengthPrefix(4, max_size=100), limits=limits, access=access)

    @server.on_message
    def answer(conn: Connection, message: bytes) -> None:
        conn.send_nowait(message)

    return server, Ends(server)


@asynccontextmanager
async def peer_at(server: Server, source: str = "127.0.0.1") -> AsyncIterator[Peer]:
    """A peer of a running server that comes from `source`: all of 127.0.0.0/8 is this machine."""
    where = urlsplit(server.addresses[0])
    with socket.socket() as sock:
        sock.bind((source, 0))
        peer = Peer(sock)
        await asyncio.get_running_loop().sock_connect(sock, (where.hostname, where.port))
        yield peer


async def lives(peer: Peer, word: bytes = b"hello") -> None:
    """The server answers this peer."""
    await peer.send(frame(word))
    assert await peer.receive(4 + len(word)) == frame(word)


async def refused(server: Server, source: str, code: str) -> None:
    """Who comes from `source` now is closed with `code`, and told nothing."""
    before = server.stats.closed.get(code, 0)
    async with peer_at(server, source) as peer:
        await peer.gone()
    stats = server.stats
    assert stats.closed.get(code, 0) == before + 1, stats.closed
    assert stats.accepted == stats.open + sum(stats.closed.values())
