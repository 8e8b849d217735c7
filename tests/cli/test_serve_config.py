"""`wireway serve --config` as a person and as a supervisor meet it: real processes, real connections, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.forbid import forbid_low_ports

COMMAND = (sys.executable, "-m", "wireway", "serve", "--config", "wireway.toml")
LIMIT = 60.0
TWO = """
drain_timeout = "5s"
[log]
style = "json"
[[listeners]]
name = "lines"
address = ["tcp://127.0.0.1:0", "unix://lines.sock"]
service = "echo"
framing = "lines"
workers = 2
limits = { connections = 50 }
[[listeners]]
name = "one"
address = "tcp://127.0.0.1:0"
service = "echo"
"""


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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def start(text: str, *words: str) -> Program:
        programs.append(Program(tmp_path, text, *words))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


def ask(client: socket.socket, text: bytes = b"hi\n") -> bytes:
    client.sendall(text)
    return client.recv(99)


def test_two_listeners_with_workers_of_their_own_and_every_line_is_json(
    start: Callable[..., Program], tmp_path: Path
) -> None:
    program = start(TWO)
    event = program.started(2)
    lines, one = event["listeners"]
    assert lines["addresses"][1] == f"unix://{tmp_path}/lines.sock"
    assert (lines["what"], lines["workers"], lines["framing"], lines["tls"]) == ("lines, echo", 2, "lines", False)
    assert (lines["limits"]["connections"], one["workers"]) == ("50", 1)
    assert event["control"].endswith(".sock")
    clients = [program.connect(address) for address in (*lines["addresses"], *one["addresses"])]
    assert [ask(client) for client in clients] == [b"hi\n"] * 3
    assert len(program.workers()) == 2
    assert program.end() == 0
    assert [client.recv(9) for client in clients] == [b""] * 3
    assert not (tmp_path / "lines.sock").exists()
    assert program.events("stopped")
    assert program.out.read_text() == ""


def test_sighup_takes_the_file_as_it_is_and_a_wrong_one_leaves_all_as_it_was(start: Callable[..., Program]) -> None:
    program = start(TWO)
    lines, one = (each["addresses"][0] for each in program.started(2)["listeners"])
    clients = [program.connect(lines) for _ in range(4)]
    moved, single = program.connect(lines), program.connect(one)
    assert [ask(client) for client in (*clients, moved, single)] == [b"hi\n"] * 6
    before = program.workers()

    program.edit("workers = 2", 'workers = "two"')
    program.hang_up()
    program.says("nothing was changed")
    [mistake] = [line["message"] for line in program.lines() if "must be a number of processes" in line["message"]]
    assert mistake.startswith("wireway.toml:10:11: workers is ")
    assert program.workers() == before
    assert [ask(client) for client in (*clients, single)] == [b"hi\n"] * 5

    # One worker less, one listener less, one more: who is connected to what stays notices nothing.
    program.edit('workers = "two"', "workers = 1")
    program.edit('name = "one"\naddress = "tcp://127.0.0.1:0"', 'name = "other"\naddress = "unix://other.sock"')
    program.hang_up()
    program.says("every worker was replaced")
    until(lambda: len(program.workers()) == 1 and not program.workers() & before)
    assert single.recv(9) == b""
    with pytest.raises(ConnectionRefusedError):
        program.connect(one)
    assert ask(program.connect(f"unix://{program.file.parent}/other.sock")) == b"hi\n"
    assert all(ask(program.connect(lines)) == b"hi\n" for _ in range(8))

    # And more of them again.
    program.edit("workers = 1", "workers = 3")
    program.hang_up()
    program.says("every worker was replaced", 2)
    until(lambda: len(program.workers()) == 3)
    program.says("worker 3 serves")
    assert all(ask(program.connect(lines)) == b"hi\n" for _ in range(8))
    assert program.end() == 0


def test_connections_move_to_the_next_worker_unless_what_they_speak_has_changed(start: Callable[..., Program]) -> None:
    program = start(TWO.replace("workers = 2", "workers = 1"))
    lines = program.started(1)["listeners"][0]["addresses"][0]
    client = program.connect(lines)
    client.sendall(b"half ")
    program.hang_up()
    program.says("every worker was replaced")
    assert ask(client, b"line\n") == b"half line\n"
    program.edit('framing = "lines"', 'framing = "length:2"')
    program.hang_up()
    program.says("every worker was replaced", 2)
    assert client.recv(9) == b""
    assert ask(program.connect(lines), b"\0\2hi") == b"\0\2hi"


def test_a_worker_that_dies_is_replaced_with_the_file_that_was_good(start: Callable[..., Program]) -> None:
    program = start(TWO)
    lines = program.started(2)["listeners"][0]["addresses"][0]
    program.file.write_text("this is = = no configuration\n")
    victim = min(program.workers())
    os.kill(victim, signal.SIGKILL)
    program.says("serves, process", 3)
    assert all(ask(program.connect(lines)) == b"hi\n" for _ in range(6))
    assert not any("no TOML" in line["message"] for line in program.lines())


def fails(folder: Path, text: str, *words: str, **more: Any) -> tuple[int, str]:
    (folder / "wireway.toml").write_text(text)
    command = [*COMMAND, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False, **more)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


ONE = '[[listeners]]\naddress = "tcp://127.0.0.1:0"\nservice = "echo"\n'
WEB = ONE.replace("echo", "web")


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        ("", 3, "wireway.toml:1:1: there is no listener: write [[listeners]], below it address and service"),
        ("a = = 1", 3, "wireway.toml:1:5: no TOML: extra `=`, expected nothing"),
        (f"{ONE}limts = {{}}", 3, 'wireway.toml:4:1: unknown key "limts" in [listeners]; did you mean "limits"?'),
        (f'{WEB}options.target = "none:app"', 3, "wireway.toml:1:1: web: there is no module 'none' in "),
        (f'{WEB}options.target = "bad:app"', 3, "wireway.toml:1:1: web: bad:app can not be loaded: NameError: "),
        (f'{WEB}options.target = "late:app"', 1, "the application did not start: the database is gone"),
        (f'{ONE.replace("tcp", "tls")}tls.cert = "no.pem"', 3, "wireway.toml:4:12: cert: there is no file "),
    ],
)
def test_what_can_not_be_served_is_told_once_and_ends_it(tmp_path: Path, text: str, status: int, expected: str) -> None:
    (tmp_path / "bad.py").write_text("nothing_like_it\n")
    (tmp_path / "late.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'the database is gone'})\n"
    )
    got, error = fails(tmp_path, text)
    assert error.startswith(f"Error: {expected}")
    assert (got, error.count("\n")) == (status, 1)


def test_a_taken_address_has_a_status_of_its_own(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        got, error = fails(tmp_path, ONE.replace(":0", f":{port}"))
    assert (got, error) == (6, f"Error: port {port} on 127.0.0.1 is taken by another program; choose another port\n")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "a.sock"))
        other.listen()
        got, error = fails(tmp_path, ONE.replace("tcp://127.0.0.1:0", "unix://a.sock"))
    assert got == 6
    assert "another program listens there" in error


def test_a_port_without_permission(tmp_path: Path) -> None:
    if Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() == "0":
        pytest.skip("this kernel lets everybody bind every port")
    got, error = fails(tmp_path, ONE.replace(":0", ":1"), preexec_fn=forbid_low_ports)
    assert (got, error) == (5, "Error: port 1 on 127.0.0.1 needs privileges; choose one from 1024 up\n")


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (("--config", "none.toml"), 4, "none.toml is not there: give a file, or write one with: wireway config init"),
        (("--config", "."), 2, ". is a folder: give the file"),
        (("--config", "wireway.toml", "echo"), 2, "--config and the service echo: give one of them"),
        (("--log", "json", "echo"), 2, "write the options behind the service: wireway serve echo --log json"),
        (("--config",), 2, "requires an argument"),
    ],
)
def test_command_lines_that_mean_nothing(tmp_path: Path, words: tuple[str, ...], status: int, expected: str) -> None:
    (tmp_path / "wireway.toml").write_text(ONE)
    command = [sys.executable, "-m", "wireway", "serve", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == status
    assert expected in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_reload_waits_out_what_is_wrong_and_ctrl_c_ends_it(start: Callable[..., Program], tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    text = (
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'one'})\n"
    )
    app.write_text(text)
    program = start(f'[log]\nstyle = "json"\n{WEB}options.target = "app:app"\n', "--reload", "--log", "json")

    def get(number: int) -> bytes:
        found = until(lambda: program.events("started")[number:])
        client = program.connect(found[0]["listeners"][0]["addresses"][0])
        client.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        with client.makefile("rb") as answer:
            return answer.read().rpartition(b"\r\n\r\n")[2]

    assert get(0) == b"one"
    app.write_text(text.replace("one", "two"))
    assert get(1) == b"two"
    app.write_text("x = (\n")
    until(lambda: program.events("ended"))
    [mistake] = [line["message"] for line in program.lines() if "SyntaxError" in line["message"]]
    assert "app:app can not be loaded" in mistake
    app.write_text(text.replace("one", "three"))
    assert get(2) == b"three"
    program.edit("service", "sevrice")
    until(lambda: len(program.events("ended")) == 2)
    assert any('did you mean "service"?' in line["message"] for line in program.lines())
    program.edit("sevrice", "service")
    assert get(3) == b"three"
    assert [event["files"] for event in program.events("reload")][-1] == ["wireway.toml"]
    assert program.end(signal.SIGINT) == 0
