"""Owns what the tests of `wireway connect` share: the command, and a peer of it that is a plain socket."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["COMMAND", "echo", "free_port", "peer", "read_to_end", "run"]

COMMAND = (sys.executable, "-m", "wireway", "connect")
Peer = Callable[[socket.socket], None]


@contextmanager
def peer(talk: Peer) -> Iterator[str]:
    """Accepts one connection, and talks as told; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        failed: list[BaseException] = []

        def run() -> None:
            try:
                conn, _ = listening.accept()
                with conn:
                    conn.settimeout(30)
                    talk(conn)
            except BaseException as error:  # noqa: BLE001 - told by the test's own thread
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            thread.join(30)
            assert not failed, failed


def echo(conn: socket.socket) -> None:
    """All that comes back, then the end."""
    while data := conn.recv(65536):
        conn.sendall(data)


def run(*words: str, given: bytes | None = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *words], input=given, capture_output=True, timeout=60, check=False)


def read_to_end(conn: socket.socket) -> bytes:
    return b"".join(iter(lambda: conn.recv(65536), b""))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port
