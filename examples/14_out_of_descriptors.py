"""Descriptors run out: what peers see then, and what a limit below the kernel's makes of it.

Shows 60 peers of a server that may have 40 descriptors: the kernel answers all, the rest wait for nothing. Then the
cure, `Limits(connections=…)`: who is too many is closed at once, with a code.
Try it: python examples/14_out_of_descriptors.py
"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys

import wireway

PEERS, DESCRIPTORS = 60, 40


def serve(connections: int | None) -> None:
    """An echo with few descriptors."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    server = wireway.Server("tcp://127.0.0.1:0", framing=wireway.Raw(), limits=wireway.Limits(connections=connections))
    server.on_message(lambda conn, data: conn.send_nowait(data))

    async def main() -> None:
        async with server:
            print(server.addresses[0].rpartition(":")[2], flush=True)
            await server.serve()

    wireway.run(main())


def crowd(connections: int | None) -> dict[str, int]:
    """What becomes of 60 peers: answered, closed, or left to wait."""
    words = [sys.executable, __file__, "serve", *([str(connections)] if connections else [])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline())
        peers = [socket.create_connection(("127.0.0.1", port)) for _ in range(PEERS)]  # not one is refused
        for peer in peers:
            peer.send(b"hello", socket.MSG_NOSIGNAL)  # the kernel takes it, whoever may read it
        tally = {"answered": 0, "closed": 0, "waiting": 0}
        for peer in peers:
            peer.settimeout(0.01 if tally["waiting"] else 0.5)
            try:
                tally["answered" if peer.recv(9) else "closed"] += 1
            except (ConnectionResetError, TimeoutError) as error:
                tally["waiting" if isinstance(error, TimeoutError) else "closed"] += 1
        for peer in peers:
            peer.close()
        server.terminate()
    return tally


if __name__ == "__main__":
    if "serve" in sys.argv:
        serve(int(sys.argv[2]) if sys.argv[2:] else None)
    else:
        print("no limit:      ", crowd(None))
        print("connections=10:", crowd(10))
