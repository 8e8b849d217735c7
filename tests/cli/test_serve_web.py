"""`wireway serve web` as a person meets it: files, an application, logs, mistakes."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-m", "wireway", "serve", "web")
APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"from the app"})
"""
Start = Iterator[subprocess.Popen[str]]


class Web:
    """A server in a child, once it has said where it listens."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *words, "--port", "0"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.said = ""
        for line in self.process.stderr if "json" in words else self.process.stdout:
            self.said += line
            if "stop it" in line or '"event": "started"' in line:
                break
        found = re.findall(r"(tcp://[\d.:]+)", self.said)
        assert found, self.said + self.process.communicate()[1]
        self.url = found[0].replace("tcp://", "http://")

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            data: bytes = answer.read()
            return data

    def end(self) -> tuple[str, str]:
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, err
        return out, err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("<h1>a page</h1>")
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "broken.py").write_text("import os\nimport not_here\n")
    return tmp_path


def test_a_folder(folder: Path) -> None:
    web = Web(folder, ".")
    assert web.get("/") == b"<h1>a page</h1>"
    with pytest.raises(urllib.error.HTTPError) as missing:
        web.get("/none")
    missing.value.close()
    assert missing.value.code == 404
    assert f"curl {web.url}/" in web.said
    out, err = web.end()
    assert out == "stopped\n"
    assert '"GET / HTTP/1.1" 200 15' in err
    assert '"GET /none HTTP/1.1" 404' in err


def test_an_application_and_a_log_for_programs(folder: Path) -> None:
    web = Web(folder, "shop:app", "--log", "json")
    assert web.get("/a?b=c") == b"from the app"
    out, err = web.end()
    lines = [json.loads(line) for line in (web.said + err).splitlines()]
    assert out == ""
    assert [line["event"] for line in lines if "event" in line] == ["started", "stopped"]
    [access] = [line for line in lines if line["logger"] == "wireway.access"]
    assert access["level"] == "info"
    assert '"GET /a?b=c HTTP/1.1" 200 12' in access["message"]
    said = {name: access[name] for name in ("method", "target", "version", "status", "bytes", "scheme")}
    assert said == {
        "method": "GET",
        "target": "/a?b=c",
        "version": "1.1",
        "status": 200,
        "bytes": 12,
        "scheme": "http",
    }
    assert access["user_agent"].startswith("Python-urllib")
    assert 0 <= access["seconds"] < 30


CLIENT = """
def make():
    async def app(scope, receive, send):
        body = repr((scope["client"], scope["scheme"], scope["root_path"], scope["path"])).encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
    return app
"""


@pytest.mark.parametrize(
    ("words", "client"),
    [((), "192.0.2.1"), (("--no-proxy-headers",), "127.0.0.1"), (("--forwarded-allow-ips", "10.0.0.0/8"), "127.0.0.1")],
)
def test_behind_a_proxy(folder: Path, words: tuple[str, ...], client: str) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "made.py").write_text(CLIENT)
    web = Web(
        folder,
        *("made:make", "--factory", "--app-dir", "src", "--root-path", "/app", "--lifespan", "off", *words),
        *("--no-server-header", "--no-date-header"),
    )
    request = urllib.request.Request(
        web.url + "/a", headers={"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        got = ast.literal_eval(answer.read().decode())
        assert answer.headers["server"] is None
        assert answer.headers["date"] is None
    assert (got[0][0], got[2:]) == (client, ("/app", "/app/a"))
    assert got[1] == ("https" if client == "192.0.2.1" else "http")
    _, err = web.end()
    assert f"{client}:" in err  # the log names the client too


def test_limits(folder: Path) -> None:
    web = Web(
        folder, ".", "--limit-connections", "1", "--timeout-head", "0.2", "--body-size", "10", "--head-size", "2000"
    )
    address = ("127.0.0.1", int(web.url.rpartition(":")[2]))
    with socket.create_connection(address) as first, socket.create_connection(address) as second:
        second.settimeout(30)
        assert second.recv(1) == b""  # closed at once
        first.sendall(b"GET / HTTP/1.1\r\n")
        assert first.recv(100).startswith(b"HTTP/1.1 408")
    _, err = web.end()
    assert '- "-" 408' in err


def test_several_workers_say_it_once(folder: Path) -> None:
    web = Web(folder, "shop:app", "--workers", "2", "--no-access-log")
    assert web.get("/") == b"from the app"
    assert web.said.count("try it") == 1
    assert "  workers      2\n" in web.said
    out, _ = web.end()
    assert out == "stopped\n"


def fails(folder: Path, *words: str) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*COMMAND, *words], cwd=folder, capture_output=True, text=True, timeout=30, check=False, env=environment
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("./nothing",), 4, "nothing is not there"),
        (("nothing",), 2, "write a path, or module:app"),
        (("nothing:app",), 2, "there is no module 'nothing'"),
        (("shop:nothing",), 2, "has no 'nothing'"),
        (("shop.py:app",), 2, "write that of the module, as in shop:app"),
        (("./shop.py:app",), 2, "write that of the module, as in shop:app"),
        ((".shop:app",), 2, "'.shop' is no name of a module"),
        (("broken:app",), 2, "ModuleNotFoundError: No module named 'not_here', "),
        (("broken:app",), 2, "broken.py, line 2"),
        (("shop:app", "--factory"), 2, "shop:app() can not be loaded: TypeError"),
        (("shop:app", "--app-dir", "none"), 4, "none is not there"),
        (("shop:app", "--forwarded-allow-ips", "proxy"), 2, "forwarded_allow has 'proxy'"),
        ((".", "--key", "shop.py"), 2, "--key is of no use without --cert"),
        ((".", "--cert", "none.pem"), 4, "none.pem is not there"),
        ((".", "--root-path", "a"), 2, "root_path is 'a'"),
        ((".", "--workers", "many"), 2, "neither a number from 1 up nor auto"),
    ],
)
def test_mistakes_are_one_line(folder: Path, words: tuple[str, ...], status: int, text: str) -> None:
    got, error = fails(folder, *words)
    assert text in error
    assert "Traceback" not in error
    assert got == status, error
    assert len([line for line in error.splitlines() if line.startswith("Error: ")]) == 1


def test_a_taken_port(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        status, error = fails(folder, ".", "--port", str(other.getsockname()[1]))
    assert status == 6
    assert "taken by another program" in error


def test_it_starts_anew_when_a_file_changes(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    process = subprocess.Popen(
        [*COMMAND, "shop:app", "--reload", "--port", str(port)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    seen = threading.Event()

    def change() -> None:
        """Until it is seen: the watching may begin after the server does."""
        while not seen.wait(0.5):
            (folder / "shop.py").write_text(APP.replace("from the app", "from another"))

    changing = threading.Thread(target=change)
    try:
        assert process.stdout is not None
        said = iter(process.stdout)
        assert any("stop it" in line for line in said)
        changing.start()
        assert any("changed: shop.py; starting anew" in line for line in said)
        seen.set()
        assert any("stop it" in line for line in said)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.read() == b"from another"
    finally:
        seen.set()
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
