"""Owns what the tests of the chat share: where its servers are, a client of its JSON protocol, a server in a child."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import wireway

__all__ = ["ANYWHERE", "Program", "place", "program", "serving"]

ANYWHERE = "tcp://127.0.0.1:0"


def place(server: wireway.Server | None) -> tuple[str, int]:
    """Host and port."""
    assert server is not None
    host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
    return host, int(port)


class Program:
    """A client of the JSON protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, **command: Any) -> None:
        """A command."""
        self.send_bytes(json.dumps(command).encode())

    def send_bytes(self, data: bytes) -> None:
        """What may be no command."""
        self.writer.write(len(data).to_bytes(4, "big") + data)

    async def hear(self) -> dict[str, Any]:
        """The next event."""
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        event: dict[str, Any] = json.loads(await self.reader.readexactly(size))
        return event

    async def until(self, kind: str) -> dict[str, Any]:
        """The next event of a kind; the others are passed over."""
        while (event := await self.hear())["type"] != kind:
            pass
        return event

    async def close(self) -> None:
        """Go."""
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def program(server: wireway.Server | None) -> AsyncIterator[Program]:
    """A connected one, which has heard its welcome."""
    client = Program(*await asyncio.open_connection(*place(server)))
    try:
        await client.until("welcome")
        yield client
    finally:
        await client.close()


@contextmanager
def serving(*options: str) -> Iterator[tuple[str, tuple[str, int], tuple[str, int]]]:
    """`wireway serve chat` in a child: the URL of its page, and host and port of its lines and of its JSON."""
    command = [sys.executable, "-m", "wireway", "serve", "chat", "--port", "0", "--json-port", "0", "--web-port", "0"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "stop it" in line:
                break
        url = re.search(r"https?://\S+", said)
        lines, programs = (re.search(rf"{name} +t..://(\S+):(\d+)", said) for name in ("address", "programs"))
        assert url, said
        assert lines, said
        assert programs, said
        yield url[0], (lines[1], int(lines[2])), (programs[1], int(programs[2]))
    finally:
        process.terminate()
        process.communicate(timeout=30)
