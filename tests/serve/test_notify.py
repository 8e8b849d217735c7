"""What systemd gives: sockets, checked against a child that is started as systemd starts it; the watchdog's time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from wireway.serve.notify import activated, watchdog_interval

SERVE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "1"
if sys.argv[2] != "0":
    code = "import wireway; s = wireway.Server('tcp://127.0.0.1:1'); s.on_message(lambda c, m: c.send_nowait(m));"
    code += "s.run(workers=%s)" % sys.argv[2]
    os.execv(sys.executable, [sys.executable, "-c", code])
"""


@pytest.mark.parametrize("workers", ["None", "2"])
def test_the_sockets_of_the_unit_are_served(workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unit:
        command = [sys.executable, "-c", SERVE, str(unit.fileno()), workers]
        with subprocess.Popen(command, pass_fds=(unit.fileno(),)) as child:
            try:
                with socket.create_connection(unit.getsockname(), timeout=30) as sock:
                    sock.sendall(b"hello")
                    assert sock.recv(5) == b"hello"
            finally:
                child.terminate()
            assert child.wait(30) == 0


def test_sockets_of_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert activated() == []


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [("2000000", "", 1.0), ("2000000", "1", None), ("", "", None), ("0", "", None), ("x", "", None)],
)
def test_the_watchdog_is_told_twice_in_its_time(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_interval() == seconds
