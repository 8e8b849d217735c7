"""Events: what hooks hear of a server's life, and what JSON logs have of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.tree import ROOT
from wireway import events
from wireway.cli.logs import _JsonLines

ANYWHERE = "tcp://127.0.0.1:0"


async def connect(server: wireway.Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
    return await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize("greets", ["nobody", "function", "coroutine"])
def test_a_servers_life(run: Run, greets: str) -> None:
    heard: list[events.Event] = []
    greeted: list[int] = []

    async def main() -> None:
        limits = wireway.Limits(connections=1)
        server = wireway.Server(ANYWHERE, framing=wireway.Lines(max_size=10), limits=limits)
        server.on_message(lambda conn, line: None)
        server.on_event(heard.append)
        if greets == "function":
            server.on_connect(lambda conn: greeted.append(len(heard)))
        elif greets == "coroutine":

            @server.on_connect
            async def greet(conn: wireway.Connection) -> None:
                greeted.append(len(heard))

        async with server:
            place = server.addresses[0]
            reader, writer = await connect(server)
            writer.write(b"hello\n")
            while not server.stats.messages_in:  # noqa: ASYNC110  it comes over a socket
                await asyncio.sleep(0.001)
            second, other = await connect(server)
            assert await second.read() == b""
            writer.write(b"longer than ten bytes\n")
            assert await reader.read() == b""
            names = (writer.get_extra_info("sockname"), other.get_extra_info("sockname"))
            for each in (writer, other):
                each.close()
                await asyncio.gather(each.wait_closed(), return_exceptions=True)
        started, opened, refused, closed, drains, drained, stopped = heard
        assert started == events.ServerStarted(
            at=started.at, server=place, addresses=(place,), backend=server_backend[0]
        )
        assert opened == events.ConnectionOpened(at=opened.at, server=place, connection=1, peer=names[0])
        assert isinstance(refused, events.ConnectionRefused)
        assert (refused.code, refused.peer, refused.connection) == ("limit-connections", names[1], 2)
        assert isinstance(closed, events.ConnectionClosed)
        assert (closed.code, closed.side, closed.connection) == ("frame-too-large", "peer", 1)
        assert (closed.peer, closed.bytes_in) == (names[0], 28)
        assert [type(each).__name__ for each in (drains, drained, stopped)] == [
            "DrainBegan",
            "DrainEnded",
            "ServerStopped",
        ]
        assert all(abs(each.at - time.time()) < 60 for each in heard)
        assert closed.as_dict()["peer"] == f"{names[0][0]}:{names[0][1]}"
        json.dumps([each.as_dict() for each in heard])
        assert greeted == ([2] if greets != "nobody" else [])

    server_backend: list[str] = []

    async def outer() -> None:
        server_backend.append(asyncio.get_running_loop().backend)  # type: ignore[attr-defined]
        await main()

    logging.getLogger("wireway.server").setLevel(logging.CRITICAL)
    try:
        run(outer)
    finally:
        logging.getLogger("wireway.server").setLevel(logging.NOTSET)


def test_a_hook_that_fails_is_told_and_harms_nobody(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    @events.listen
    def broken(event: events.Event) -> None:
        seen.append(event.name)
        raise ZeroDivisionError

    async def main() -> None:
        server = wireway.Server(ANYWHERE, framing=wireway.Lines())
        server.on_message(lambda conn, line: conn.send_nowait(line))
        async with server:
            reader, writer = await connect(server)
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            writer.close()
            await writer.wait_closed()

    try:
        with caplog.at_level(logging.ERROR, "wireway.events"):
            run(main)
    finally:
        events.unlisten(broken)
    assert seen[:2] == ["server-started", "connection-opened"]
    assert seen[-1] == "server-stopped"
    assert caplog.text.count("a hook failed at the event") == len(seen)


def test_nothing_is_made_where_nobody_listens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr("wireway.net.server.closed_event", lambda *words: made.append(words))

    async def main() -> None:
        server = wireway.Server(ANYWHERE, framing=wireway.Lines())
        server.on_message(lambda conn, line: None)
        async with server:
            _, writer = await connect(server)
            writer.close()
            await writer.wait_closed()
        assert not made

    run(main)


def test_json_lines_have_the_fields(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = wireway.Server(ANYWHERE, framing=wireway.Lines(max_size=10))
        server.on_message(lambda conn, line: None)
        async with server:
            reader, writer = await connect(server)
            writer.write(b"longer than ten bytes\n")
            assert await reader.read() == b""
            peer = writer.get_extra_info("sockname")
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            [record] = [each for each in caplog.records if each.name == "wireway.server"]
            line = json.loads(_JsonLines().format(record))
            assert line["event"] == "connection-closed"
            assert (line["connection"], line["peer"], line["code"]) == (1, f"{peer[0]}:{peer[1]}", "frame-too-large")
            assert (line["server"], line["level"]) == (server.addresses[0], "warning")

    with caplog.at_level(logging.WARNING, "wireway.server"):
        run(main)


def test_json_lines_of_a_supervisor(tmp_path: Path) -> None:
    command = ["serve", "echo", "--port", "0", "--workers", "2", "--log", "json"]
    program = subprocess.Popen(
        [sys.executable, "-m", "wireway", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert program.stderr is not None
    lines: list[dict[str, Any]] = []
    try:
        while sum(line.get("event") == "worker-started" for line in lines) < 3:
            text = program.stderr.readline()
            assert text, lines
            lines.append(json.loads(text))
            started = [line for line in lines if line.get("event") == "worker-started"]
            if len(started) == 2 and started[-1] is lines[-1]:
                os.kill(started[0]["pid"], signal.SIGKILL)
        [died] = [line for line in lines if line.get("event") == "worker-died"]
        assert (died["pid"], died["how"]) == (started[0]["pid"], "killed by SIGKILL")
        assert (started[2]["worker"], started[2]["generation"]) == (died["worker"], 2)
    finally:
        program.terminate()
        program.communicate(timeout=60)


def test_the_page_lists_every_event() -> None:
    page = (ROOT / "docs" / "how-to" / "react-to-events.md").read_text()
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))
    kinds = [getattr(events, name) for name in events.__all__]
    names = {kind.name for kind in kinds if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert listed == names - {"event"}
