"""httpx through anyio, with anyio's own runner: `anyio.run(..., backend_options={"loop_factory": ...})`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import Certificates, LoopFactory
from .servers import need_package

anyio = need_package("anyio")
anyio_tls = need_package("anyio.streams.tls")
buffered = need_package("anyio.streams.buffered")
httpx = need_package("httpx")

Start = Callable[..., Any]


@pytest.fixture
def start(loop_factory: LoopFactory) -> Start:
    """Run an async function as an anyio program does, for 60 seconds at most."""

    def start(function: Callable[[], Any]) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(60):
                return await function()

        return anyio.run(bounded, backend="asyncio", backend_options={"loop_factory": loop_factory})

    return start


async def answer(stream: Any) -> None:
    """A small HTTP/1.1 server on anyio's own streams: it answers the body's size and digest, or hangs."""
    async with stream:
        reader = buffered.BufferedByteReceiveStream(stream)
        try:
            while True:
                head = (await reader.receive_until(b"\r\n\r\n", 65_536)).decode()
                if "/hang" in head:
                    await anyio.sleep_forever()
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.receive_exactly(int(fields.get("content-length", 0)))
                text = f"{len(body)} {hashlib.sha256(body).hexdigest()}"
                await stream.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode() + b"")
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.IncompleteRead, anyio.ClosedResourceError):
            return


@asynccontextmanager
async def serving(wrap: Callable[[Any], Any] = lambda listener: listener) -> AsyncIterator[int]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(wrap(listener).serve, answer)
        yield port
        group.cancel_scope.cancel()


def digest(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def test_three_hundred_requests_of_many_sizes(start: Start) -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=25)
        async with serving() as port, httpx.AsyncClient(limits=limits, timeout=30) as client:

            async def post(number: int) -> None:
                data = random.Random(number).randbytes(number * 600)
                response = await client.post(f"http://127.0.0.1:{port}/", content=data)
                assert response.text == digest(data)

            async with anyio.create_task_group() as group:
                for number in range(300):
                    group.start_soon(post, number)
            big = random.Random(0).randbytes(24 << 20)
            assert (await client.post(f"http://127.0.0.1:{port}/", content=big)).text == digest(big)

    start(main)


def test_timeouts_and_cancel_scopes_free_the_pool(start: Start) -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=5)
        async with serving() as port, httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(0.1, pool=30)) as client:

            async def read_timeout() -> None:
                with pytest.raises(httpx.ReadTimeout):
                    await client.get(f"http://127.0.0.1:{port}/hang")

            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(read_timeout)
            for _ in range(10):
                with anyio.move_on_after(0.02) as scope:
                    await client.get(f"http://127.0.0.1:{port}/hang", timeout=30)
                assert scope.cancelled_caught
            assert (await client.post(f"http://127.0.0.1:{port}/", content=b"ok", timeout=30)).text == digest(b"ok")

    start(main)


def test_tls_between_httpx_and_an_anyio_listener(start: Start, certificates: Certificates) -> None:
    server = certificates.server(require_client=True)

    async def main() -> None:
        def wrap(listener: Any) -> Any:
            return anyio_tls.TLSListener(listener, server, standard_compatible=False)

        async with serving(wrap) as port, httpx.AsyncClient(verify=certificates.client(), timeout=30) as client:

            async def post(number: int) -> None:
                data = random.Random(number).randbytes(50_000)
                assert (await client.post(f"https://localhost:{port}/", content=data)).text == digest(data)

            async with anyio.create_task_group() as group:
                for number in range(60):
                    group.start_soon(post, number)

    start(main)


def test_threads_processes_and_portals(start: Start) -> None:
    async def main() -> None:
        results: list[int] = []

        def work(number: int) -> None:
            anyio.from_thread.run_sync(results.append, number)
            anyio.from_thread.run(anyio.sleep, 0)

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(anyio.to_thread.run_sync, work, number)
        assert sorted(results) == list(range(100))
        done = await anyio.run_process(["sort", "-n"], input="".join(f"{n}\n" for n in range(9_999, -1, -1)).encode())
        assert done.stdout.split() == [str(n).encode() for n in range(10_000)]

    start(main)


def test_unix_streams_pass_descriptors_and_signals_arrive(start: Start, tmp_path: Path) -> None:
    async def main() -> None:
        listener = await anyio.create_unix_listener(tmp_path / "anyio.sock")
        secret = tmp_path / "secret"
        secret.write_text("through a descriptor")

        async def serve(stream: Any) -> None:
            async with stream:
                with secret.open() as file:
                    await stream.send_fds(b"take", [file])

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            for _ in range(50):
                async with await anyio.connect_unix(tmp_path / "anyio.sock") as stream:
                    message, descriptors = await stream.receive_fds(16, 1)
                    assert message == b"take"
                    with os.fdopen(descriptors[0]) as file:
                        assert file.read() == "through a descriptor"
            group.cancel_scope.cancel()

        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            for _ in range(20):
                os.kill(os.getpid(), signal.SIGUSR1)
                async for number in signals:
                    assert number == signal.SIGUSR1
                    break
        assert asyncio.get_running_loop().is_running()

    start(main)
