"""Zero downtime: the program is replaced while people are connected, and nobody notices.

Shows `Handover` and SIGUSR2: a new process has the sockets, the connections and what is known of each.
Try it: python examples/12_zero_downtime.py, which replaces itself in front of a client; with `serve` it serves.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import wireway


def check() -> None:
    """The new program looks at itself: what this raises is its end, and the old one goes on."""
    assert len(json.dumps({})) == 2


handover = wireway.Handover(
    encode=lambda state: json.dumps(state).encode(), decode=json.loads, check=check, handlers=10
)
server = wireway.Server("tcp://127.0.0.1:9000", framing=wireway.Lines(), handover=handover)


@server.on_message
async def count(conn: wireway.Connection, line: bytes) -> None:
    """Counts for each connection, whichever process it is served by."""
    conn.state = (conn.state or 0) + 1
    await conn.send(f"{os.getpid()}: your line {conn.state} is {line.decode()}".encode())


def main() -> list[str]:
    """One conversation, two processes."""
    said = []
    program = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    _, pid, port = program.stdout.readline().split()
    with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as client, client.makefile("rb") as lines:
        for line in (b"hello", b"still there?"):
            client.sendall(line + b"\n")
            said.append(lines.readline().decode().strip())
            if line == b"hello":
                os.kill(int(pid), signal.SIGUSR2)
                _, pid, port = program.stdout.readline().split()
    os.kill(int(pid), signal.SIGTERM)
    with program:
        return said


if __name__ == "__main__":
    if "serve" in sys.argv:
        server.run(on_started=lambda it: print("serving", os.getpid(), it.addresses[0].rpartition(":")[2], flush=True))
    else:
        print(*main(), sep="\n")
