"""The control socket: what it answers, whom it refuses, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.peers import until
from support.tree import ROOT
from wireway.cli.watching import Look
from wireway.observe.answers import ASKED
from wireway.observe.asking import AskedError, Asker, NoServerError, ask, find
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


def test_a_folder_that_is_a_link_is_not_used(run: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "wireway").symlink_to(tmp_path / "elsewhere")

    async def main() -> None:
        async with echo() as server:
            with pytest.raises(wireway.ConfigError, match="not a folder of this user alone"):
                async with Control([server]):
                    pass

    run(main)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_reference_names_every_column_and_question() -> None:
    page = (ROOT / "docs" / "reference" / "control.md").read_text()
    for name in COLUMNS:
        assert f"`{name}`" in page, name
    for question in ASKED:
        assert f"\n## {question}\n" in page
    for key in Look().as_dict():
        assert f"`{key}`" in page.partition("## The output of commands")[2], key


def test_two_of_one_process_and_what_the_dead_left(run: Run) -> None:
    place = folder()
    place.mkdir(mode=0o700)
    for name in ("1.sock", f"{os.getpid()}.sock"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(place / name))

    async def main() -> None:
        async with echo() as one, echo() as two, Control([one], "one") as first, Control([two], "two") as second:
            assert first.path == place / f"{os.getpid()}.sock"
            assert second.path == place / f"{os.getpid()}-2.sock"
            assert sorted(place.iterdir()) == sorted([first.path, second.path])
            told = [(await asyncio.to_thread(ask, path, "about"))["what"] for path in find(os.getpid())]
            assert sorted(told) == ["one", "two"]
        assert list(place.iterdir()) == []

    run(main)


def test_a_question_without_end_and_one_who_never_reads(run: Run) -> None:
    async def main() -> None:
        async with echo() as server, Control([server]) as control:
            reader, writer = await asyncio.open_unix_connection(str(control.path))
            writer.write(b'{"ask": "about", "x": "' + b"y" * 2_000_000)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
                assert await reader.read() == b""
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            deaf = socket.socket(socket.AF_UNIX)
            deaf.setblocking(False)
            deaf.connect(str(control.path))
            question = b'{"ask": "about"}\n' * 1000
            with contextlib.suppress(BlockingIOError):
                while True:
                    deaf.send(question)
            assert (await asked("about"))["pid"] == os.getpid()
            assert control._server is not None
            assert control._server.stats.queued < 1_000_000
            deaf.close()

    run(main)


def test_a_look_in_pages_with_rates_and_the_time_of_handlers(run: Run) -> None:
    server = wireway.Server("tcp://127.0.0.1:0", framing=wireway.Lines(), stalls=None)
    going = asyncio.Event()

    @server.on_message
    async def back(conn: wireway.Connection, line: bytes) -> None:
        if line == b"work":
            time.sleep(0.05)  # noqa: ASYNC251 - a handler that computes
        if line == b"wait":
            await going.wait()
        await conn.send(line)

    async def main() -> None:
        async with server, Control([server]) as control:
            peers = [await client(server, b"x") for _ in range(250)]
            with contextlib.closing(await asyncio.to_thread(Asker, control.path)) as asker:

                async def look(**more: Any) -> list[dict[str, Any]]:
                    answer = await asyncio.to_thread(asker.ask, "connections", rates=True, **more)
                    assert answer["total"] == 250
                    rows: list[dict[str, Any]] = answer["connections"]
                    return rows

                rows = await look(sort="id", largest=False, limit=1000)
                assert [row["id"] for row in rows] == list(range(1, 251))
                assert {row["in_rate"] for row in rows} == {None}
                reader, writer = peers[7]
                writer.write(b"work\n" * 3)
                await reader.readexactly(15)
                peers[9][1].write(b"wait\n")
                await until(lambda: server.stats.handlers == 1)
                rows = await look(sort="handler", limit=1)
                assert (rows[0]["id"], rows[0]["handling"]) == (8, None)
                assert rows[0]["handler"] >= 0.1  # to the kernel's tick
                assert rows[0]["in_rate"] > 0
                [row] = await look(sort="handling", limit=1)
                assert row["id"] == 10
                assert 0 < row["handling"] <= row["handler"] <= row["age"]
                assert [row["id"] for row in await look(sort="messages_in_rate", limit=1)] in ([8], [10], [1])
                going.set()
                await peers[9][0].readexactly(5)
                assert [row["handling"] for row in await look(sort="id", limit=250)] == [None] * 250
            for _, writer in peers:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for _, writer in peers), return_exceptions=True)

    run(main)


def test_the_ends_by_reason_by_time_and_those_that_are_new(run: Run) -> None:
    async def main() -> None:
        async with echo() as server, Control([server]):
            for name in (b"one", b"two"):
                _, writer = await client(server, name)
                writer.close()
                await writer.wait_closed()
            await until(lambda: server.stats.open == 0)
            first = await asked("closed")
            assert [row["id"] for row in first["closed"]] == [2, 1]
            assert (await asked("closed", since=time.time() + 10))["closed"] == []
            assert len((await asked("closed", since=time.time() - 60))["closed"]) == 2
            assert (await asked("closed", after=first["after"]))["closed"] == []
            _, writer = await client(server, b"three")
            writer.close()
            await writer.wait_closed()
            await until(lambda: server.stats.open == 0)
            assert [row["id"] for row in (await asked("closed", after=first["after"]))["closed"]] == [3]
            with pytest.raises(AskedError, match="did you mean peer-closed"):
                await asked("closed", reason="peer-close")

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
