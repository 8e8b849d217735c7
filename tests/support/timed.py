"""Owns servers whose time is moved by hand, and peers that do not read: for tests of deadlines and slow consumers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from support.peers import Ends
from wireway import Connection, LengthPrefix, Server, SocketOptions
from wireway.testing import FakeClock

DAY = 86400.0
"""For `run(main, limit=DAY)`: its limit is on the loop's clock, which these tests move. SIGALRM does not follow it."""
SMALL = 16 * 1024
"""The size of the kernel's buffers where a peer is to be stuck soon."""


class Timed:
    """A running server, its ends, and the clock of its loop."""

    def __init__(self, server: Server, ends: Ends, clock: FakeClock) -> None:
        self.server, self.ends, self.clock = server, ends, clock

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the loop turn until something holds. The clock stands."""
        give_up = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < give_up, f"never came to hold, {self.server.stats}"
            await asyncio.sleep(0)

    async def opened(self, count: int = 1) -> list[Connection]:
        """The connections, once so many are open, in the order of their coming."""
        await self.until(lambda: self.server.stats.open == count)
        return sorted(self.server.connections, key=lambda conn: conn.id)

    async def lives(self, seconds: float, step: float = 0.05) -> None:
        """So much time goes by, and no connection ends."""
        before = self.server.stats.open
        await self.clock.advance(seconds, step=step)
        assert self.ends.all() == []
        assert self.server.stats.open == before

    async def code(self, seconds: float, step: float = 0.05) -> str:
        """So much time goes by; the code of the one connection that ends in it."""
        await self.clock.advance(seconds, step=step)
        (end,) = self.ends.all()
        return str(end.code)


@asynccontextmanager
async def timed(
    handler: Callable[[Connection, bytes], Any] | None = None,
    *,
    on_connect: Callable[[Connection], Any] | None = None,
    on_batch: Callable[[Connection, list[bytes]], Any] | None = None,
    **options: Any,
) -> AsyncIterator[Timed]:
    """A running server whose time stands still. It cuts by `LengthPrefix(4)` and echoes, unless told."""
    server = Server("tcp://127.0.0.1:0", **{"framing": LengthPrefix(4), "drain_timeout": 1} | options)
    if on_connect is not None:
        server.on_connect(on_connect)
    if on_batch is not None:
        server.on_batch(on_batch)
    elif handler is not None:
        server.on_message(handler)
    elif on_connect is None:
        server.on_message(lambda conn, message: conn.send_nowait(message) and None)
    ends = Ends(server)
    async with server:
        with FakeClock() as clock:
            yield Timed(server, ends, clock)


def narrow(**options: Any) -> dict[str, Any]:
    """The options of a server whose kernel holds little of what it sends."""
    return {"socket": SocketOptions(send_buffer=SMALL, user_timeout=None)} | options


async def fill(conn: Connection, piece: bytes = bytes(4096)) -> int:
    """Send until the peer's buffers and ours are full and more than the high mark waits; how often."""
    count = 0
    for _ in range(10):
        while conn.writable:
            conn.send_nowait(piece)
            count += 1
        await asyncio.sleep(0)
    return count


def whole(data: bytes, width: int = 4) -> list[bytes]:
    """The messages of a stream that must end with a whole one."""
    messages, place = list[bytes](), 0
    while place < len(data):
        end = place + width + int.from_bytes(data[place : place + width], "big")
        assert end <= len(data), f"a message of {end - place} bytes was cut after {len(data) - place}"
        messages.append(data[place + width : end])
        place = end
    return messages
