"""Descriptors running out: accepting pauses, says so, and goes on; a limit of the back end is named."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

CHILD = Path(__file__).parent / "server_child.py"
KINDS = ("asyncio", "server")


class Child:
    """The server, what it said, and clients of it."""

    def __init__(self, backend: str, kind: str, spare: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(CHILD), backend, kind, str(spare)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.output: IO[str] = self.process.stdout
        self.port = int(self.line("ready"))

    def line(self, word: str) -> str:
        """The rest of the next line that begins with `word`; none before it may be another's."""
        line = self.output.readline()
        assert line.startswith(word), f"{line!r} does not begin with {word!r}"
        return line[len(word) :].strip()

    def end(self) -> list[str]:
        """End it; what it still said."""
        self.process.send_signal(signal.SIGTERM)
        rest = self.output.read().splitlines()
        assert self.process.wait(30) == 0
        return rest


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def child(backend: str, kind: str, spare: int) -> Iterator[Child]:
    child = Child(backend, kind, spare)
    try:
        yield child
    finally:
        child.process.kill()
        child.process.wait()
        child.output.close()


def client(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def echoed(connection: socket.socket) -> bool:
    connection.sendall(b"hello")
    return connection.recv(5) == b"hello"


def test_accepting_pauses_and_goes_on(backend: str, kind: str) -> None:
    with child(backend, kind, 5) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(server.port)) for _ in range(12)]
        message = server.line("handler")
        assert message.startswith("socket.accept() out of system resource")
        assert "Too many open files" in message
        served, waiting = clients[:5], clients[5:]
        assert all(echoed(one) for one in served), "those that were accepted go on"
        # It says so once and does not spin: a second of trying in vain would be a second of processor time.
        server.process.send_signal(signal.SIGUSR1)
        server.line("marked")
        time.sleep(1.0)
        assert all(echoed(one) for one in served)
        # Whoever leaves makes room for who waits, in the order of their coming.
        for leaving in served:
            leaving.close()
            assert echoed(waiting[0])
            served.append(waiting.pop(0))
            if not waiting:
                break
        rest = server.end()
        busy = float(rest[-1].removeprefix("busy"))
        assert busy < 0.7, f"{busy} s of processor time while accepting paused"
        # Each time that it ran out again after an accept is told once: no more often than clients came.
        assert len(rest) - 1 <= 7, rest


def test_a_limit_of_select_is_told_and_the_others_go_on(kind: str) -> None:
    with child("select", kind, -1) as server, contextlib.ExitStack() as stack:
        fitting = [stack.enter_context(client(server.port)) for _ in range(2)]
        assert all(echoed(one) for one in fitting)
        stack.enter_context(client(server.port)).sendall(b"hello")
        for _ in range(3):
            refused = stack.enter_context(client(server.port))
            with contextlib.suppress(ConnectionResetError):
                assert refused.recv(1) == b"", "closed, not left waiting"
        message = server.line("handler")
        assert message.startswith("An accepted connection was closed DescriptorLimitError")
        assert "1024" in message
        assert "backend='epoll'" in message
        assert all(echoed(one) for one in fitting)
        assert len(server.end()) == 1, "it is said once"
