"""A server with few descriptors, run as a child: `python server_child.py BACKEND KIND LIMIT`, KIND asyncio or server.

Echoes. Prints `ready PORT`, then a line for each thing that reached the loop's exception handler. SIGTERM makes it
print `turns N, seconds of processor time` since the last SIGUSR1, and end.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import wireway
from wireway.config import SocketOptions


def say(*words: object) -> None:
    print(*words, flush=True)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def leave(free: int) -> None:
    """Set the limit so that `free` more descriptors can be opened."""
    taken, limit = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}, 0
    while free > 0:
        free -= limit not in taken
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # a server raises the soft one to the hard one


async def serve(kind: str, spare: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: say("handler", context["message"], repr(context["exception"])))
    end, busy = asyncio.Event(), time.process_time()

    def mark() -> None:
        nonlocal busy
        busy = time.process_time()
        say("marked")

    loop.add_signal_handler(signal.SIGTERM, end.set)
    loop.add_signal_handler(signal.SIGUSR1, mark)
    # Before the server starts: io_uring remembers the limit of the moment at which an accept was armed.
    if spare >= 0:
        leave(spare + 1)  # one for the listener
    else:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if kind == "asyncio":
        server: Any = await loop.create_server(Echo, "127.0.0.1", 0, backlog=200)
        port = server.sockets[0].getsockname()[1]
    else:
        server = wireway.Server("tcp://127.0.0.1:0", socket=SocketOptions(backlog=200))
        server.on_message(lambda conn, message: conn.send_nowait(message))
        await server.start()
        port = int(server.addresses[0].rpartition(":")[2])
    if spare < 0:
        filler = os.open(os.devnull, os.O_RDONLY)
        while os.dup(filler) < 1020:
            pass
    say("ready", port)
    await end.wait()
    say("busy", time.process_time() - busy)
    server.close() if kind == "asyncio" else await server.close()


if __name__ == "__main__":
    backend, kind, spare = sys.argv[1:]
    wireway.run(serve(kind, int(spare)), backend=backend)
