"""A server with workers, run as a child: `python totals_child.py FOLDER WORKERS`. A line is a command.

``join GROUP``, ``user NAME``, ``who``, ``say GROUP TEXT`` (the sender gets nothing but the answer), ``tell USER TEXT``,
``all TEXT``, ``total``, ``workers`` (both as JSON). Each worker appends `started PID ADDRESS` to FOLDER/log.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import wireway

FOLDER, WORKERS = Path(sys.argv[1]), int(sys.argv[2])
server = wireway.Server("tcp://127.0.0.1:0", framing=wireway.Lines(), drain_timeout=10)


@server.on_message
async def obey(conn: wireway.Connection, message: bytes) -> None:
    word, _, rest = message.partition(b" ")
    name, _, text = rest.partition(b" ")
    answer = "done"
    if word == b"join":
        conn.join(name.decode())
    elif word == b"user":
        conn.user = name.decode()
    elif word == b"who":
        answer = str(os.getpid())
    elif word == b"say":
        answer = str(server.broadcast(text, name.decode(), exclude=[conn]))
    elif word == b"tell":
        answer = str(server.send_to_user(name.decode(), text))
    elif word == b"all":
        answer = str(server.broadcast(rest, exclude=[conn]))
    elif word == b"total":
        answer = json.dumps(asdict(await server.total_stats()))
    elif word == b"workers":
        answer = json.dumps([asdict(each) for each in await server.workers()])
    conn.send_nowait(answer.encode())


def started(_server: wireway.Server) -> None:
    with (FOLDER / "log").open("a") as log:
        log.write(f"started {os.getpid()} {server.addresses[0]}\n")


if __name__ == "__main__":
    server.run(workers=WORKERS, on_started=started)
