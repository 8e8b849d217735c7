"""Workers are replaced under load: no request that was sent is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest

APP = """
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    size, more = 0, True
    while more:
        event = await receive()
        size += len(event["body"])
        more = event["more_body"]
    body = b"%d %d" % (os.getpid(), size)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
CLIENTS = 20


class Load:
    """Clients that keep their connections as long as the server does, and send the next request at once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered, self.lost, self.refused = 0, 0, 0
        self.served: set[bytes] = set()
        self.last: deque[bytes] = deque(maxlen=1000)
        """Who answered, of late."""
        self.stopped = False

    async def client(self, number: int) -> None:
        while not self.stopped:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                self.refused += 1
                continue
            try:
                while not self.stopped and await self.request(reader, writer, number):
                    pass
            finally:
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        """One request, every other one with a body that comes in two pieces. Returns whether another may follow."""
        try:
            if number % 2:
                writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
                await asyncio.sleep(0.002)
                writer.write(b"cd")
            else:
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost += 1
            return False
        assert head.startswith(b"HTTP/1.1 200"), head
        pid, size = body.split()
        assert int(size) == (4 if number % 2 else 0)
        self.served.add(pid)
        self.last.append(pid)
        self.answered += 1
        return b"connection: close" not in head


@pytest.mark.parametrize("workers", [2])
def test_no_request_is_lost(tmp_path: Path, workers: int) -> None:
    (tmp_path / "shop.py").write_text(APP)
    command = (sys.executable, "-m", "wireway", "serve", "web", "shop:app", "--port", "0", "--no-access-log")
    process = subprocess.Popen(
        [*command, "--workers", str(workers)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    port = 0
    for line in process.stdout:
        if line.startswith("  address"):
            port = int(line.rpartition(":")[2])
        if "stop it" in line:
            break

    async def main() -> Load:
        load = Load(port)
        clients = [asyncio.ensure_future(load.client(number)) for number in range(CLIENTS)]
        until = time.monotonic() + 60
        while len(load.served) < workers and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        first = set(load.served)
        process.send_signal(signal.SIGHUP)
        # Until the new ones have answered, and the old ones for a while not any more.
        while (len(load.served) < 2 * workers or first & set(load.last)) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        load.stopped = True
        await asyncio.gather(*clients)
        return load

    try:
        load = asyncio.run(main())
        assert len(load.served) == 2 * workers
        assert (load.lost, load.refused) == (0, 0), load.answered
        assert load.answered > 100
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    assert process.returncode == 0
