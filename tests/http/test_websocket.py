"""WebSockets, with the client of the `websockets` library on the other side."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from conftest import Run
from support.talking import peer, serving
from wireway.http import HttpOptions

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive()) == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


def test_messages_go_and_come(run: Run) -> None:
    async def main() -> None:
        async with serving(echo, lifespan="off") as (_, host, port):
            for compression in ("deflate", None):
                async with connect(f"ws://{host}:{port}/", compression=compression, max_size=None) as client:
                    for message in ("text", "日本", b"bytes", "", b"", "x" * 300_000, bytes(300_000)):
                        await client.send(message)
                        assert await client.recv() == message
                    await client.send(["a", "b", "c"])  # in fragments
                    assert await client.recv() == "abc"
                    await (await client.ping())

    run(main)


def test_the_scope_and_what_is_agreed(run: Run) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append({**scope})
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-own", b"1")]})

    async def main() -> None:
        async with (
            serving(app, lifespan="off") as (_, host, port),
            connect(f"ws://{host}:{port}/a?b", subprotocols=["a", "b"]) as client,  # type: ignore[list-item]
        ):
            assert client.subprotocol == "b"
            assert client.response is not None
            assert client.response.headers["x-own"] == "1"
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1000
        [scope] = seen
        assert (scope["type"], scope["scheme"], scope["path"], scope["query_string"]) == ("websocket", "ws", "/a", b"b")
        assert scope["subprotocols"] == ["a", "b"]
        assert "websocket.http.response" in scope["extensions"]
        assert "method" not in scope

    run(main)


@pytest.mark.parametrize(("how", "status"), [("close", 403), ("response", 404), ("raise", 500), ("return", 500)])
def test_a_handshake_that_is_refused(run: Run, how: str, status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if how == "close":
            await send({"type": "websocket.close"})
            assert (await receive())["type"] == "websocket.disconnect"
        elif how == "response":
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "websocket.http.response.start", "status": 404, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": b"not "})
        elif how == "raise":
            raise ZeroDivisionError

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"ws://{host}:{port}/"):
                    pass
            assert refused.value.response.status_code == status

    logging.getLogger("wireway.http").setLevel(logging.CRITICAL)
    try:
        run(main)
    finally:
        logging.getLogger("wireway.http").setLevel(logging.NOTSET)


def test_what_is_no_handshake(run: Run) -> None:
    async def main() -> None:
        async with serving(echo, lifespan="off") as (_, host, port):
            for version, key, status in (("13", "short", 400), ("8", "dGhlIHNhbXBsZSBub25jZQ==", 426)):
                async with peer(host, port) as client:
                    await client.send(
                        f"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        f"Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
                    )
                    assert (await client.answer())[0] in (status, 400)
                    assert await client.rest() == b""

    run(main)


def test_who_closes_and_why(run: Run) -> None:
    async def main() -> None:
        told: asyncio.Queue[Any] = asyncio.Queue()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            if scope["path"] == "/server":
                await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
            event = await receive()
            told.put_nowait(event)

        async with serving(app, lifespan="off") as (server, host, port):
            async with connect(f"ws://{host}:{port}/client") as client:
                await client.close(4000, "bye")
            assert await told.get() == {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}
            async with connect(f"ws://{host}:{port}/server") as client:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert (client.close_code, client.close_reason) == (4001, "enough")
            assert (await told.get())["code"] == 4001
            lost = await connect(f"ws://{host}:{port}/client")
            lost.transport.abort()
            assert (await told.get())["code"] == 1006
            await lost.wait_closed()
        assert server.stats.open == 0

    run(main)


def test_a_message_that_is_too_large(run: Run) -> None:
    async def main() -> None:
        small = HttpOptions(message_size=1000)
        async with (
            serving(echo, lifespan="off", http=small) as (_, host, port),
            connect(f"ws://{host}:{port}/") as client,
        ):
            await client.send("x" * 1000)
            assert await client.recv() == "x" * 1000
            await client.send("y" * 1001)
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1009

    run(main)


def test_an_application_that_fails(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise ZeroDivisionError

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), connect(f"ws://{host}:{port}/") as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1011

    with caplog.at_level(logging.ERROR, "wireway.http"):
        run(main)
    assert "ZeroDivisionError" in caplog.text


def test_a_peer_that_answers_no_ping_is_gone(run: Run) -> None:
    async def main() -> None:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            told.set_result(await receive())

        hasty = HttpOptions(ping=0.05)
        async with serving(app, lifespan="off", http=hasty) as (_, host, port), peer(host, port) as client:
            await client.send(HANDSHAKE)
            status, fields, _ = await client.answer()
            assert (status, fields[b"sec-websocket-accept"]) == (101, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            assert (await told)["code"] == 1006
            assert (await client.rest()).startswith(b"\x89\x00")

    run(main)


def test_frames_that_came_with_the_handshake(run: Run) -> None:
    async def main() -> None:
        async with serving(echo, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(HANDSHAKE + b"\x81\x82\0\0\0\0hi")
            assert (await client.answer())[0] == 101
            assert await client.reader.readexactly(4) == b"\x81\x02hi"

    run(main)
