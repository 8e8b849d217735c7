"""An echo server that also tells what its own turns cost, for `benchmarks/waits.py`: lines, on any back end.

A line `turns N` is answered with the microseconds of each of N turns of the loop in which nothing happens; any other
line comes back. Prints ``ready``, its port and its process once it listens; SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time

import wireway


async def turned(count: int) -> float:
    """Processor time of a turn that asks the kernel, finds nothing and sleeps not: microseconds."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def turn() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(turn)
        else:
            done.set_result(None)

    before = time.thread_time()
    loop.call_soon(turn)
    await done
    return (time.thread_time() - before) / count * 1e6


async def main() -> None:
    """Serve until SIGTERM."""
    server = wireway.Server("tcp://127.0.0.1:0", framing=wireway.Lines())

    @server.on_message
    async def said(conn: wireway.Connection, line: bytes) -> None:
        if line.startswith(b"turns "):
            line = f"{await turned(int(line[6:])):.4f}".encode()
        await conn.send(line)

    async with server:
        gc.freeze()
        print("ready", server.addresses[0].rpartition(":")[2], os.getpid(), flush=True)
        await server.serve()


if __name__ == "__main__":
    wireway.run(main(), backend=sys.argv[1])
