"""The Starlette application that `test_uvicorn.py` serves through uvicorn's own command."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

state = {"streams_open": 0, "streams_cut": 0}


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    print("lifespan: up", flush=True)
    yield
    print("lifespan: down", flush=True)


async def echo(request: Request) -> Response:
    return JSONResponse({"method": request.method, "path": request.url.path, "body": await request.json()})


async def digest(request: Request) -> Response:
    total, sha = 0, hashlib.sha256()
    async for chunk in request.stream():
        total += len(chunk)
        sha.update(chunk)
    return JSONResponse({"bytes": total, "sha256": sha.hexdigest()})


async def download(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        for number in range(int(request.path_params["chunks"])):
            yield number.to_bytes(4, "big") * 16_384

    return StreamingResponse(body())


async def endless(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        state["streams_open"] += 1
        try:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)
        finally:
            state["streams_cut"] += 1

    return StreamingResponse(body())


async def slow(request: Request) -> Response:
    print("slow: begun", flush=True)
    await asyncio.sleep(0.5)  # the work of a request, which a shutdown must let end
    return PlainTextResponse("done")


async def blocking(request: Request) -> Response:
    return PlainTextResponse(await asyncio.to_thread(lambda: "from a thread"))


async def counters(request: Request) -> Response:
    return JSONResponse({**state, "loop": type(asyncio.get_running_loop()).__module__})


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") is not None:
                await websocket.send_text(message["text"].upper())
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect:
        return


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/echo", echo, methods=["POST"]),
        Route("/digest", digest, methods=["POST"]),
        Route("/download/{chunks:int}", download),
        Route("/endless", endless),
        Route("/slow", slow),
        Route("/blocking", blocking),
        Route("/counters", counters),
        WebSocketRoute("/ws", socket),
    ],
)
