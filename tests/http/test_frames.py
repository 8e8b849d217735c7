"""WebSocket by the byte: what the Autobahn suite looks at, from a client that writes its own frames."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from conftest import Run
from support.talking import Peer, peer, serving
from wireway.http import HttpOptions

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
Frame = tuple[int, bool, bytes]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """One frame, as a client sends it."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    mark = 0x80 if masked else 0
    if len(data) < 126:
        head = struct.pack("!BB", first, mark | len(data))
    elif len(data) < 1 << 16:
        head = struct.pack("!BBH", first, mark | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, mark | 127, len(data))
    mask = b"\x01\x02\x03\x04"
    if not masked:
        return head + data
    return head + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(data))


async def hear(client: Peer) -> Frame:
    """The next frame of the server: opcode, whether it is the last of its message, data."""
    first, second = await client.reader.readexactly(2)
    assert not second & 0x80, "a server does not mask"
    length = second & 0x7F
    if length >= 126:
        length = int.from_bytes(await client.reader.readexactly(2 if length == 126 else 8), "big")
    return first & 0x0F, bool(first & 0x80), await client.reader.readexactly(length)


@asynccontextmanager
async def talking(app: Any = echo, **options: Any) -> AsyncIterator[Peer]:
    """A client that has shaken hands."""
    async with (
        serving(app, lifespan="off", http=HttpOptions(**options)) as (_, host, port),
        peer(host, port) as client,
    ):
        await client.send(HANDSHAKE)
        assert (await client.answer())[0] == 101
        yield client


def text(data: bytes) -> Frame:
    return TEXT, True, data


GOOD: dict[str, tuple[list[bytes], list[Frame]]] = {
    "lengths": (
        [frame(BINARY, bytes(size)) for size in (0, 1, 125, 126, 127, 65535, 65536, 100_000)],
        [(BINARY, True, bytes(size)) for size in (0, 1, 125, 126, 127, 65535, 65536, 100_000)],
    ),
    "fragments": (
        [frame(TEXT, b"a", fin=False), frame(CONT, b"", fin=False), frame(CONT, b"b", fin=False), frame(CONT, b"c")],
        [text(b"abc")],
    ),
    "control frames between fragments": (
        [
            *(frame(TEXT, b"a", fin=False), frame(PING, b"1"), frame(CONT, b"b", fin=False)),
            *(frame(PONG, b"unasked"), frame(PING, b"2"), frame(CONT, b"c")),
        ],
        [(PONG, True, b"1"), (PONG, True, b"2"), text(b"abc")],
    ),
    "a character over two fragments": (
        [
            frame(TEXT, "é日".encode()[:1], fin=False),
            frame(CONT, "é日".encode()[1:4], fin=False),
            frame(CONT, "é日".encode()[4:]),
        ],
        [text("é日".encode())],
    ),
    "ping of 125 bytes": ([frame(PING, bytes(125)), frame(PING)], [(PONG, True, bytes(125)), (PONG, True, b"")]),
    "pong unasked": ([frame(PONG, b"x"), frame(TEXT, b"a")], [text(b"a")]),
    "noncharacters": ([frame(TEXT, "\uffff\U0010ffff\0".encode())], [text("\uffff\U0010ffff\0".encode())]),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("step", [1_000_000, 1])
def test_what_is_right(run: Run, name: str, step: int) -> None:
    sent, expected = GOOD[name]

    async def main() -> None:
        async with talking(compression=False) as client:
            data = b"".join(sent)
            if step == 1 and len(data) > 1000:
                data, told = sent[0] + sent[2], [expected[0], expected[2]]
            else:
                told = expected
            await client.send(*(data[at : at + step] for at in range(0, len(data), step)))
            assert [await hear(client) for _ in told] == told

    run(main)


BAD: dict[str, tuple[int, bytes]] = {
    "reserved bit 1": (1002, frame(TEXT, b"a", reserved=4)),  # no compression was agreed on
    "reserved bit 2": (1002, frame(TEXT, b"a", reserved=2)),
    "reserved bit 3": (1002, frame(PING, b"", reserved=1)),
    **{f"opcode {opcode}": (1002, frame(opcode, b"a")) for opcode in (3, 7, 11, 15)},
    "not masked": (1002, frame(TEXT, b"a", masked=False)),
    "ping too long": (1002, frame(PING, bytes(126))),
    "ping in fragments": (1002, frame(PING, b"a", fin=False)),
    "continuation of nothing": (1002, frame(CONT, b"a")),
    "message in a message": (1002, frame(TEXT, b"a", fin=False) + frame(TEXT, b"b")),
    "no UTF-8": (1007, frame(TEXT, b"\xff")),
    "half a character": (1007, frame(TEXT, b"\xe6\x97")),
    "a surrogate": (1007, frame(TEXT, b"\xed\xa0\x80")),
    "longer than need be": (1007, frame(TEXT, b"\xc0\xaf")),
    "beyond Unicode": (1007, frame(TEXT, b"\xf4\x90\x80\x80")),
    "no UTF-8, seen before the end": (1007, frame(TEXT, b"a\xff", fin=False)),
    "no UTF-8 over two fragments": (1007, frame(TEXT, b"\xe6", fin=False) + frame(CONT, b"a", fin=False)),
    "too large": (1009, frame(BINARY, bytes(2001))),
    "too large together": (1009, frame(BINARY, bytes(1500), fin=False) + frame(CONT, bytes(1500))),
    "too large, by its length": (1009, frame(BINARY, bytes(70_000))[:20]),
    "close of one byte": (1002, frame(CLOSE, b"\x03")),
    "close with no UTF-8": (1007, frame(CLOSE, b"\x03\xe8\xff")),
    "close too long": (1002, frame(CLOSE, b"\x03\xe8" + bytes(124))),
    **{
        f"close {code}": (1002, frame(CLOSE, struct.pack("!H", code)))
        for code in (0, 999, 1004, 1005, 1006, 1015, 5000)
    },
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong(run: Run, name: str) -> None:
    """It is closed with the code that says why; the application hears of it, and nothing that came after."""
    code, data = BAD[name]
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while not heard or heard[-1]["type"] != "websocket.disconnect":
            heard.append(await receive())

    async def main() -> None:
        async with talking(app, message_size=2000, compression=False) as client:
            await client.send(data + (frame(TEXT, b"after") if data[0] & 0x80 else b""))
            opcode, _, said = await hear(client)
            assert (opcode, int.from_bytes(said[:2], "big")) == (CLOSE, code)
            assert await client.rest() in (b"", b"<reset>")
        assert [event["type"] for event in heard] == ["websocket.disconnect"]
        assert heard[0]["code"] == code

    run(main)


@pytest.mark.parametrize(
    ("data", "answer", "code", "reason"),
    [
        (b"", b"", 1005, ""),
        (b"\x03\xe8", b"\x03\xe8", 1000, ""),
        (b"\x0f\xa0bye", b"\x0f\xa0bye", 4000, "bye"),
        (b"\x03\xe9" + "é".encode(), b"\x03\xe9" + "é".encode(), 1001, "é"),
    ],
)
def test_the_client_closes(run: Run, data: bytes, answer: bytes, code: int, reason: str) -> None:
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        heard.extend([await receive(), await receive(), await receive()])
        with pytest.raises(OSError, match="closed"):
            await send({"type": "websocket.send", "text": "late"})
        await send({"type": "websocket.close"})  # says nothing any more

    async def main() -> None:
        async with talking(app) as client:
            await client.send(frame(TEXT, b"last") + frame(CLOSE, data) + frame(TEXT, b"after"))
            assert await hear(client) == (CLOSE, True, answer)
            assert await client.rest() in (b"", b"<reset>")
        end = {"type": "websocket.disconnect", "code": code, "reason": reason}
        assert heard == [{"type": "websocket.receive", "text": "last"}, end, end]

    run(main)


def test_a_client_that_does_not_answer_our_close(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireway.http.websocket._FAREWELL", 0.05)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    async def main() -> None:
        async with talking(app) as client:
            assert await hear(client) == (CLOSE, True, b"\x03\xe8")
            assert await client.rest() == b""

    run(main)


def test_an_application_that_never_listens(run: Run) -> None:
    """Its pings are answered, and it is not taken for dead; who says too much to it waits."""

    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            for number in range(10):
                await asyncio.sleep(0.03)
                await send({"type": "websocket.send", "text": str(number)})

        async with (
            serving(app, lifespan="off", http=HttpOptions(ping=0.04)) as (_, host, port),
            connect(f"ws://{host}:{port}/") as client,
        ):
            await (await client.ping())
            assert [await client.recv() for _ in range(10)] == [str(number) for number in range(10)]
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1000
        async with talking(app, ping=None) as flood:
            flood.writer.write(frame(BINARY, bytes(100_000)) * 200)
            for number in range(10):
                assert await hear(flood) == text(str(number).encode())

    run(main)


def test_messages_wait_and_then_reading_stops(run: Run) -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await gate.wait()
            count = 0
            while (await receive())["type"] == "websocket.receive":
                count += 1
                if count == 300:
                    await send({"type": "websocket.send", "text": "all"})

        async with (
            serving(app, lifespan="off", http=HttpOptions(ping=0.02)) as (server, host, port),
            peer(host, port) as client,
        ):
            await client.send(HANDSHAKE)
            assert (await client.answer())[0] == 101
            client.writer.write(frame(BINARY, bytes(100_000)) * 300)
            await asyncio.sleep(0.1)  # several pings, none of which is heard
            [conn] = server.connections
            assert conn.stats["bytes_in"] < 25_000_000
            gate.set()
            while (heard := await hear(client))[0] == PING:
                pass
            assert heard == text(b"all")

    run(main)


def test_frames_before_the_handshake_is_answered(run: Run) -> None:
    """Nothing is said before the answer, not even a pong."""

    async def main() -> None:
        gate = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            hearing = asyncio.ensure_future(receive())
            await gate.wait()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": (await hearing)["text"]})

        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(HANDSHAKE, frame(PING, b"early"), frame(TEXT, b"hi"))
            gate.set()
            assert (await client.answer())[0] == 101
            assert [await hear(client) for _ in range(2)] == [(PONG, True, b"early"), text(b"hi")]

    run(main)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Content-Length: 2\r\n\r\n\x81\x80", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 400),  # two of them
    ],
)
def test_a_handshake_that_means_two_things(run: Run, fields: bytes, status: int) -> None:
    async def main() -> None:
        async with serving(echo, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(HANDSHAKE.removesuffix(b"\r\n") + fields)
            assert (await client.answer())[0] == status
            assert await client.rest() == b""

    run(main)


@pytest.mark.parametrize(
    "event",
    [
        {"text": None, "bytes": None},
        {},
        {"text": "a", "bytes": b"a"},
    ],
)
def test_neither_text_nor_bytes_or_both(run: Run, event: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": None, "bytes": b"right"})
        await send({"type": "websocket.send", **event})

    async def main() -> None:
        async with talking(app) as client:
            assert await hear(client) == (BINARY, True, b"right")
            opcode, _, said = await hear(client)
            assert (opcode, int.from_bytes(said[:2], "big")) == (CLOSE, 1011)

    run(main)
    assert "either text or bytes" in caplog.text


@pytest.mark.parametrize("how", ["name", "value", "subprotocol"])
def test_nothing_of_the_application_becomes_a_field_of_the_handshake(
    run: Run, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        wrong = b"a\r\nset-cookie: b"
        headers = {"name": [(wrong, b"")], "value": [(b"x", wrong)], "subprotocol": []}[how]
        protocol = wrong.decode() if how == "subprotocol" else None
        await send({"type": "websocket.accept", "headers": headers, "subprotocol": protocol})

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(HANDSHAKE)
            status, fields, _ = await client.answer()
            assert status == 500
            assert b"set-cookie" not in fields

    run(main)


def test_compression_is_agreed_on_only_if_it_is_wanted(run: Run) -> None:
    async def main() -> None:
        for wanted in (True, False):
            async with (
                serving(echo, lifespan="off", http=HttpOptions(compression=wanted, message_size=100_000)) as (
                    _,
                    host,
                    port,
                ),
                connect(f"ws://{host}:{port}/") as client,
            ):
                assert client.response is not None
                assert ("Sec-WebSocket-Extensions" in client.response.headers) == wanted
                await client.send("x" * 90_000)
                assert await client.recv() == "x" * 90_000
                await client.send("x" * 200_000)  # small on its way, and large when it is unpacked
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1009

    run(main)
