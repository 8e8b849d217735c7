"""Owns the other side of a `wireway.Server` in tests: peers that are plain sockets, and how connections ended."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit

from wireway import CloseReason, Connection, Server


class Peer:
    """One connected socket. Everything it does is one system call, or waits for one."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self, size: int) -> bytes:
        """Exactly `size` bytes; fewer are an error."""
        data = bytearray()
        while len(data) < size:
            piece = await asyncio.get_running_loop().sock_recv(self.sock, size - len(data))
            assert piece, f"the server closed after {len(data)} of {size} bytes: {bytes(data[-100:])!r}"
            data += piece
        return bytes(data)

    async def rest(self) -> bytes:
        """All that comes until the server closes. A reset is an error, as it would lose bytes."""
        data = bytearray()
        while piece := await asyncio.get_running_loop().sock_recv(self.sock, 1 << 18):
            data += piece
        return bytes(data)

    async def gone(self) -> None:
        """Wait until the server closed, with or without a reset."""
        try:
            await self.rest()
        except ConnectionResetError:
            return

    def finish(self) -> None:
        """Say that nothing more is sent, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End with RST rather than FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what nobody tells. The test's own limit ends it."""
    while not holds():  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(0.005)


class Ends:
    """The ends of a server's connections, in order. Takes the place of its `on_close`."""

    def __init__(self, server: Server) -> None:
        self._ends: asyncio.Queue[CloseReason] = asyncio.Queue()
        server.on_close(self._closed)

    def _closed(self, connection: Connection, reason: CloseReason) -> None:
        assert isinstance(connection, Connection)
        self._ends.put_nowait(reason)

    async def next(self) -> CloseReason:
        """Wait for the next end."""
        return await self._ends.get()

    def all(self) -> list[CloseReason]:
        """Those that nobody waited for."""
        return [self._ends.get_nowait() for _ in range(self._ends.qsize())]


@asynccontextmanager
async def connected(server: Server, url: str | None = None, *, buffer: int | None = None) -> AsyncIterator[Peer]:
    """A peer of a running server, of its first address unless told.

    :param buffer: the size of both the peer's buffers, before the kernel doubles it.
    """
    where = urlsplit(url or server.addresses[0])
    with socket.socket(socket.AF_UNIX if where.scheme == "unix" else socket.AF_INET) as sock:
        if buffer is not None:
            for (
                listening
            ) in server._listening.sockets:  # the server's sockets inherit it: else the kernel may take tens of MiB
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        peer = Peer(sock)
        target = where.path if where.scheme == "unix" else (where.hostname, where.port)
        await asyncio.get_running_loop().sock_connect(sock, target)
        yield peer


def frame(message: bytes, width: int = 4, byteorder: Literal["big", "little"] = "big") -> bytes:
    """One length-prefixed message, made without the code under test."""
    return len(message).to_bytes(width, byteorder) + message
