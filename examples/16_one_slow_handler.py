"""One slow handler stalls everybody: how that looks, who did it, and two cures.

Shows ten peers who ask for something quick while one asks for something that blocks for half a second: how long the
slowest of the ten waits, and what the stall watch says. Then the same with `threads=`, and with `await`.
Try it: python examples/16_one_slow_handler.py
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import wireway

SECONDS = 0.5


def blocks(_conn: Any, line: bytes) -> bytes:
    """As a database driver would that knows nothing of asyncio."""
    if line == b"slow":
        time.sleep(SECONDS)
    return line


async def waits(conn: wireway.Connection, line: bytes) -> None:
    """As one would that does."""
    if line == b"slow":
        await asyncio.sleep(SECONDS)
    await conn.send(line)


async def slowest(how: str) -> tuple[float, list[wireway.Stall]]:
    """The longest wait of the ten, seconds; and the stalls that were seen."""
    server = wireway.Server("tcp://127.0.0.1:9000", framing=wireway.Lines(), stalls=wireway.Stalls(after=0.2))
    if how == "threads":
        server.on_message(threads=8)(blocks)
    else:
        server.on_message(waits if how == "await" else lambda conn, line: conn.send_nowait(blocks(conn, line)))

    async def ask(line: bytes) -> float:
        async with wireway.connect(server.addresses[0], framing=wireway.Lines()) as client:
            begun = time.monotonic()
            assert await client.request(line, deadline=10) == line
            return time.monotonic() - begun

    async with server:
        slow, *quick = await asyncio.gather(ask(b"slow"), *(ask(b"quick") for _ in range(10)))
        assert slow >= SECONDS
        await asyncio.sleep(0.05)  # let it tell
        return max(quick), list(server.stalls)


if __name__ == "__main__":
    logging.basicConfig(format="  %(name)s: %(message)s")
    for how in ("blocking", "threads", "await"):
        print(f"{how}: the slowest quick answer took {wireway.run(slowest(how))[0] * 1000:.0f} ms")
