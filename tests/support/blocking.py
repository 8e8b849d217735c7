"""Handlers that block, for worker processes: those import this module, so it has no test and needs none."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from wireway.net.workers import PeerInfo


class PickyError(Exception):
    """Can be sent, but not received."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def handle(peer: PeerInfo, message: bytes) -> bytes | list[bytes] | Iterator[bytes] | str | None:
    """Do what the message says."""
    verb, _, rest = message.decode().partition(" ")
    match verb:
        case "wait":  # says that it has begun, and waits: for a byte in one pipe, with one in another
            begun, go_on = rest.split()
            Path(begun).write_bytes(b"x")
            Path(go_on).read_bytes()
            return b"waited"
        case "who":
            return f"{os.getpid()} {peer.id} {peer.peer}".encode()
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(7)
        case "system-exit":
            raise SystemExit(3)
        case "fail":
            raise ValueError(f"no good: {rest}")
        case "picky":
            raise PickyError(1, 2)
        case "list":
            return [b"one", b"two"]
        case "yield":
            return (str(number).encode() for number in range(3))
        case "text":
            return "text"
        case "nothing":
            return None
        case "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
            return b"still here"
    return message
