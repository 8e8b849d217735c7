"""Owns what the tests of HTTP share: a served application, and a client that speaks in bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from wireway.http import WebServer

ANYWHERE = "tcp://127.0.0.1:0"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
Application = Callable[[Any, Any, Any], Awaitable[None]]


@asynccontextmanager
async def serving(app: Application, **options: Any) -> AsyncIterator[tuple[WebServer, str, int]]:
    """A server of `app`, its host and its port."""
    async with WebServer(ANYWHERE, app, **options) as server:
        host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
        yield server, host, int(port)


class Peer:
    """A client that sends bytes and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes) -> None:
        """Each piece by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, fields and body of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        fields = {}
        for line in lines:
            name, _, value = line.partition(b": ")
            fields[name.lower()] = value
        status = int(first.split(b" ")[1])
        if b"content-length" in fields:
            body = await self.reader.readexactly(int(fields[b"content-length"]))
        elif fields.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readline() == b"\r\n"
        elif status in (100, 101, 204, 304):
            body = b""
        else:
            body = await self.reader.read()
        return status, fields, body

    def reset(self) -> None:
        """Ends the connection with a RST: FIN alone may mean that the client still reads."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def rest_of_chunks(self) -> bytes:
        """The body of an answer in chunks of which the first byte was read."""
        await self.reader.readuntil(b"\r\n\r\n")
        pieces = []
        while size := int(await self.reader.readline(), 16):
            pieces.append(await self.reader.readexactly(size))
            assert await self.reader.readexactly(2) == b"\r\n"
        return b"".join(pieces)

    async def rest(self) -> bytes:
        """All until the server closes."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b"<reset>"


@asynccontextmanager
async def peer(host: str, port: int) -> AsyncIterator[Peer]:
    """A connected client."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def read_all(receive: Any) -> bytes:
    """The body of a request."""
    body = b""
    while True:
        event = await receive()
        assert event["type"] == "http.request", event
        body += event["body"]
        if not event["more_body"]:
            return body


async def say(send: Any, body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    """An answer."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
