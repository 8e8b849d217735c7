"""A server with workers, run as a child: `python workers_child.py FOLDER WORKERS`.

Answers each line with its process id, its version (the text of FOLDER/version) and the line; `slow` waits for
FOLDER/go first. A version `broken` raises at import. Each worker appends `started PID ADDRESS` to FOLDER/log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import wireway

FOLDER, WORKERS = Path(sys.argv[1]), int(sys.argv[2])
VERSION = (FOLDER / "version").read_text()
if VERSION == "broken":
    raise SystemExit("broken on purpose")
logging.basicConfig(level=logging.INFO, format="%(message)s")
server = wireway.Server("tcp://127.0.0.1:0", framing=wireway.Lines(), drain_timeout=10)


@server.on_message
async def answer(conn: wireway.Connection, message: bytes) -> None:
    if message == b"slow":
        conn.send_nowait(b"begun")
        while not (FOLDER / "go").exists():  # noqa: ASYNC110  another process makes it
            await asyncio.sleep(0.01)
    conn.send_nowait(f"{os.getpid()} {VERSION} ".encode() + message)


def started(_server: wireway.Server) -> None:
    with (FOLDER / "log").open("a") as log:
        log.write(f"started {os.getpid()} {server.addresses[0]}\n")


if __name__ == "__main__":
    server.run(workers=WORKERS, on_started=started)
