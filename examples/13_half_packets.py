"""Half packets and sticky packets: what one `send` becomes on the way, and how a framing puts it right.

Shows what `recv` returned, what `wireway.framing.explain` says of each piece, and what a framed server got.
Try it: python examples/13_half_packets.py
"""

from __future__ import annotations

import asyncio
import socket

import wireway
from wireway.framing import explain

FRAMING = wireway.LengthPrefix(4)
PIECES = (b"\0\0\0\5he", b"llo\0\0\0\3how\0\0\0\3a", b"re\0\0\0\3you")
"""Four messages, cut as a network may cut them: half of one, the rest and more, the rest of all."""

raw = wireway.Server("tcp://127.0.0.1:9000", framing=wireway.Raw())
framed = wireway.Server("tcp://127.0.0.1:9001", framing=FRAMING)
got: dict[str, list[bytes]] = {"raw": [], "framed": []}


@raw.on_message
def bytes_came(_conn: wireway.Connection, piece: bytes) -> None:
    """Without framing: whatever one `recv` returned."""
    got["raw"].append(piece)
    print(f"recv returned {piece!r}\n  {explain(FRAMING, piece)}")


@framed.on_message
def message_came(_conn: wireway.Connection, message: bytes) -> None:
    """With framing: whole messages, each once."""
    got["framed"].append(message)
    print(f"a message: {message.decode()}")


async def send_in_pieces(address: str) -> None:
    """As a slow network would deliver it."""
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in PIECES:
            peer.sendall(piece)
            await asyncio.sleep(0.05)


async def main() -> dict[str, list[bytes]]:
    """The same pieces to both."""
    async with raw, framed:
        await send_in_pieces(raw.addresses[0])
        await send_in_pieces(framed.addresses[0])
    return got


if __name__ == "__main__":
    wireway.run(main())
