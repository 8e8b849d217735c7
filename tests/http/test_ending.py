"""The end of a server: who is still answered, who is told, and who is cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from conftest import Run
from support.talking import GET, peer, read_all, say, serving

PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


async def count(scope: Any, receive: Any, send: Any) -> None:
    await say(send, b"%d" % len(await read_all(receive)))


def test_a_request_whose_body_still_comes(run: Run) -> None:
    async def main() -> None:
        async with serving(count, lifespan="off") as (server, host, port), peer(host, port) as client:
            await client.send(PUT + b"ab")
            await until(lambda: bool(server.connections))
            closing = asyncio.ensure_future(server.close())
            await asyncio.sleep(0)
            await client.send(b"cd")
            _, fields, body = await client.answer()
            assert (fields[b"connection"], body) == (b"close", b"4")
            assert await client.rest() == b""
            await closing

    run(main)


async def until(true: Any) -> None:
    while not true():  # noqa: ASYNC110 - the server tells nobody of these
        await asyncio.sleep(0.001)


def test_a_request_that_is_on_its_way(run: Run) -> None:
    """The client could not know that the server ends: it is answered, with `Connection: close`."""

    async def main() -> None:
        async with serving(count, lifespan="off") as (server, host, port), peer(host, port) as client:
            await client.send(GET)
            assert (await client.answer())[1].get(b"connection") is None
            closing = asyncio.ensure_future(server.close())
            await asyncio.sleep(0)
            await client.send(GET + GET)
            assert (await client.answer())[1][b"connection"] == b"close"
            assert await client.rest() == b""
            await closing

    run(main)


def test_who_rests_is_closed_soon(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireway.http.asgi._GRACE", 0.05)

    async def main() -> None:
        async with serving(count, lifespan="off") as (server, host, port), peer(host, port) as client:
            await client.send(GET)
            await client.answer()
            await asyncio.wait_for(server.close(), 5)
            assert await client.rest() == b""
            [reason] = server.closed
            assert reason.why == "the server stops"

    run(main)


def test_what_never_ends_is_cut_off(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    cancelled: list[str] = []

    async def stays(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(scope["type"])
            raise

    async def main() -> None:
        async with (
            serving(stays, lifespan="off", drain_timeout=0.1) as (server, host, port),
            peer(host, port) as client,
            connect(f"ws://{host}:{port}/") as browser,
        ):
            await client.send(GET)
            await until(lambda: len(server.connections) == 2)
            await asyncio.wait_for(server.close(), 5)
            assert await client.rest() in (b"", b"<reset>")
            with pytest.raises(ConnectionClosed):
                await browser.recv()
            await until(lambda: len(cancelled) == 2)
        assert sorted(cancelled) == ["http", "websocket"]

    run(main)
    assert "the application failed" not in caplog.text


def test_a_websocket_is_told(run: Run) -> None:
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        heard.append(await receive())
        await asyncio.sleep(0.01)  # what it still has to do is waited for
        heard.append("done")

    async def main() -> None:
        async with serving(app, lifespan="off") as (server, host, port), connect(f"ws://{host}:{port}/") as browser:
            await server.close()
            assert heard == [{"type": "websocket.disconnect", "code": 1001, "reason": "the server stops"}, "done"]
            with pytest.raises(ConnectionClosed):
                await browser.recv()
            assert browser.close_code == 1001

    run(main)


def test_it_can_be_started_again(run: Run) -> None:
    async def main() -> None:
        async with serving(count, lifespan="off") as (server, host, port):
            for _ in range(2):
                async with peer(host, port) as client:
                    await client.send(GET)
                    _, fields, body = await client.answer()
                    assert (body, b"connection" in fields) == (b"0", False)
                await server.close()
                await server.start()
                host, _, text = server.addresses[0].partition("://")[2].rpartition(":")
                port = int(text)

    run(main)
