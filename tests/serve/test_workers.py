"""`server.run(workers=N)`, with real processes: they share the load, are replaced, rolled and drained."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wireway

CHILD = Path(__file__).with_name("workers_child.py")
LIMIT = 30.0


def until(condition: Callable[[], object]) -> None:
    """Wait for something that other processes do."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


class Program:
    """The server program, seen from outside."""

    def __init__(self, folder: Path, workers: int, version: str, extra: dict[str, str]) -> None:
        self.folder = folder
        self.version(version)
        command = [sys.executable, str(CHILD), str(folder), str(workers)]
        environment = {**os.environ, **extra}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    def version(self, text: str) -> None:
        (self.folder / "version").write_text(text)

    def started(self) -> list[tuple[int, int]]:
        """Process and port of each worker that started, in order."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [(int(line.split()[1]), int(line.rpartition(":")[2])) for line in lines if line.startswith("started")]

    def wait_for(self, starts: int) -> None:
        until(lambda: len(self.started()) >= starts or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()[1]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.started()[0][1]), timeout=LIMIT)

    def end(self) -> str:
        """SIGTERM, and what it said on stderr."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=LIMIT)[1]


def ask(sock: socket.socket, line: bytes = b"x") -> list[str]:
    sock.sendall(line + b"\n")
    return read_line(sock).split()


def read_line(sock: socket.socket) -> str:
    found = b""
    while not found.endswith(b"\n"):
        more = sock.recv(1)
        assert more, "closed"
        found += more
    return found.decode().strip()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


Start = Callable[..., Program]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Start]:
    """Start the program; it is ended with the test, and its workers with it."""
    found: list[Program] = []

    def start(workers: int = 2, version: str = "1", **extra: str) -> Program:
        found.append(Program(tmp_path, workers, version, extra))
        return found[-1]

    yield start
    for each in found:
        each.process.kill()
        each.process.communicate()
        for pid, _ in each.started():
            until(lambda pid=pid: gone(pid))  # type: ignore[misc]


def test_every_worker_gets_connections(program: Start) -> None:
    server = program()
    server.wait_for(2)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(server.connect()) for _ in range(100)]
        assert {int(ask(sock)[0]) for sock in sockets} == {pid for pid, _ in server.started()}
    server.end()
    assert server.process.returncode == 0


def test_a_killed_worker_is_replaced_and_the_other_goes_on(program: Start) -> None:
    server = program()
    server.wait_for(2)
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(server.connect()) for _ in range(50)]
        victim = int(ask(sockets[0])[0])
        healthy = [sock for sock in sockets if int(ask(sock)[0]) != victim]
        os.kill(victim, signal.SIGKILL)
        server.wait_for(3)
        assert healthy
        assert all(int(ask(sock)[0]) != victim for sock in healthy)
        new = [stack.enter_context(server.connect()) for _ in range(50)]
        assert {int(ask(sock)[0]) for sock in new} == {pid for pid, _ in server.started()} - {victim}
    assert "killed by SIGKILL" in server.end()


def test_hangup_rolls_to_the_new_program_and_refuses_nobody(program: Start) -> None:
    server = program()
    server.wait_for(2)
    server.version("2")
    server.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + LIMIT
    versions = []
    while versions[-20:] != ["2"] * 20:
        assert time.monotonic() < end
        with server.connect() as sock:
            sock.sendall(b"x\n")
            answer = sock.recv(100)
            # An old worker that drains ends a conversation cleanly before it began.
            if answer:
                versions.append(answer.split()[1].decode())
    old = [pid for pid, _ in server.started()[:2]]
    until(lambda: all(gone(pid) for pid in old))
    assert "every worker was replaced" in server.end()


def test_a_hangup_in_the_middle_of_a_roll_is_another_roll(program: Start) -> None:
    server = program()
    server.wait_for(2)
    server.version("2")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(3)  # the first worker's successor, which will not see the third version
    server.version("3")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(6)
    old = [pid for pid, _ in server.started()[:4]]
    until(lambda: all(gone(pid) for pid in old))
    for _ in range(10):
        with server.connect() as sock:
            assert ask(sock)[1] == "3"
    assert server.end().count("every worker was replaced") == 2


def test_a_broken_program_ends_the_roll_and_the_old_one_goes_on(program: Start) -> None:
    server = program()
    server.wait_for(2)
    with server.connect() as sock:
        server.version("broken")
        server.process.send_signal(signal.SIGHUP)
        assert server.process.stderr is not None
        line = ""
        while "the roll ends" not in line:
            line = server.process.stderr.readline()
            assert line
        assert ask(sock)[1] == "1"
        with server.connect() as other:
            assert ask(other)[1] == "1"


def test_a_program_that_never_starts_is_one_clear_error(program: Start) -> None:
    server = program()
    server.wait_for(2)
    server.end()
    again = subprocess.run(
        [sys.executable, "-c", "import os, wireway; s = wireway.Server('tcp://127.0.0.1:0');"
         "s.on_message(print); 'WIREWAY_WORKER' in os.environ and os._exit(7); s.run(workers=1)"],
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert again.returncode == 1
    assert "worker 1 did not start, 3 times in a row: exit status 7" in again.stderr


def test_a_handler_in_flight_is_finished_before_the_end(program: Start) -> None:
    server = program()
    server.wait_for(2)
    with server.connect() as sock:
        sock.sendall(b"slow\n")
        assert read_line(sock) == "begun"
        server.process.send_signal(signal.SIGTERM)
        until(lambda: _refused(server))
        (server.folder / "go").touch()
        assert read_line(sock).endswith("slow")
        assert sock.recv(1) == b""
    assert server.process.wait(LIMIT) == 0


def _refused(server: Program) -> bool:
    """Whether nobody answers on the port any more."""
    try:
        with server.connect() as sock:
            sock.settimeout(0.2)
            sock.sendall(b"x\n")
            return sock.recv(1) == b""
    except OSError:
        return True


def test_the_second_signal_is_immediate(program: Start) -> None:
    server = program()
    server.wait_for(2)
    with server.connect() as sock:
        sock.sendall(b"slow\n")
        assert read_line(sock) == "begun"
        server.process.send_signal(signal.SIGTERM)
        until(lambda: _refused(server))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(LIMIT) == 0
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""


def test_workers_end_when_their_supervisor_is_killed(program: Start) -> None:
    server = program()
    server.wait_for(2)
    server.process.kill()
    until(lambda: all(gone(pid) for pid, _ in server.started()))
    with pytest.raises(ConnectionRefusedError), server.connect():
        pass


def test_the_service_manager_hears_of_it(program: Start, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(LIMIT)
        server = program(NOTIFY_SOCKET=str(path), WATCHDOG_USEC="100000")
        heard: list[str] = []

        def hears(word: str) -> None:
            while not any(word in each for each in heard):
                heard.append(manager.recv(1000).decode())

        hears("READY=1")
        hears("WATCHDOG=1")
        heard.clear()
        server.process.send_signal(signal.SIGHUP)
        hears("RELOADING=1\nMONOTONIC_USEC=")
        hears("READY=1")
        server.process.send_signal(signal.SIGTERM)
        hears("STOPPING=1")
        server.process.wait(LIMIT)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "many"])
def test_wrong_numbers_are_refused(workers: object) -> None:
    server = wireway.Server("tcp://127.0.0.1:0")
    server.on_message(lambda conn, message: None)
    with pytest.raises(wireway.ConfigError, match="workers is"):
        server.run(workers=workers)  # type: ignore[arg-type]


def test_a_taken_port_is_told_before_workers_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = wireway.Server(f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        server.on_message(lambda conn, message: None)
        with pytest.raises(wireway.AddressInUseError):
            server.run(workers=2)
