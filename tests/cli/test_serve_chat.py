"""`wireway serve chat` as a person meets it: what it says, its options, its mistakes, what `wireway ls` sees of it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from support.certificates import authority

WIREWAY = (sys.executable, "-m", "wireway")
CHAT = (*WIREWAY, "serve", "chat", "--port", "0", "--json-port", "0", "--web-port", "0")


def started(*options: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """It runs; the lines that it said, by their names."""
    process = subprocess.Popen([*CHAT, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = {}
    for line in process.stdout:
        name, _, text = line.strip().partition("  ")
        said[name] = text.strip()
        if name == "stop it":
            return process, said
    raise AssertionError(process.communicate())


def read_until(lines: IO[bytes], text: bytes) -> None:
    while text not in (line := lines.readline()):
        assert line, f"the end came before {text!r}"


def test_over_files_with_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    files = ("--unix", str(tmp_path / "lines"), "--json-unix", str(tmp_path / "json"))
    bounds = ("--room", "hall", "--history", "1", "--people", "2", "--text-length", "5")
    process, said = started(*files, *bounds)
    try:
        assert said["address"] == f"unix://{tmp_path}/lines"
        assert said["programs"].startswith(f"unix://{tmp_path}/json")
        assert said["try it"] == f"nc -U {tmp_path}/lines"
        assert said["limits"].startswith("2 people, 10,000 in a room, 1,000 rooms, 1 messages of history, 5 characters")
        with socket.socket(socket.AF_UNIX) as ann, socket.socket(socket.AF_UNIX) as bob:
            ann.connect(str(tmp_path / "lines"))
            ann.sendall(b"/nick ann\none\ntwo\ntoo long\n")
            heard = ann.makefile("rb")
            read_until(heard, b"! the message has 8 characters, at most 5")
            bob.connect(str(tmp_path / "lines"))
            late = bob.makefile("rb")
            read_until(late, b"in hall: ann, guest2")
            assert late.readline().endswith(b" [hall] ann: two\n")
            with socket.socket(socket.AF_UNIX) as third:
                third.connect(str(tmp_path / "json"))
                assert b'"code":"full"' in third.makefile("rb").read()
            listed = subprocess.run([*WIREWAY, "ls", "--json"], capture_output=True, text=True, check=True, timeout=60)
            users = [row["user"] for row in json.loads(listed.stdout)["connections"]]
            assert sorted(users) == ["ann", "guest2"]
            process.send_signal(signal.SIGTERM)
            read_until(late, b"* the server is going away")
            assert late.read() == b""
            heard.close()
            late.close()
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "stopped\n", "")
    finally:
        process.kill()
        process.communicate()


def test_over_tls(tmp_path: Path) -> None:
    cert, key = authority().issue("localhost").write(tmp_path, "localhost")
    process, said = started("--cert", str(cert), "--key", str(key))
    try:
        port = said["address"].rpartition(":")[2]
        assert said["try it"] == f"openssl s_client -quiet -connect 127.0.0.1:{port}"
        assert said["browsers"].startswith("https://127.0.0.1:")
        assert said["programs"].startswith("tls://127.0.0.1:")
        with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as sock:
            secured = authority().trust().wrap_socket(sock, server_hostname="localhost")
            with secured, secured.makefile("rb") as lines:
                assert lines.readline().startswith(b"* welcome, guest1.")
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (("--room", "a b"), 2, "room is 'a b'"),
        (("--origin", "example.org"), 2, "an origin is like https://example.org"),
        (("--cert", "nowhere.pem"), 4, "nowhere.pem is not there"),
        (("--unix", "/nowhere/at/all"), 4, "/nowhere/at/all"),
        (("--host", "203.0.113.9"), 2, "203.0.113.9 is not an address of this machine"),
        (("--history", "0"), 2, "--history"),
    ],
)
def test_mistakes(options: tuple[str, ...], status: int, text: str) -> None:
    done = subprocess.run([*CHAT, *options], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*CHAT, "--json-port", port], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 6
    assert done.stderr == f"Error: port {port} on 127.0.0.1 is taken by another program; choose another port\n"
