"""Connection reset by peer: five ways to get one, each made for real, and what can be known of it.

Shows the cause, the kernel's error, and the verdict of `CloseReason`. To see the packets:
`tcpdump -i lo -nn tcp port 9000` beside it.
Try it: python examples/17_resets.py
"""

from __future__ import annotations

import asyncio
import socket
import struct

import wireway

server = wireway.Server("tcp://127.0.0.1:9000", framing=wireway.Lines())
ends: asyncio.Queue[wireway.CloseReason] = asyncio.Queue()
server.on_message(lambda conn, line: conn.send_nowait(line))
server.on_close(lambda _conn, reason: ends.put_nowait(reason))


async def hello(port: int) -> socket.socket:
    """A peer that has said hello, and whose answer has come."""
    peer = socket.create_connection(("127.0.0.1", port))
    peer.sendall(b"hello\n")
    await asyncio.sleep(0.05)
    return peer


async def main() -> list[tuple[str, str]]:
    """Cause and code of each."""
    told = []
    async with server:
        port = int(server.addresses[0].rpartition(":")[2])
        for cause in ("reads, closes", "closes unread", "linger 0", "speaks first, linger 0", "we speak after its end"):
            peer = await hello(port)
            if cause != "closes unread":
                assert peer.recv(100) == b"hello\n"
            if "linger" in cause:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if cause == "speaks first, linger 0":
                peer.sendall(b"bye")
                await asyncio.sleep(0.02)
            if cause == "we speak after its end":
                server.connections[0].pause()
            peer.close()
            await asyncio.sleep(0.05)
            if cause == "we speak after its end":
                for _ in range(2):
                    server.connections[0].send_nowait(b"news")
                    await asyncio.sleep(0.05)
            reason = await asyncio.wait_for(ends.get(), 5)
            print(f"{cause}: {reason.code}, {reason.error!r}\n  {reason.explain().splitlines()[0]}")
            told.append((cause, reason.code))
    return told


if __name__ == "__main__":
    wireway.run(main())
