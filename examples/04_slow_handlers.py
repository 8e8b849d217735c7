"""A handler that blocks: a database driver, a device library, a file system.

Shows `threads=`: the function runs in eight threads, so eight slow messages are served at a time and nobody else
waits. Messages of one connection stay in order. For work of the processor write `processes=4` instead.
Try it: python examples/04_slow_handlers.py, then in two shells: nc 127.0.0.1 9000, and type in both.
"""

from __future__ import annotations

import threading
import time

import wireway

SECONDS = 1.0

server = wireway.Server("tcp://127.0.0.1:9000", framing=wireway.Lines())


@server.on_message(threads=8, queue=100)
def look_up(_conn: object, line: bytes) -> bytes:
    """Blocks, and may: it is not on the loop's thread. What it returns is sent. Beyond 100 waiting messages their
    connections are not read from, so a flood costs bounded memory."""
    time.sleep(SECONDS)
    return b"%b, looked up by %b" % (line, threading.current_thread().name.encode())


if __name__ == "__main__":
    server.run()
