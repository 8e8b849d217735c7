"""A server, run as a child: `python handover_child.py FOLDER [WORKERS]`. Its version is the text of FOLDER/version.

Answers each line with its process id, its version, how many lines this connection has said, and the line; `slow` waits
for FOLDER/go first, `all` tells everybody the number, `lock` makes its state impossible to move.
Versions that fail: `broken` at import, `hang` before it is ready, `refuse` its own check, `starve` for descriptors,
`die` in the middle. It appends `started PID ADDRESS` to FOLDER/log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import resource
import sys
import time
from pathlib import Path

import wireway

FOLDER = Path(sys.argv[1])
VERSION = (FOLDER / "version").read_text()
SEATS = json.loads(os.environ.get("WIREWAY_WORKER", "{}")).get("seats", [])
SUCCEEDS = "WIREWAY_SUCCESSION" in os.environ or any(seat["succession"] for seat in SEATS)
logging.basicConfig(level=logging.INFO, format="%(message)s")
if SUCCEEDS and VERSION == "broken":
    raise SystemExit("broken on purpose")
if SUCCEEDS and VERSION == "hang":
    time.sleep(60)


class Session:
    """What a connection has said."""

    def __init__(self) -> None:
        self.lines = 0
        self.lock: object = None  # something that can not be pickled


def check() -> None:
    if VERSION == "refuse":
        raise SystemExit("refused on purpose")
    if VERSION == "starve":
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 12,) * 2)


def decode(data: bytes) -> object:
    if VERSION == "die":
        os._exit(7)
    return pickle.loads(data)


server = wireway.Server(
    "tcp://127.0.0.1:0",
    framing=wireway.Lines(),
    drain_timeout=10,
    handover=wireway.Handover(encode=pickle.dumps, decode=decode, check=check, ready=5, handlers=0.2),
)


@server.on_connect
def greet(conn: wireway.Connection) -> None:
    conn.state = Session()


@server.on_message
async def answer(conn: wireway.Connection, message: bytes) -> None:
    conn.state.lines += 1
    if message == b"lock":
        conn.state.lock = (FOLDER / "version").open()
    if message == b"slow":
        while not (FOLDER / "go").exists():  # noqa: ASYNC110  another process makes it
            await asyncio.sleep(0.01)
    if message == b"all":
        server.broadcast(b"news %d" % conn.state.lines, exclude=[conn])
    conn.send_nowait(f"{os.getpid()} {VERSION} {conn.state.lines} ".encode() + message)


def started(_server: wireway.Server) -> None:
    with (FOLDER / "log").open("a") as log:
        log.write(f"started {os.getpid()} {server.addresses[0]}\n")


if __name__ == "__main__":
    server.run(on_started=started, workers=int(sys.argv[2]) if len(sys.argv) > 2 else None)
