"""The server of `make reload`: `reloaded.py PORT FOLDER WORKERS`. Counts for each connection, and echoes the count.

The count is the connection's state, which moves with it. Each process that serves adds its id to
FOLDER/started-WORKERS.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import wireway

PORT, FOLDER, WORKERS = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
logging.basicConfig(level=logging.INFO, format="%(message)s")
server = wireway.Server(f"tcp://127.0.0.1:{PORT}", framing=wireway.LengthPrefix(4))


@server.on_message
def count(conn: wireway.Connection, message: bytes) -> None:
    """Numbers what it echoes."""
    conn.state = 1 + (conn.state or 0)
    conn.send_nowait(message[:8] + conn.state.to_bytes(8, "big") + message[16:])


def started(_server: wireway.Server) -> None:
    """Say so."""
    with (FOLDER / f"started-{WORKERS}").open("a") as file:
        file.write(f"{os.getpid()}\n")


if __name__ == "__main__":
    server.run(workers=WORKERS or None, on_started=started)
