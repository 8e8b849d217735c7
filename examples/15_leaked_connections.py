"""Connections that leak: peers that went without a word, and stay in your table for ever.

Shows twenty phones that said hello and lost their network. Without a deadline they are open for good; `server.leaks`
names them. With a heartbeat they are closed, with a code, and the one that still answers stays.
Try it: python examples/15_leaked_connections.py
"""

from __future__ import annotations

import asyncio

import wireway

PHONES = 20


async def evening(heartbeat: wireway.Heartbeat | None) -> tuple[int, dict[str, int]]:
    """How many are open in the end, and why the others are not."""
    server = wireway.Server("tcp://127.0.0.1:9000", framing=wireway.Lines(), heartbeat=heartbeat)

    @server.on_message
    def said(conn: wireway.Connection, line: bytes) -> None:
        conn.send_nowait(line)

    async with server:
        port = int(server.addresses[0].rpartition(":")[2])
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(PHONES + 1)]
        for reader, writer in streams:
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"

        async def answers() -> None:
            reader, writer = streams[0]  # the one that lives
            while line := await reader.readline():
                if line == b"ping\n":
                    writer.write(b"pong\n")

        living = asyncio.create_task(answers())
        await asyncio.sleep(1)  # an evening
        forgotten, closed = server.leaks(age=0.5, idle=0.5), dict(server.stats.closed)
        print(f"open: {server.stats.open}, closed: {closed}, look forgotten: {len(forgotten)}")
        if forgotten:
            print(f"  the first of them: {forgotten[0]}")
        living.cancel()
        still = server.stats.open
        for _, writer in streams:
            writer.close()
    return still, closed


if __name__ == "__main__":
    print("no deadline")
    wireway.run(evening(None))
    print("with a heartbeat")
    wireway.run(evening(wireway.Heartbeat(every=0.2, timeout=0.3, ping=b"ping", pong=b"pong")))
