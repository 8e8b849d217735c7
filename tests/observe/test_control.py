"""The control socket: what it answers, whom it refuses, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from wireway.observe.asking import AskedError, NoServerError, ask, find
from wireway.observe.control import Control, folder
from wireway.observe.table import COLUMNS


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def echo() -> wireway.Server:
    server = wireway.Server("tcp://127.0.0.1:0", framing=wireway.Lines())

    @server.on_message
    def back(conn: wireway.Connection, line: bytes) -> None:
        conn.user = line.decode()
        conn.join("all")
        conn.send_nowait(line)

    return server


async def asked(what: str, **more: Any) -> dict[str, Any]:
    [path] = find()
    return await asyncio.to_thread(ask, path, what, **more)


async def client(server: wireway.Server, name: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(name + b"\n")
    assert await reader.readline() == name + b"\n"
    return reader, writer


def test_what_it_tells(run: Run) -> None:
    async def main() -> None:
        async with echo() as server, Control([server], "echo") as control:
            assert control.path == folder() / f"{os.getpid()}.sock"
            assert stat.S_IMODE(control.path.stat().st_mode) == 0o600
            assert stat.S_IMODE(control.path.parent.stat().st_mode) == 0o700
            peers = [await client(server, name) for name in (b"ann", b"bob", b"charlotte")]
            about = await asked("about")
            assert (about["pid"], about["what"]) == (os.getpid(), "echo")
            assert about["servers"][0]["addresses"] == server.addresses
            assert about["servers"][0]["stats"]["open"] == 3
            listed = await asked("connections", sort="in", limit=2)
            assert listed["total"] == 3
            assert [row["user"] for row in listed["connections"]] == ["charlotte", "bob"] or (
                [row["user"] for row in listed["connections"]] == ["charlotte", "ann"]
            )
            row = listed["connections"][0]
            assert set(row) == set(COLUMNS)
            assert (row["in"], row["out"], row["messages_in"], row["groups"]) == (10, 10, 1, ["all"])
            assert row["state"] == "ESTABLISHED"
            for column in COLUMNS:
                assert (await asked("connections", sort=column))["total"] == 3
            assert (await asked("connections", matching="bob"))["total"] == 1
            assert (await asked("connections", matching="all"))["total"] == 3
            number = (await asked("connections", matching="bob"))["connections"][0]["id"]
            found = (await asked("describe", id=number))["connection"]
            assert found["user"] == "bob"
            assert found["tcp_info"]["state"] == "ESTABLISHED"
            assert found["explain"]
            assert await asked("kick", id=number, why="enough") == {"kicked": number}
            assert await peers[1][0].read() == b""
            ended = await asked("closed")
            assert [(row["id"], row["code"], row["why"]) for row in ended["closed"]] == [(number, "closed", "enough")]
            assert ended["counts"] == {"closed": 1}
            assert (await asked("closed", reason="peer-reset"))["closed"] == []
            for _, writer in peers:
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        assert not control.path.exists()

    run(main)


@pytest.mark.parametrize(
    ("what", "more", "words"),
    [
        ("dance", {}, "'dance' can not be asked"),
        ("connections", {"sort": "beauty"}, "no column 'beauty'"),
        ("connections", {"limit": "many"}, "invalid literal"),
        ("describe", {"id": 12345}, "no connection 12345"),
        ("kick", {}, "id"),
    ],
)
def test_what_can_not_be_asked(run: Run, what: str, more: dict[str, Any], words: str) -> None:
    async def main() -> None:
        async with echo() as server, Control([server]):
            with pytest.raises(AskedError, match=words):
                await asked(what, **more)
            assert (await asked("about"))["pid"] == os.getpid()  # it goes on

    run(main)


def test_what_is_no_question(run: Run) -> None:
    async def main() -> None:
        async with echo() as server, Control([server]) as control:
            reader, writer = await asyncio.open_unix_connection(str(control.path))
            for line in (b"nonsense\n", b"[]\n", b"\xff\n"):
                writer.write(line)
                assert "error" in json.loads(await reader.readline())
            writer.close()
            await writer.wait_closed()

    run(main)


def test_a_folder_that_others_may_enter_is_not_used(run: Run, tmp_path: Path) -> None:
    (tmp_path / "wireway").mkdir(mode=0o755)
    (tmp_path / "wireway").chmod(0o755)

    async def main() -> None:
        async with echo() as server:
            with pytest.raises(wireway.ConfigError, match="not a folder of this user alone"):
                async with Control([server]):
                    pass

    run(main)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: it becomes another user")
def test_other_users_are_refused(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        async with echo() as server, Control([server], path=tmp_path / "control.sock") as control:
            # Even where somebody has opened the way to it.
            control.path.chmod(0o777)
            for place in (tmp_path, *tmp_path.parents):
                if place.owner() == "root" and place != Path("/") and place != Path("/tmp"):
                    place.chmod(0o755)
            pid = await asyncio.to_thread(_ask_as_nobody, control.path)
            assert pid == 0

    run(main)


def _ask_as_nobody(path: Path) -> int:
    """0 if another user got no answer."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(path))
                sock.sendall(b'{"ask": "about"}\n')
                status = 1 if sock.recv(10) else 0
        except ConnectionError:
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(NoServerError, match="wireway serve"):
        find()
    with pytest.raises(NoServerError, match="process 1"):
        find(pid=1)
    place = folder()
    place.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place / "99999.sock"))
    with pytest.raises(NoServerError):
        find()
    assert not (place / "99999.sock").exists()  # of a process that was killed
