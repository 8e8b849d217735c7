"""A game on a grid, in binary messages: each player moves, and everybody sees where all are.

Shows why messages need a framing. TCP carries bytes: two moves may arrive as one piece ("sticky packets"), one move
in two ("half packets"). Two bytes of length before each message, and the handler never sees either.
Try it: python examples/03_length_prefix_game.py demo, which plays one game against itself.
"""

from __future__ import annotations

import asyncio
import struct
import sys

import wireway

FRAMING = wireway.LengthPrefix(2, max_size=16)
MOVES = {b"N": (0, 1), b"S": (0, -1), b"E": (1, 0), b"W": (-1, 0)}
PLACE = struct.Struct(">Ihh")
"""A player's number, x and y: what the server sends."""

server = wireway.Server("tcp://127.0.0.1:9000", framing=FRAMING)


@server.on_connect
def enter(conn: wireway.Connection) -> None:
    """`state` is yours: anything that belongs to the connection."""
    conn.state = (0, 0)
    conn.join("players")


@server.on_message
def move(conn: wireway.Connection, message: bytes) -> None:
    """One move, whole, whatever the network made of it."""
    if message not in MOVES:
        conn.close(f"{message!r} is no move")
        return
    (x, y), (dx, dy) = conn.state, MOVES[message]
    conn.state = (x + dx, y + dy)
    server.broadcast(PLACE.pack(conn.id, *conn.state), "players")


async def demo() -> None:
    """Three moves in two pieces, cut where it hurts."""
    async with server:
        port = int(server.addresses[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in (b"\0\1N\0\1", b"E\0\1E"):
            writer.write(piece)
            await asyncio.sleep(0.1)
        for _ in range(3):
            number, x, y = PLACE.unpack((await reader.readexactly(2 + PLACE.size))[2:])
            print(f"player {number} is at {x}, {y}")
        writer.close()


if __name__ == "__main__":
    wireway.run(demo()) if "demo" in sys.argv else server.run()
