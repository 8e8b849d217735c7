"""Why a connection closed: the question behind most nights on call.

Shows `CloseReason`: a code for programs, and a verdict for people, made from what the kernel knew at the end; and
the log of the last 10,000 ends.
Try it: python examples/10_why_it_closed.py, which makes a peer end in three ways; with `serve` it waits for yours.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import wireway

server = wireway.Server("tcp://127.0.0.1:9000", framing=wireway.LengthPrefix(4, max_size=1000))


@server.on_message
async def answer(conn: wireway.Connection, message: bytes) -> None:
    """Divides: the third way is a message that it can not handle."""
    await conn.send(b"%d" % (100 // int(message)))


@server.on_close
def closed(_conn: wireway.Connection, reason: wireway.CloseReason) -> None:
    """`str(reason)` is one line, `reason.explain()` all that is known."""
    print(reason.explain(), end="\n\n")


async def main() -> list[str]:
    """Three ends, and the log of them."""
    async with server:
        where = ("127.0.0.1", int(server.addresses[0].rpartition(":")[2]))
        for data, linger in ((b"\0\0\0\2", None), (b"\0\0\0\1", b"\1\0\0\0\0\0\0\0"), (b"\0\0\0\1" + b"0", None)):
            with socket.create_connection(where) as peer:
                peer.sendall(data)
                await asyncio.sleep(0.05)
                if linger is not None:  # close with RST rather than FIN
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await asyncio.sleep(0.05)
    return [reason.code for reason in server.closed]


if __name__ == "__main__":
    server.run() if "serve" in sys.argv else print(wireway.run(main()))
