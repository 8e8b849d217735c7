"""FastAPI and Django on our web server: uploads, streams, background tasks, files, WebSockets; clients that go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path as django_path
from fastapi import BackgroundTasks, FastAPI, File, Form, UploadFile, WebSocket
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel
from websockets.asyncio.client import connect

from conftest import Run
from support.talking import peer
from wireway.http import WebServer


class Item(BaseModel):
    name: str
    price: float


def shop(folder: Path, done: list[str]) -> FastAPI:
    app = FastAPI()

    @app.post("/items")
    async def create(item: Item, tasks: BackgroundTasks) -> dict[str, Any]:
        tasks.add_task(done.append, item.name)
        return {"name": item.name, "cents": round(item.price * 100)}

    @app.post("/upload")
    async def upload(file: Annotated[UploadFile, File()], title: Annotated[str, Form()]) -> dict[str, Any]:
        return {"title": title, "name": file.filename, "size": len(await file.read())}

    @app.get("/threads")
    def in_a_thread() -> dict[str, str]:
        return {"from": "a thread"}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def numbers() -> AsyncIterator[bytes]:
            for number in range(100):
                yield b"%d\n" % number
                await asyncio.sleep(0)

        return StreamingResponse(numbers())

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def zeros() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(100_000)
                    await asyncio.sleep(0)
            finally:
                done.append("the client has gone")

        return StreamingResponse(zeros())

    @app.get("/file")
    async def file() -> FileResponse:
        return FileResponse(folder / "large.bin")

    @app.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_json({"got": text})

    return app


def url_of(server: WebServer) -> str:
    return server.addresses[0].replace("tcp://", "http://")


def test_fastapi(run: Run, tmp_path: Path) -> None:
    large = bytes(range(256)) * 5000
    (tmp_path / "large.bin").write_bytes(large)
    done: list[str] = []

    async def main() -> None:
        async with (
            WebServer("tcp://127.0.0.1:0", shop(tmp_path, done), lifespan="on") as server,
            httpx.AsyncClient(base_url=url_of(server), trust_env=False) as client,
        ):
            made = await client.post("/items", json={"name": "pen", "price": 1.5})
            assert made.json() == {"name": "pen", "cents": 150}
            assert (await client.post("/items", json={"name": "pen"})).status_code == 422
            sent = await client.post("/upload", files={"file": ("日本.bin", large)}, data={"title": "a title"})
            assert sent.json() == {"title": "a title", "name": "日本.bin", "size": len(large)}
            assert (await client.get("/threads")).json() == {"from": "a thread"}
            assert (await client.get("/stream")).text.split() == [str(number) for number in range(100)]
            for _ in range(2):
                assert (await client.get("/file")).content == large
            part = await client.get("/file", headers={"range": "bytes=5-9"})
            assert (part.status_code, part.content) == (206, large[5:10])
            assert (await client.get("/openapi.json")).json()["paths"]
            async with connect(url_of(server).replace("http", "ws") + "/talk", proxy=None) as socket:
                await socket.send("hi")
                assert await socket.recv() == '{"got":"hi"}'
        assert done == ["pen"]

    run(main())


def test_a_client_that_goes_is_no_failure(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Frameworks make an error of their own of ours when the client has gone."""
    done: list[str] = []

    async def main() -> None:
        async with WebServer("tcp://127.0.0.1:0", shop(tmp_path, done)) as server:
            host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
            async with peer(host, int(port)) as client:
                await client.send(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
                await client.reader.readexactly(200_000)
                client.reset()
            while not done:  # noqa: ASYNC110 - the framework tells nobody
                await asyncio.sleep(0.001)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert not caplog.records


# --- Django -------------------------------------------------------------------------------------------------------


async def greet(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"path": request.path, "scheme": request.scheme, "who": request.GET.get("who")})


def form(request: HttpRequest) -> HttpResponse:
    """Of the synchronous kind: Django runs it in a thread."""
    uploaded = request.FILES["file"]
    return JsonResponse({"title": request.POST["title"], "size": uploaded.size})


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def numbers() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number}\n"

    return StreamingHttpResponse(numbers())


def fails(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


urlpatterns = [
    django_path("greet", greet),
    django_path("form", form),
    django_path("stream", stream),
    django_path("fails", fails),
]


def test_django(run: Run) -> None:
    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="a test", LOGGING_CONFIG=None, USE_TZ=True
        )
    app = get_asgi_application()

    async def main() -> None:
        async with (
            WebServer("tcp://127.0.0.1:0", app) as server,
            httpx.AsyncClient(base_url=url_of(server), trust_env=False) as client,
        ):
            got = await client.get("/greet", params={"who": "é"}, headers={"x-forwarded-proto": "https"})
            assert got.json() == {"path": "/greet", "scheme": "https", "who": "é"}
            sent = await client.post("/form", files={"file": bytes(3_000_000)}, data={"title": "a title"})
            assert sent.json() == {"title": "a title", "size": 3_000_000}
            assert (await client.get("/stream")).text.split() == [str(number) for number in range(100)]
            assert (await client.get("/fails")).status_code == 500
            assert (await client.get("/none")).status_code == 404
            assert (await client.head("/greet")).status_code == 200

    run(main())
