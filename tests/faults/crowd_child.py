"""Many connections, made by a child: `python crowd_child.py PORT COUNT`. Prints how many it made, and holds them until
its standard input ends. From many addresses of 127.0.0.0/8, as one has fewer than 28,232 ports to come from.
"""

from __future__ import annotations

import os
import resource
import socket
import sys

EACH = 1000
"""Connections from one address, so that those of former runs, in TIME-WAIT, are not in the way."""
IP_BIND_ADDRESS_NO_PORT = 24
"""ip(7); Python has no name for it before 3.12."""


def main(port: int, count: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socks = []
    for number in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)  # the port is found at connect, which is far faster
        sock.bind((f"127.{os.getpid() % 200 + 1}.{os.getpid() // 200 % 250}.{number // EACH + 1}", 0))
        sock.connect(("127.0.0.1", port))
        socks.append(sock)
    print("made", len(socks), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
