"""A server with workers, run as a child: `python stampede_child.py FOLDER WORKERS`.

It writes each message to FOLDER/done before it answers ``A`` and the message. ``total`` is answered with the counts of
all workers, as JSON. Each worker appends `started PID ADDRESS` to FOLDER/log.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path

import wireway

FOLDER, WORKERS = Path(sys.argv[1]), int(sys.argv[2])
logging.basicConfig(level=logging.DEBUG, format="%(message)s")
server = wireway.Server("tcp://127.0.0.1:0", framing=wireway.LengthPrefix(4), drain_timeout=10)
done = os.open(FOLDER / "done", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)


@server.on_message
async def write_and_answer(conn: wireway.Connection, message: bytes) -> None:
    if message == b"total":
        conn.send_nowait(json.dumps(asdict(await server.total_stats())).encode())
        return
    os.write(done, message + b"\n")
    conn.send_nowait(b"A" + message)


def started(_server: wireway.Server) -> None:
    with (FOLDER / "log").open("a") as log:
        log.write(f"started {os.getpid()} {server.addresses[0]}\n")


if __name__ == "__main__":
    server.run(workers=WORKERS, on_started=started)
