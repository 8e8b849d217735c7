"""Owns `wireway serve --config` as a child: its file, what it says in JSON, its workers, its clients."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["COMMAND", "LIMIT", "Program", "until"]

COMMAND = (sys.executable, "-m", "wireway", "serve", "--config", "wireway.toml")
LIMIT = 60.0


def until(condition: Callable[[], Any]) -> Any:
    """Wait for something that other processes do."""
    end = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return found


class Program:
    """The command in a folder with a file; what it says is JSON."""

    def __init__(self, folder: Path, text: str, *words: str) -> None:
        self.file = folder / "wireway.toml"
        self.file.write_text(text)
        self.said = folder / "said"
        self.out = folder / "out"
        with self.said.open("w") as error, self.out.open("w") as out:
            self.process = subprocess.Popen([*COMMAND, *words], cwd=folder, stderr=error, stdout=out)
        self.clients: list[socket.socket] = []

    def lines(self) -> list[dict[str, Any]]:
        """All of stderr: each whole line must be JSON."""
        return [json.loads(line) for line in self.said.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("event") == name]

    def says(self, text: str, times: int = 1) -> None:
        def found() -> bool:
            assert self.process.poll() is None, self.said.read_text()
            return sum(text in line["message"] for line in self.lines()) >= times

        until(found)

    def started(self, workers: int) -> dict[str, Any]:
        """The event of the start, once so many workers serve."""
        self.says("serves, process", workers)
        return until(lambda: self.events("started"))[0]  # type: ignore[no-any-return]

    def workers(self) -> set[int]:
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return set(map(int, found.stdout.split()))

    def connect(self, address: str) -> socket.socket:
        if address.startswith("unix://"):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(LIMIT)
            client.connect(address.removeprefix("unix://"))
        else:
            host, _, port = address.removeprefix("tcp://").rpartition(":")
            client = socket.create_connection((host, int(port)), timeout=LIMIT)
        self.clients.append(client)
        return client

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(LIMIT)
            finally:
                self.process.kill()
        self.process.wait()
