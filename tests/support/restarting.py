"""Owns a server program that is succeeded by another, seen from outside, and clients that must notice nothing of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CHILD = Path(__file__).parent.parent / "serve" / "handover_child.py"
LIMIT = 12.0


def until(condition: Callable[[], object]) -> None:
    """Wait for something that other processes do."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


class Client:
    """A connection of lines."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._lines = self.sock.makefile("rb")

    def line(self) -> list[str]:
        found = self._lines.readline()
        assert found.endswith(b"\n"), f"closed after {found!r}"
        return found.decode().split()

    def ask(self, line: str = "x") -> list[str]:
        self.sock.sendall(line.encode() + b"\n")
        return self.line()

    def close(self) -> None:
        self._lines.close()
        self.sock.close()


class Program:
    """The server program and those that succeed it."""

    def __init__(self, folder: Path, workers: int = 0) -> None:
        self.folder = folder
        self.version("one")
        self.said = (folder / "stderr").open("w+")
        command = [sys.executable, str(CHILD), str(folder), *([str(workers)] if workers else [])]
        self.process = subprocess.Popen(command, stderr=self.said)
        self.clients: list[Client] = []
        until(lambda: len(self.started()) >= max(workers, 1))

    def version(self, text: str) -> None:
        (self.folder / "version").write_text(text)

    def started(self) -> list[tuple[int, int]]:
        """Process and port of each that serves or served, in order."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(line.split()[1]), int(line.rpartition(":")[2])) for line in lines]

    def words(self) -> str:
        return (self.folder / "stderr").read_text()

    def client(self) -> Client:
        self.clients.append(client := Client(self.started()[0][1]))
        return client

    def restart(self) -> None:
        os.kill(self.started()[-1][0], signal.SIGUSR2)

    def end(self) -> None:
        for client in self.clients:
            client.close()
        for pid, _ in self.started():
            if pid != self.process.pid and not gone(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.said.close()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
