"""Much data and many connections, end to end over the loop itself: nothing is lost, mixed up, or left behind."""

from __future__ import annotations

import asyncio
import hashlib
import random
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.streams import BufferedRecorder, Recorder, stream

Run = Callable[..., Any]

FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])
SIZE = 64 << 20


async def serve(family: str, path: Path, handler: Callable[..., Any]) -> tuple[asyncio.Server, Callable[[], Any]]:
    """A server, and what opens a connection to it."""
    if family == "unix":
        server = await asyncio.start_unix_server(handler, path / "socket")
        return server, lambda: asyncio.open_unix_connection(path / "socket")
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return server, lambda: asyncio.open_connection(*server.sockets[0].getsockname())


async def end(writer: StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


@FAMILIES
def test_64_mib_to_a_reader_that_falls_behind(run: Run, family: str, tmp_path: Path) -> None:
    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        received, count, sizes = hashlib.sha256(), 0, random.Random(1)
        while data := await reader.read(sizes.choice([1, 1000, 65536, 1 << 20])):
            received.update(data)
            count += len(data)
            if sizes.random() < 0.1:
                await asyncio.sleep(0.0001)  # behind, not in step
        writer.write(b"%d %s" % (count, received.digest()))
        await end(writer)
        ended.set_result(None)

    async def main() -> None:
        nonlocal ended
        ended = asyncio.get_running_loop().create_future()
        server, connect = await serve(family, tmp_path, handler)
        reader, writer = await connect()
        sent, sizes, left = hashlib.sha256(), random.Random(2), SIZE
        block = random.Random(3).randbytes(1 << 20)
        while left:
            piece = block[: min(left, sizes.choice([1, 100, 10_000, 300_000, 1 << 20]))]
            sent.update(piece)
            writer.write(piece)
            await writer.drain()
            left -= len(piece)
        writer.write_eof()
        assert await reader.read() == b"%d %s" % (SIZE, sent.digest())
        await end(writer)
        await ended
        server.close()
        await server.wait_closed()

    ended: asyncio.Future[None]
    run(main, limit=120.0)


@FAMILIES
def test_both_directions_are_full_at_once(run: Run, family: str, tmp_path: Path) -> None:
    size = 16 << 20

    async def pump(reader: StreamReader, writer: StreamWriter, seed: int) -> tuple[bytes, bytes]:
        async def send() -> bytes:
            sent, block = hashlib.sha256(), random.Random(seed).randbytes(99_991)
            left = size
            while left:
                piece = block[: min(left, len(block))]
                sent.update(piece)
                writer.write(piece)
                await writer.drain()
                left -= len(piece)
            writer.write_eof()
            return sent.digest()

        async def receive() -> bytes:
            received = hashlib.sha256()
            while data := await reader.read(1 << 18):
                received.update(data)
            return received.digest()

        sent, received = await asyncio.gather(send(), receive())
        await end(writer)
        return sent, received

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        theirs.set_result(await pump(reader, writer, 1))

    async def main() -> None:
        nonlocal theirs
        theirs = asyncio.get_running_loop().create_future()
        server, connect = await serve(family, tmp_path, handler)
        reader, writer = await connect()
        sent, received = await pump(reader, writer, 2)
        assert (received, sent) == await theirs
        server.close()
        await server.wait_closed()

    theirs: asyncio.Future[tuple[bytes, bytes]]
    run(main, limit=120.0)


@FAMILIES
def test_a_hundred_conversations_at_once(run: Run, family: str, tmp_path: Path) -> None:
    """Each with its own words, so that nobody's data can pass for somebody else's."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line[::-1].strip() + b"\n")
        await end(writer)
        ended.append(None)

    async def talk(number: int, connect: Callable[[], Any]) -> None:
        reader, writer = await connect()
        words = random.Random(number)
        for count in range(30):
            line = b"%d/%d/" % (number, count) + b"x" * words.choice([0, 10, 5000]) + b"y"
            writer.write(line + b"\n")
            assert (await reader.readline()).strip() == line[::-1]
        await end(writer)

    async def main() -> None:
        server, connect = await serve(family, tmp_path, handler)
        await asyncio.gather(*[talk(number, connect) for number in range(100)])
        while len(ended) < 100:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    ended: list[None] = []
    run(main)


@FAMILIES
def test_a_thousand_connections_one_after_another(run: Run, family: str, tmp_path: Path) -> None:
    """Descriptor numbers are used again at once: none may inherit anything. And none is left, as everywhere."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        await end(writer)
        ended.append(None)

    async def main() -> None:
        server, connect = await serve(family, tmp_path, handler)
        for number in range(1000):
            reader, writer = await connect()
            writer.write(b"%04d" % number)
            assert await reader.read() == b"%04d" % number
            await end(writer)
        while len(ended) < 1000:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    ended: list[None] = []
    run(main)


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_however_reading_is_paused_resumed_and_handed_over(run: Run, kind: str, seed: int) -> None:
    """At random: pause and resume, at once or later, and another protocol, of either sort, in the midst."""
    size = 300_000

    async def main() -> None:
        chance, expected = random.Random(seed), random.Random(seed).randbytes(size)
        received = bytearray()

        class Whims(BufferedRecorder):
            def __init__(self) -> None:
                super().__init__()
                self.buffer = bytearray(chance.choice([1, 7, 100, 5000, 300_000]))

            def data_received(self, data: bytes) -> None:
                received.extend(data)
                changed.set()
                match chance.randrange(8):
                    case 0:
                        s.transport.pause_reading()
                        s.transport.resume_reading()
                    case 1:
                        s.transport.pause_reading()
                        asyncio.get_running_loop().call_soon(s.transport.resume_reading)
                    case 2:
                        s.transport.pause_reading()
                        asyncio.get_running_loop().call_later(0.0001, s.transport.resume_reading)
                    case 3:
                        hand_over()
                    case 4:
                        s.transport.pause_reading()
                        hand_over()
                        asyncio.get_running_loop().call_soon(s.transport.resume_reading)

        class Plain(Recorder):
            data_received = Whims.data_received

        def hand_over() -> None:
            former, s.protocol = s.protocol, chance.choice([Whims, Plain])()
            s.protocol.lost = former.lost
            s.transport.set_protocol(s.protocol)

        changed = asyncio.Event()
        async with stream(kind, Whims) as s:
            sending = asyncio.create_task(s.sends(expected))
            while len(received) < size:
                changed.clear()
                await changed.wait()
            await sending
            assert received == expected

    run(main)


def test_busy_connections_starve_nobody(run: Run, tmp_path: Path) -> None:
    """While some send as fast as they can, another gets its answers and timers come."""

    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        kind = await reader.readexactly(4)
        while data := await reader.read(1 << 18):
            if kind == b"echo":
                writer.write(data)
        await end(writer)
        ended.append(None)

    async def flood(connect: Callable[[], Any]) -> None:
        _, writer = await connect()
        writer.write(b"sink")
        while not enough.is_set():
            writer.write(bytes(1 << 18))
            await writer.drain()
        await end(writer)

    async def main() -> None:
        nonlocal enough
        enough = asyncio.Event()
        server, connect = await serve("tcp", tmp_path, handler)
        floods = [asyncio.create_task(flood(connect)) for _ in range(3)]
        reader, writer = await connect()
        writer.write(b"echo")
        for count in range(100):
            writer.write(b"%04d" % count)
            assert await reader.readexactly(4) == b"%04d" % count
            await asyncio.sleep(0.0001)
        await end(writer)
        enough.set()
        await asyncio.gather(*floods)
        while len(ended) < 4:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    enough: asyncio.Event
    ended: list[None] = []
    run(main)
