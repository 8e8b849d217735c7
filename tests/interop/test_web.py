"""Frameworks on our web server: Starlette, with httpx as the client; also over TLS and in several workers' way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from websockets.asyncio.client import connect

import wireway
from conftest import Run
from support.certificates import authority, localhost
from wireway.http import WebServer


def application(folder: Path) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"greeting": "hello"}

    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"greeting": request.state.greeting, "got": (await request.body()).decode()})

    async def stream(request: Request) -> StreamingResponse:
        async def numbers() -> AsyncIterator[str]:
            for number in range(1000):
                yield f"{number}\n"

        return StreamingResponse(numbers())

    async def fails(request: Request) -> PlainTextResponse:
        raise ZeroDivisionError

    async def talk(socket: Any) -> None:
        await socket.accept()
        await socket.send_json({"got": await socket.receive_text()})
        await socket.close()

    routes = [
        Route("/echo", echo, methods=["POST"]),
        Route("/stream", stream),
        Route("/fails", fails),
        WebSocketRoute("/talk", talk),
        Mount("/files", StaticFiles(directory=folder)),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


@pytest.mark.parametrize("secured", [False, True])
def test_starlette(run: Run, tmp_path: Path, secured: bool, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "large.bin").write_bytes(bytes(1_000_000))
    cert, key = localhost().write(tmp_path, "localhost")
    tls = wireway.Tls(cert=cert, key=key) if secured else None

    async def main() -> None:
        scheme = "tls" if secured else "tcp"
        app = application(tmp_path)
        async with WebServer(f"{scheme}://127.0.0.1:0", app, tls=tls, lifespan="on") as server:
            place = (
                server.addresses[0].partition("://")[2].replace("127.0.0.1", "localhost" if secured else "127.0.0.1")
            )
            context = authority().trust() if secured else None
            url = f"http{'s' if secured else ''}://{place}"
            async with httpx.AsyncClient(base_url=url, verify=context or False, trust_env=False) as client:
                got = await client.post("/echo", content="x" * 200_000)
                assert got.json() == {"greeting": "hello", "got": "x" * 200_000}
                assert (await client.get("/stream")).text.splitlines() == [str(number) for number in range(1000)]
                assert (await client.get("/fails")).status_code == 500
                assert (await client.get("/files/large.bin")).content == bytes(1_000_000)
                assert (await client.get("/none")).status_code == 404
            async with connect(f"ws{'s' if secured else ''}://{place}/talk", ssl=context, proxy=None) as socket:
                await socket.send("hi")
                assert await socket.recv() == '{"got":"hi"}'

    run(main())


def test_it_is_a_server_like_any_other(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def main() -> None:
        limits = wireway.Limits(connections=1)
        async with WebServer("tcp://127.0.0.1:0", app, limits=limits, lifespan="off") as server:
            url = server.addresses[0].replace("tcp", "http")
            async with httpx.AsyncClient(trust_env=False) as client, httpx.AsyncClient(trust_env=False) as other:
                assert (await client.get(url)).content == b"x"
                with pytest.raises(httpx.TransportError):
                    await other.get(url)
            assert server.stats.accepted == 2

    run(main())
