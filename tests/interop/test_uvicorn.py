"""uvicorn, started by its own command with `--loop`, serving Starlette and WebSockets to clients on the loop."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from .servers import need_package

httpx = need_package("httpx")
websockets = need_package("websockets.asyncio.client")
need_package("uvicorn")
need_package("starlette")

Run = Callable[..., Any]
HERE = Path(__file__).parent


class Server:
    """uvicorn as a child of the loop under test; its output is read as it comes."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._arrived = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._arrived:
                self.lines.append(line.decode().rstrip())
                self._arrived.notify_all()
        async with self._arrived:
            self._arrived.notify_all()

    async def wait_for(self, pattern: str, times: int = 1) -> str:
        """Wait until `times` lines match; return the last one."""
        async with self._arrived:
            while True:
                found = [line for line in self.lines if re.search(pattern, line)]
                if len(found) >= times:
                    return found[-1]
                assert not self._reading.done(), f"uvicorn ended:\n{self.log}"
                await self._arrived.wait()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    async def ended(self) -> int:
        await self._reading
        return await self.process.wait()


@pytest.fixture
def serving(uvicorn_loop: tuple[list[str], dict[str, str]]) -> Callable[..., Any]:
    @contextlib.asynccontextmanager
    async def serving(*options: str) -> AsyncIterator[tuple[Server, str]]:
        loop_options, environment = uvicorn_loop
        command = ["-m", "uvicorn", "--app-dir", str(HERE), "uvicorn_app:app", "--host", "127.0.0.1", "--port", "0"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command, *loop_options, *options),
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )
        server = Server(process)
        try:
            line = await server.wait_for("Uvicorn running on")
            await server.wait_for("startup complete")
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found
            yield server, found[0]
            if process.returncode is None:
                process.terminate()
            assert await server.ended() in (0, -signal.SIGTERM), server.log
            assert "Traceback" not in server.log, server.log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await server.ended()

    return serving


def test_three_hundred_requests_and_big_bodies(run: Run, serving: Any, backend: str) -> None:
    async def main() -> None:
        limits = httpx.Limits(max_connections=40)
        async with serving() as (_, url), httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as client:

            async def post(number: int) -> None:
                answer = (await client.post("/echo", json={"number": number, "pad": "é" * (number * 7)})).json()
                assert answer["body"] == {"number": number, "pad": "é" * (number * 7)}

            await asyncio.gather(*(post(number) for number in range(300)))

            async def upload(seed: int) -> None:
                data = random.Random(seed).randbytes(4 << 20)

                async def chunks() -> AsyncIterator[bytes]:
                    for start in range(0, len(data), 50_000):
                        yield data[start : start + 50_000]

                answer = (await client.post("/digest", content=chunks())).json()
                assert answer == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

            async def download() -> None:
                body = (await client.get("/download/64")).content
                assert body == b"".join(number.to_bytes(4, "big") * 16_384 for number in range(64))

            await asyncio.gather(*(upload(seed) for seed in range(4)), *(download() for _ in range(4)))
            assert [(await client.get("/blocking")).text for _ in range(50)] == ["from a thread"] * 50
            loop = (await client.get("/counters")).json()["loop"]
            assert loop.startswith(backend if backend in ("asyncio", "uvloop") else "wireway")

    run(main())


def test_clients_that_leave_in_the_middle_of_a_response(run: Run, serving: Any) -> None:
    async def main() -> None:
        async with serving() as (_, url), httpx.AsyncClient(base_url=url, timeout=30) as client:

            async def leave() -> None:
                async with client.stream("GET", "/endless") as response:
                    count = 0
                    async for chunk in response.aiter_bytes():
                        count += len(chunk)
                        if count > 1 << 20:
                            return

            await asyncio.gather(*(leave() for _ in range(30)))
            while (counters := (await client.get("/counters")).json())["streams_cut"] < 30:
                pass  # each turn is a request of its own; the server notices each departure
            assert counters["streams_open"] == 30

    run(main())


def test_websockets_echo_text_and_megabytes(run: Run, serving: Any) -> None:
    async def main() -> None:
        async with serving("--ws-max-size", str(8 << 20)) as (_, url):
            address = url.replace("http", "ws") + "/ws"

            async def talk(seed: int) -> None:
                async with websockets.connect(address, max_size=8 << 20) as socket:
                    for number in range(40):
                        await socket.send(f"hello {seed} {number}")
                        assert await socket.recv() == f"HELLO {seed} {number}"
                    data = random.Random(seed).randbytes(1 << 20)
                    await socket.send(data)
                    assert await socket.recv() == data

            await asyncio.gather(*(talk(seed) for seed in range(25)))

    run(main())


def test_sigterm_lets_the_request_in_flight_end(run: Run, serving: Any) -> None:
    async def main() -> None:
        async with serving() as (server, url), httpx.AsyncClient(base_url=url, timeout=30) as client:
            requests = [asyncio.create_task(client.get("/slow")) for _ in range(10)]
            await server.wait_for("slow: begun", times=10)
            server.process.send_signal(signal.SIGTERM)
            assert [(await request).text for request in requests] == ["done"] * 10
            await server.ended()
            assert "lifespan: down" in server.log
            with pytest.raises(httpx.ConnectError):
                await client.get("/counters")

    run(main())


def test_two_worker_processes_share_the_port(run: Run, serving: Any) -> None:
    async def main() -> None:
        async with serving("--workers", "2") as (server, url):
            await server.wait_for("startup complete", times=2)
            limits = httpx.Limits(max_keepalive_connections=0)
            async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as client:
                answers = await asyncio.gather(*(client.post("/echo", json=number) for number in range(200)))
                assert [answer.json()["body"] for answer in answers] == list(range(200))

    run(main())
