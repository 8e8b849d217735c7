"""Owns a connected stream for tests: a transport on this side, a plain socket on the other, a protocol that records.

The four kinds are the two families and the two ways in which a loop gets a transport: connected and accepted.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

BUFFER = 64 * 1024
"""Bytes of TCP's buffers, both ways. Left alone they grow, and no test would know how much is too much."""

KINDS = ("tcp-connected", "tcp-accepted", "unix-connected", "unix-accepted")


class Recorder(asyncio.Protocol):
    """Records what it is told. `calls` has everything but data; `data` has the data."""

    keep_open = False
    """What `eof_received` says."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._note("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self._changed.set()

    def eof_received(self) -> bool:
        self._note("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self._note("lost")
        self.lost.set_result(error)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something that is recorded makes `condition()` true."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def receives(self, size: int) -> bytes:
        """The first `size` bytes that arrived."""
        await self.until(lambda: len(self.data) >= size)
        return bytes(self.data[:size])


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same for a protocol that lends its own buffer."""

    size = 100
    hints: list[int]

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(self.size)
        self.hints = []

    def get_buffer(self, sizehint: int) -> bytearray:
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= len(self.buffer)
        self.data_received(bytes(self.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)


class Stream:
    """`transport` with its `protocol`, and `other`, the non-blocking socket of the peer."""

    def __init__(self, transport: Any, protocol: Any, other: socket.socket) -> None:
        self.transport, self.protocol, self.other = transport, protocol, other

    async def sends(self, data: bytes) -> None:
        """The peer sends."""
        await asyncio.get_running_loop().sock_sendall(self.other, data)

    async def gets(self, size: int) -> bytes:
        """What the peer gets: `size` bytes, fewer at the end of the stream."""
        loop, data = asyncio.get_running_loop(), bytearray()
        while len(data) < size and (piece := await loop.sock_recv(self.other, min(size - len(data), 1 << 20))):
            data += piece
        return bytes(data)

    async def gets_all(self) -> bytes:
        """Everything that the peer gets until the end of the stream."""
        return await self.gets(1 << 40)

    def reset(self) -> None:
        """The peer goes away without a word (TCP: RST)."""
        if self.other.family == socket.AF_INET:
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            self.other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.other.close()


@asynccontextmanager
async def stream(kind: str, protocol: Callable[[], Any] = Recorder, **options: Any) -> AsyncIterator[Stream]:
    """A stream of one of `KINDS`; at the end it is aborted, if it is still open, and its end awaited."""
    family, made = kind.split("-")
    with tempfile.TemporaryDirectory() as folder:
        connect = _connected if made == "connected" else _accepted
        pair = await connect(family, Path(folder) / "socket", protocol, options)
        try:
            yield pair
        finally:
            if not pair.protocol.lost.done():
                pair.transport.abort()
            await pair.protocol.lost
            pair.other.close()


def _bound(sock: Any) -> None:
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)


async def _connected(family: str, path: Path, protocol: Callable[[], Any], options: dict[str, Any]) -> Stream:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET if family == "tcp" else socket.AF_UNIX) as listener:
        listener.bind(("127.0.0.1", 0) if family == "tcp" else str(path))
        listener.listen()
        listener.setblocking(False)
        _bound(listener)  # what it accepts inherits it
        accepting = loop.create_task(loop.sock_accept(listener))
        if family == "tcp":
            made = await loop.create_connection(protocol, *listener.getsockname(), **options)
        else:
            made = await loop.create_unix_connection(protocol, str(path), **options)
        other, _ = await accepting
    if not made[0].is_closing():
        _bound(made[0].get_extra_info("socket"))
    return Stream(*made, other)


async def _accepted(family: str, path: Path, protocol: Callable[[], Any], options: dict[str, Any]) -> Stream:
    loop = asyncio.get_running_loop()
    made = loop.create_future()

    def factory() -> Any:
        instance = protocol()
        told = instance.connection_made

        def connection_made(transport: Any) -> None:
            made.set_result((transport, instance))
            told(transport)

        instance.connection_made = connection_made
        return instance

    if family == "tcp":
        server = await loop.create_server(factory, "127.0.0.1", 0, **options)
        _bound(server.sockets[0])
        address: Any = server.sockets[0].getsockname()
    else:
        server = await loop.create_unix_server(factory, str(path), **options)
        address = str(path)
    other = socket.socket(socket.AF_INET if family == "tcp" else socket.AF_UNIX)
    other.setblocking(False)
    _bound(other)
    await loop.sock_connect(other, address)
    transport, instance = await made
    server.close()
    return Stream(transport, instance, other)
