"""`wireway serve --config` as a person and as a supervisor meet it: real processes, real connections, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.configured import LIMIT, Program, until

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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def start(text: str, *words: str) -> Program:
        programs.append(Program(tmp_path, text, *words))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


WEB = '[[listeners]]\naddress = "tcp://127.0.0.1:0"\nservice = "web"\n'


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


def test_a_successor_that_does_not_start_leaves_all_as_it_was(start: Callable[..., Program], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("async def app(scope, receive, send):\n    raise RuntimeError\n")
    program = start(f"{TWO}{WEB}options.target = 'app:app'\n")
    lines = program.started(2)["listeners"][0]["addresses"][0]
    client, before = program.connect(lines), program.workers()
    assert ask(client) == b"hi\n"
    (tmp_path / "app.py").write_text("app = (\n")
    program.edit('name = "one"\naddress = "tcp://127.0.0.1:0"', 'name = "one"\naddress = "unix://new.sock"')
    program.hang_up()
    program.says("the roll ends at worker 1, whose successor did not start: wireway.toml:16:1: web: app:app can not be")
    assert program.workers() == before
    assert ask(client) == ask(program.connect(lines)) == b"hi\n"
    assert not (tmp_path / "new.sock").exists()
    (tmp_path / "app.py").write_text("async def app(scope, receive, send):\n    raise RuntimeError\n")
    program.hang_up()
    program.says("every worker was replaced")
    assert ask(client) == ask(program.connect(f"unix://{tmp_path}/new.sock")) == b"hi\n"


def test_a_worker_that_dies_is_replaced_with_the_file_that_was_good(start: Callable[..., Program]) -> None:
    program = start(TWO)
    lines = program.started(2)["listeners"][0]["addresses"][0]
    program.file.write_text("this is = = no configuration\n")
    victim = min(program.workers())
    os.kill(victim, signal.SIGKILL)
    program.says("serves, process", 3)
    assert all(ask(program.connect(lines)) == b"hi\n" for _ in range(6))
    assert not any("no TOML" in line["message"] for line in program.lines())


def test_metrics_and_the_control_socket_outlive_a_worker(start: Callable[..., Program]) -> None:
    program = start(f'{TWO}[metrics]\naddress = "tcp://127.0.0.1:0"\n[control]\npath = "control.sock"\n')
    event = program.started(2)
    metrics = event["metrics"].partition("/metrics")[0].removeprefix("http://")
    path = program.file.parent / "control.sock"
    assert event["control"] == str(path)

    def answers() -> bool:
        command = [sys.executable, "-m", "wireway", "ls", "--json", "--socket", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        return done.returncode == 0

    def get() -> bytes:
        client = program.connect(f"tcp://{metrics}")
        client.sendall(b"GET /readyz HTTP/1.0\r\nHost: x\r\n\r\n")
        with client.makefile("rb") as answer:
            return answer.read()

    until(answers)
    assert path.stat().st_mode & 0o777 == 0o600
    program.hang_up()
    program.says("every worker was replaced")
    until(answers)
    assert b"ready" in get()
    assert program.end() == 0
    assert not path.exists()


ACTIVATE = """
import os, socket, sys
own = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))]
address = "tcp://%s:%d" % own[0].getsockname()
text = open("template").read().replace("ADDRESS", address)
open("wireway.toml", "w").write(text)
kept = [os.dup2(sock.fileno(), 20 + number) for number, sock in enumerate(own[:1])]
os.dup2(kept[0], 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "wireway", "serve", "--config", "wireway.toml"])
"""


@pytest.mark.parametrize("address", ["ADDRESS", "tcp://127.0.0.1:0"])
def test_a_socket_of_systemd_is_taken_by_its_address(tmp_path: Path, address: str) -> None:
    (tmp_path / "template").write_text(TWO.replace("tcp://127.0.0.1:0", address, 1))
    with subprocess.Popen(
        [sys.executable, "-c", ACTIVATE], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        if address != "ADDRESS":
            assert "which is the address of no listener" in next(lines)
            assert process.wait(LIMIT) == 2
            return
        for line in lines:
            if '"event": "started"' in line:
                break
        where = json.loads(line)["listeners"][0]["addresses"][0]
        assert where in (tmp_path / "wireway.toml").read_text()
        with socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])), timeout=LIMIT) as client:
            assert ask(client) == b"hi\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT)
        assert process.returncode == 0


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
