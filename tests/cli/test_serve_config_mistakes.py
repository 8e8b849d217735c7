"""`wireway serve --config` with what can not be served: one line for each mistake, and a status by kind."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.configured import COMMAND, LIMIT
from support.forbid import forbid_low_ports


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


def test_a_wrong_file_of_a_server_that_logs_for_programs_is_told_to_programs(tmp_path: Path) -> None:
    got, error = fails(tmp_path, f'{ONE}limts = {{}}\n[log]\nstyle = "json"\n')
    assert got == 3
    [line] = [json.loads(line) for line in error.splitlines()]
    assert line["message"].startswith('wireway.toml:4:1: unknown key "limts"')


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
