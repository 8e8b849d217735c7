"""What a server's handler is given: every message, whole, once and in order, however the stream was cut on its way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conftest import Run
from support.peers import Ends, connected, frame
from wireway import Connection, Framing, LengthPrefix, Raw, Server

ANYWHERE = "tcp://127.0.0.1:0"
MIB = 1 << 20


def echo(framing: Framing, style: str) -> Server:
    """A server that sends back what comes, by one of the three sorts of handler."""
    server = Server(ANYWHERE, framing=framing)
    if style == "function":

        @server.on_message
        def answer(conn: Connection, message: bytes) -> None:
            assert type(message) is bytes
            conn.send_nowait(message)

    elif style == "coroutine":

        @server.on_message
        async def answer_and_wait(conn: Connection, message: bytes) -> None:
            assert type(message) is bytes
            await conn.send(message)

    else:

        @server.on_batch
        def answer_all(conn: Connection, messages: list[bytes]) -> None:
            assert type(messages) is list
            assert messages
            for message in messages:
                assert type(message) is bytes
                conn.send_nowait(message)

    return server


@pytest.fixture(params=["function", "coroutine", "batch"])
def style(request: pytest.FixtureRequest) -> str:
    """The sorts of handler."""
    return str(request.param)


@pytest.fixture(params=[(4, "big"), (2, "little"), (1, "big"), (3, "little"), (8, "big")], ids=str)
def prefix(request: pytest.FixtureRequest) -> tuple[int, Any]:
    """Width and byte order of the length."""
    width, byteorder = request.param
    return width, byteorder


def test_frames_come_back_however_they_are_cut(run: Run, style: str, prefix: tuple[int, Any]) -> None:
    width, byteorder = prefix
    stream = b"".join(frame(message, width, byteorder) for message in (b"one", b"", b"\0" * 9, b"four"))

    async def main() -> None:
        async with echo(LengthPrefix(width, byteorder=byteorder), style) as server:
            for cut in range(1, len(stream)):
                async with connected(server) as peer:
                    await peer.send(stream[:cut])
                    # What is whole comes back at once; that it did shows that the first piece was read alone.
                    whole = whole_frames(stream[:cut], width, byteorder)
                    assert await peer.receive(whole) == stream[:whole]
                    await peer.send(stream[cut:])
                    assert await peer.receive(len(stream) - whole) == stream[whole:]

    run(main)


def whole_frames(stream: bytes, width: int, byteorder: Any) -> int:
    """The bytes of `stream` that are whole frames."""
    end = 0
    while (body := end + width) <= len(stream):
        after = body + int.from_bytes(stream[end:body], byteorder)
        if after > len(stream):
            break
        end = after
    return end


def test_frames_come_back_byte_by_byte(run: Run, style: str, prefix: tuple[int, Any]) -> None:
    width, byteorder = prefix
    stream = b"".join(frame(message, width, byteorder) for message in (b"", b"ab", b"", b"", b"c"))

    async def main() -> None:
        async with echo(LengthPrefix(width, byteorder=byteorder), style) as server, connected(server) as peer:
            for index in range(len(stream)):
                await peer.send(stream[index : index + 1])
            peer.finish()
            assert await peer.rest() == stream

    run(main)


def test_many_frames_in_one_piece_keep_their_order(run: Run, style: str) -> None:
    stream = b"".join(frame(b"%d" % number) for number in range(5000))

    async def main() -> None:
        async with echo(LengthPrefix(4), style) as server, connected(server) as peer:
            _, answer = await asyncio.gather(peer.send(stream), peer.receive(len(stream)))
            assert answer == stream
            assert server.stats.messages_in == 5000

    run(main)


def test_frames_of_a_mebibyte(run: Run, style: str) -> None:
    first, second = bytes(range(256)) * (MIB // 256), b"\xff" * MIB
    stream = frame(first) + frame(b"") + frame(second)

    async def main() -> None:
        async with echo(LengthPrefix(4), style) as server, connected(server) as peer:
            _, answer = await asyncio.gather(peer.send(stream), peer.receive(len(stream)))
            assert answer == stream

    run(main)


def test_a_peer_that_finished_still_gets_every_answer(run: Run, style: str) -> None:
    stream = b"".join(frame(b"%d" % number * 500) for number in range(300))

    async def main() -> None:
        server = echo(LengthPrefix(4), style)
        ends = Ends(server)
        async with server, connected(server) as peer:
            await peer.send(stream)
            peer.finish()  # the answers are more than the server may queue: most are still to be made
            assert await peer.rest() == stream
            assert (await ends.next()).code == "peer-closed"

    run(main)


def test_raw_hands_over_what_came(run: Run, style: str) -> None:
    async def main() -> None:
        async with echo(Raw(), style) as server, connected(server) as peer:
            for data in (b"x", b"\0" * 3, bytes(range(256)) * 4096):
                _, answer = await asyncio.gather(peer.send(data), peer.receive(len(data)))
                assert answer == data

    run(main)


def test_raw_messages_are_never_empty_nor_above_256_kib(run: Run) -> None:
    sizes: list[int] = []

    async def main() -> None:
        server = Server(ANYWHERE)
        server.on_message(lambda _conn, message: sizes.append(len(message)))
        ends = Ends(server)
        async with server, connected(server) as peer:
            await peer.send(b"x" * (4 * MIB))
            peer.finish()
            assert await peer.rest() == b""
            assert (await ends.next()).code == "peer-closed"

    run(main)
    assert sum(sizes) == 4 * MIB
    assert 0 < min(sizes) <= max(sizes) <= 256 * 1024


def test_a_batch_is_all_that_came_at_once(run: Run) -> None:
    async def main() -> None:
        batches: asyncio.Queue[list[bytes]] = asyncio.Queue()
        server = Server(ANYWHERE, framing=LengthPrefix(2))
        server.on_batch(lambda _conn, messages: batches.put_nowait(messages))
        async with server, connected(server) as peer:
            await peer.send(frame(b"one", 2) + frame(b"", 2) + frame(b"three", 2) + frame(b"four", 2)[:-1])
            assert await batches.get() == [b"one", b"", b"three"]
            await peer.send(b"r")
            assert await batches.get() == [b"four"]

    run(main)
