"""Owns scripted servers for tests of clients: plain sockets, every step the test's own; and a client's clock."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import wireway
from support.peers import Peer, frame
from wireway import LengthPrefix
from wireway.net.client import Client
from wireway.net.pool import Pool
from wireway.net.reconnecting import Reconnect

FRAMED = LengthPrefix(4)


class Remote(Peer):
    """The server's side of one connection, in messages with a length of four bytes before each."""

    async def gets(self) -> bytes:
        """The next message."""
        return await self.receive(int.from_bytes(await self.receive(4), "big"))

    async def says(self, *messages: bytes) -> None:
        """Send these."""
        await self.send(b"".join(frame(message) for message in messages))

    async def echoes(self, count: int = 1) -> None:
        """Send back the next messages."""
        for _ in range(count):
            await self.says(await self.gets())

    def close(self) -> None:
        """End with FIN, if nothing is unread."""
        self.sock.close()


class Listening:
    """A listening socket. The test accepts its connections one by one."""

    def __init__(self, port: int = 0) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.sock.listen(64)
        self.port = int(self.sock.getsockname()[1])
        self.url = f"tcp://127.0.0.1:{self.port}"
        self.accepted: list[Remote] = []

    async def accept(self) -> Remote:
        """The next connection."""
        sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        self.accepted.append(Remote(sock))
        return self.accepted[-1]

    def close(self) -> None:
        """Listen no more, and close what is still open."""
        self.sock.close()
        for remote in self.accepted:
            remote.close()


@asynccontextmanager
async def listening(port: int = 0) -> AsyncIterator[Listening]:
    """A server for the length of a block."""
    there = Listening(port)
    try:
        yield there
    finally:
        there.close()


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[Client, Remote]]:
    """A client that is open, and the server's side of its connection."""
    async with listening() as there, Client(there.url, framing=FRAMED, **options) as client:
        yield client, await there.accept()


class Clock:
    """Takes the place of a client's `sleep`: nothing is over until the test says so."""

    def __init__(self, client: Client) -> None:
        self._delays: asyncio.Queue[float] = asyncio.Queue()
        self._over: asyncio.Queue[None] = asyncio.Queue()
        client._sleep = self._sleep  # type: ignore[method-assign,assignment]

    async def _sleep(self, seconds: float) -> None:
        self._delays.put_nowait(seconds)
        await self._over.get()

    async def delay(self) -> float:
        """Wait until the client sleeps: for how long it wants to."""
        return await self._delays.get()

    def over(self) -> None:
        """Its sleep is over."""
        self._over.put_nowait(None)

    async def passes(self) -> float:
        """Both."""
        seconds = await self.delay()
        self.over()
        return seconds


class States:
    """The states that a client goes through: an `on_state`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._changed = asyncio.Event()

    def __call__(self, client: Client, state: Any, reason: Any) -> None:
        assert client.state is state
        self.seen.append(str(state) if reason is None else f"{state}: {reason.code}")
        self._changed.set()

    async def until(self, state: str, condition: Callable[[], bool] = lambda: True) -> None:
        """Wait until the last state begins with this."""
        while not (self.seen and self.seen[-1].startswith(state) and condition()):
            self._changed.clear()
            await self._changed.wait()


class Line:
    """A client that reconnects, with its clock, its states, and the server's side."""

    def __init__(self, there: Listening, client: Client, clock: Clock, states: States, server: Remote) -> None:
        self.there, self.client, self.clock, self.states, self.server = there, client, clock, states, server

    async def breaks(self) -> None:
        """The server resets the connection, and the client waits to try again."""
        self.server.reset()
        await self.states.until("waiting")

    async def mends(self) -> None:
        """The client tries again, and the server accepts."""
        await self.clock.passes()
        self.server = await self.there.accept()


@asynccontextmanager
async def line(**options: Any) -> AsyncIterator[Line]:
    """A client that is open. Delays are 0.5 s, 1 s, 2 s …, and pass when the test says so."""
    options.setdefault("reconnect", Reconnect(jitter=0))
    states = States()
    async with listening() as there:
        client = Client(there.url, framing=FRAMED, on_state=states, **options)
        clock = Clock(client)
        async with client:
            yield Line(there, client, clock, states, await there.accept())


class Echo:
    """A server that answers with the number of the connection and the message; it counts connections."""

    def __init__(self) -> None:
        self.server = wireway.Server("tcp://127.0.0.1:0", framing=FRAMED)
        self.server.on_message(lambda conn, message: conn.send_nowait(b"%d:%b" % (conn.id, message)) and None)

    @property
    def open(self) -> int:
        return len(self.server.connections)


@asynccontextmanager
async def echo(**options: Any) -> AsyncIterator[tuple[Pool, Echo]]:
    """A pool and its server."""
    there = Echo()
    async with there.server, Pool(there.server.addresses[0], framing=FRAMED, **options) as pool:
        yield pool, there


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(pool: Pool, **stats: int) -> None:
    """Wait until the pool says so."""
    while any(pool.stats[name] != value for name, value in stats.items()):  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.001)
