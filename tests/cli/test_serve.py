"""`wireway serve echo` as a person meets it: what it prints, that its own line works, how it ends, how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.forbid import forbid_io_uring, forbid_low_ports

COMMAND = (sys.executable, "-m", "wireway", "serve", "echo")
Start = Callable[..., "Running"]


class Running:
    """A server in a child, once it has printed all that it prints at its start."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.text = ""
        for line in self.process.stdout:
            self.text += line
            if "stop it" in line:
                return
        raise AssertionError(f"the server ended: {self.text}{self.process.communicate()[1]}")

    def field(self, name: str) -> str:
        found = re.search(rf"^  {name} +(.+)$", self.text, re.MULTILINE)
        assert found, self.text
        return found[1]

    def try_it(self) -> str:
        line = self.field("try it").replace("wireway", f"{sys.executable} -m wireway", 1)
        return subprocess.run(line, shell=True, check=True, capture_output=True, text=True, timeout=30).stdout

    def end(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[Running] = []

    def start(*options: str) -> Running:
        servers.append(Running(*options))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.communicate()


def fails(*options: str, **kwargs: object) -> tuple[int, str]:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=30, **kwargs)  # type: ignore[call-overload]
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_its_own_line_works_on_every_back_end_and_a_signal_ends_it_with_0(
    start: Start, backend: str, number: signal.Signals
) -> None:
    server = start("--port", "0", "--backend", backend)
    assert re.fullmatch(r"tcp://127\.0\.0\.1:\d+", server.field("address"))
    assert server.field("back end") == f"{backend} (asked for)"
    assert re.match(
        r"limit [\d,]+, in use [\d,]+: room for about [\d,]+ connections \(.+\)$", server.field("descriptors")
    )
    assert server.try_it().strip() == "hello"
    assert server.end(number) == (0, "stopped\n", "")


@pytest.mark.parametrize("framing", ["length", "length:2:le", "lines", "varint", "fixed:5", "tpkt", "delimiter:0d0a"])
def test_framings_by_their_names(start: Start, framing: str) -> None:
    server = start("--port", "0", "--framing", framing)
    assert server.try_it().strip() == "hello"


def test_a_socket_file_which_is_gone_afterwards(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "echo.sock"
    server = start("--unix", str(path))
    assert server.field("address") == f"unix://{path}"
    assert server.try_it().strip() == "hello"
    assert server.end(signal.SIGTERM)[0] == 0
    assert not path.exists()


def test_all_addresses_of_this_machine_are_tried_through_loopback(start: Start) -> None:
    server = start("--host", "0.0.0.0", "--port", "0")
    assert "127.0.0.1" in server.field("try it")
    assert server.try_it().strip() == "hello"


def test_what_a_peer_has_sent_is_answered_before_the_end(start: Start) -> None:
    server = start("--port", "0")
    port = int(server.field("address").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
        peer.sendall(b"first")
        assert peer.recv(99) == b"first"
        assert server.end(signal.SIGTERM) == (0, "stopped\n", "")
        assert peer.recv(99) == b""


def test_a_taken_port_is_one_line_and_status_6() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        expected = f"Error: port {port} on 127.0.0.1 is taken by another program; choose another port\n"
        assert fails("--port", str(port)) == (6, expected)


@pytest.mark.parametrize(
    ("options", "expected", "words"),
    [
        (("--backend", "kqueue"), 2, "unknown back end 'kqueue'"),
        (("--host", "no-such-host.invalid"), 2, "'no-such-host.invalid'"),
        (("--framing", "lenght:4"), 2, "'lenght:4'"),
        (("--host", "192.0.2.1"), 2, "192.0.2.1 is not an address of this machine"),
        (("--unix", "/nonexistent/echo.sock"), 4, "/nonexistent/echo.sock"),
    ],
)
def test_what_can_not_be_done_is_one_line(options: tuple[str, ...], expected: int, words: str) -> None:
    status, error = fails("--port", "0", *options)
    assert status == expected
    assert error.startswith("Error: ")
    assert words in error
    assert error.count("\n") == 1


def test_a_port_without_permission() -> None:
    if Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() == "0":
        pytest.skip("this kernel lets everybody bind every port")
    expected = "Error: port 1 on 127.0.0.1 needs privileges; choose one from 1024 up\n"
    assert fails("--port", "1", preexec_fn=forbid_low_ports) == (5, expected)


def test_a_container_that_forbids_io_uring() -> None:
    status, error = fails("--port", "0", "--backend", "io_uring", preexec_fn=forbid_io_uring)
    assert (status, error.count("\n")) == (5, 1)
    assert "io_uring" in error
    assert "Operation not permitted" in error
    assert "epoll" in error


def test_the_environment_names_a_back_end() -> None:
    status, error = fails("--port", "0", env={**os.environ, "WIREWAY_BACKEND": "iocp"})
    assert status == 2
    assert "'iocp'" in error


def test_logs_for_programs() -> None:
    process = subprocess.Popen([*COMMAND, "--port", "0", "--log", "json"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    event = json.loads(process.stderr.readline())
    assert (event["event"], event["level"], event["what"]) == ("started", "info", "echo, raw framing")
    assert event["listeners"][0]["addresses"][0].startswith("tcp://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    assert [json.loads(line)["event"] for line in process.communicate(timeout=30)[1].splitlines()] == ["stopped"]
    assert process.returncode == 0


def test_a_failure_for_programs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        status, error = fails("--port", str(other.getsockname()[1]), "--log", "json")
    line = json.loads(error)
    assert (status, line["level"], "is taken by another program" in line["message"]) == (6, "error", True)


def test_there_is_no_such_service() -> None:
    done = subprocess.run([*COMMAND[:-1], "ecko"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "there is no service 'ecko', there are echo, chat, web" in done.stderr
    assert 'did you mean "echo"?' in done.stderr


@pytest.mark.parametrize("options", [("--port", "65536"), ("--nonsense",)])
def test_a_command_line_that_cannot_be_read_is_status_2(options: tuple[str, ...]) -> None:
    status, error = fails(*options)
    assert status == 2
    assert error.startswith("Error: ")
    assert error.endswith("; see `wireway serve echo --help`\n")
    assert error.count("\n") == 1
