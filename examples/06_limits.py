"""A server that strangers may reach: how much it takes on, of all together and of each.

Shows limits by address, rates that slow a peer down instead of closing it, bounded queues, and a ban. All are native
and cost nearly nothing. `dry_run` counts what a limit would have closed, for finding the right value.
Try it: python examples/06_limits.py, then four times: nc 127.0.0.1 9000. The fourth is closed at once; type `stats`.
"""

from __future__ import annotations

import wireway

server = wireway.Server(
    "tcp://127.0.0.1:9000",
    framing=wireway.Lines(max_size=200),  # a longer line closes, before memory is spent on it
    limits=wireway.Limits(
        connections=10_000,
        per_address=3,
        per_subnet=100,
        accept_rate=1000,
        message_rate=50,  # over it, reading pauses and TCP holds the peer back
        queued_bytes=256 * 1024 * 1024,
        ban=wireway.Ban(after=5, within=60.0, seconds=300.0),
        dry_run=frozenset({"per_subnet"}),  # on trial: counted, not enforced
    ),
    buffers=wireway.Buffers(high=64 * 1024, hard=1024 * 1024),  # a peer that never reads costs 1 MiB at most
    timeouts=wireway.Timeouts(first_message=10.0, idle=300.0, write_stall=30.0),
)


@server.on_message
async def answer(conn: wireway.Connection, line: bytes) -> None:
    """`stats` tells what happened so far."""
    if line == b"stats":
        stats = server.stats
        await conn.send(f"open {stats.open}, closed {dict(stats.closed)}, on trial {dict(stats.would_close)}".encode())
    else:
        await conn.send(line)


if __name__ == "__main__":
    server.run()
