"""aiohttp, server and client on one loop: many requests, files by sendfile, uploads, WebSockets, TLS, Unix sockets."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import Certificates
from .servers import need_package

aiohttp = need_package("aiohttp")
web = need_package("aiohttp.web")

Run = Callable[..., Any]


class Application:
    """The handlers, and what they saw."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "file.bin"
        self.file.write_bytes(random.Random(5).randbytes(6 << 20))
        self.cancelled = 0
        self.waiting = asyncio.Semaphore(0)
        self.app = web.Application(client_max_size=64 << 20)
        self.app.add_routes(
            [
                web.post("/echo", self.echo),
                web.post("/digest", self.digest),
                web.get("/file", self.send_file),
                web.get("/lines", self.lines),
                web.get("/hang", self.hang),
                web.get("/ws", self.socket),
            ]
        )

    async def echo(self, request: Any) -> Any:
        return web.json_response(await request.json())

    async def digest(self, request: Any) -> Any:
        sha = hashlib.sha256()
        async for chunk in request.content.iter_any():
            sha.update(chunk)
        return web.Response(text=sha.hexdigest())

    async def send_file(self, request: Any) -> Any:
        return web.FileResponse(self.file)

    async def lines(self, request: Any) -> Any:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(2_000):
            await response.write(b"line %d\n" % number)
        await response.write_eof()
        return response

    async def hang(self, request: Any) -> Any:
        self.waiting.release()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            self.waiting.release()
            raise

    async def socket(self, request: Any) -> Any:
        socket = web.WebSocketResponse(max_msg_size=16 << 20)
        await socket.prepare(request)
        async for message in socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data[::-1])
            elif message.type == aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket


@asynccontextmanager
async def serving(folder: Path, **site: Any) -> AsyncIterator[tuple[Application, str]]:
    """Serve the application on loopback (or on `path`); yield it and its address."""
    application = Application(folder)
    runner = web.AppRunner(application.app, handler_cancellation=True)
    await runner.setup()
    try:
        if "path" in site:
            await web.UnixSite(runner, **site).start()
            yield application, "http://localhost"
        else:
            await web.TCPSite(runner, "127.0.0.1", 0, **site).start()
            scheme = "https" if "ssl_context" in site else "http"
            yield application, f"{scheme}://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def requests(client: Any, url: str, count: int) -> None:
    async def one(number: int) -> None:
        async with client.post(f"{url}/echo", json={"number": number, "pad": "p" * number * 5}) as response:
            assert await response.json() == {"number": number, "pad": "p" * number * 5}

    await asyncio.gather(*(one(number) for number in range(count)))


def test_eight_hundred_requests_and_chunked_uploads(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (_, url), aiohttp.ClientSession() as client:
            await requests(client, url, 800)

            async def upload(seed: int) -> None:
                data = random.Random(seed).randbytes(5 << 20)

                async def chunks() -> AsyncIterator[bytes]:
                    for start in range(0, len(data), 77_777):
                        yield data[start : start + 77_777]

                async with client.post(f"{url}/digest", data=chunks()) as response:
                    assert await response.text() == hashlib.sha256(data).hexdigest()

            await asyncio.gather(*(upload(seed) for seed in range(6)))
            async with client.get(f"{url}/lines") as response:
                assert [line async for line in response.content] == [b"line %d\n" % n for n in range(2_000)]

    run(main())


def test_files_through_sendfile_to_fast_and_slow_readers(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (application, url), aiohttp.ClientSession() as client:
            expected = application.file.read_bytes()

            async def get(piece: int) -> None:
                async with client.get(f"{url}/file") as response:
                    parts = []
                    async for part in response.content.iter_chunked(piece):
                        parts.append(part)
                        if piece < 100_000:
                            await asyncio.sleep(0)
                    assert b"".join(parts) == expected

            await asyncio.gather(*(get(piece) for piece in (1 << 20, 65_536, 30_000, 1 << 20)))
            headers = {"Range": "bytes=1000000-1999999"}
            async with client.get(f"{url}/file", headers=headers) as response:
                assert response.status == 206
                assert await response.read() == expected[1_000_000:2_000_000]

    run(main())


def test_a_client_that_gives_up_cancels_the_handler(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (application, url), aiohttp.ClientSession() as client:

            async def hang() -> None:
                async with client.get(f"{url}/hang"):
                    pass

            clients = [asyncio.create_task(hang()) for _ in range(30)]
            for _ in clients:  # each handler says when it begins, and when it is cancelled
                await application.waiting.acquire()
            for one in clients:
                one.cancel()
            for _ in clients:
                await application.waiting.acquire()
            assert application.cancelled == 30
            assert all(isinstance(end, asyncio.CancelledError) for end in await gather_all(clients))
            await requests(client, url, 50)

    run(main())


async def gather_all(tasks: list[asyncio.Task[None]]) -> list[BaseException | None]:
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_websockets_in_both_directions(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as (_, url), aiohttp.ClientSession() as client:

            async def talk(seed: int) -> None:
                async with client.ws_connect(f"{url}/ws", max_msg_size=16 << 20, compress=15 * (seed % 2)) as socket:
                    for number in range(50):
                        await socket.send_str(f"{seed}-{number}")
                    for number in range(50):
                        assert await socket.receive_str() == f"{seed}-{number}"[::-1]
                    data = random.Random(seed).randbytes(2 << 20)
                    await socket.send_bytes(data)
                    assert await socket.receive_bytes() == data

            await asyncio.gather(*(talk(seed) for seed in range(20)))

    run(main())


def test_https_with_a_client_certificate(run: Run, tmp_path: Path, certificates: Certificates) -> None:
    async def main() -> None:
        server = certificates.server(require_client=True)
        async with serving(tmp_path, ssl_context=server) as (application, url):
            connector = aiohttp.TCPConnector(ssl=certificates.client(), limit=20)
            async with aiohttp.ClientSession(connector=connector) as client:
                await requests(client, url, 200)
                async with client.get(f"{url}/file") as response:
                    assert await response.read() == application.file.read_bytes()
            connector = aiohttp.TCPConnector(ssl=certificates.client("none"))
            async with aiohttp.ClientSession(connector=connector) as stranger:
                with pytest.raises(aiohttp.ClientError):
                    await requests(stranger, url, 1)

    run(main())


def test_a_unix_socket_and_a_server_that_comes_back(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "http.sock")

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=path)) as client:
            for _ in range(3):
                async with serving(tmp_path, path=path) as (_, url):
                    await requests(client, url, 100)
                with pytest.raises(aiohttp.ClientError):
                    await requests(client, url, 1)

    run(main())
