"""Each example runs, on every back end, and does what its docstring says."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.examples import FOLDER, example, path_of
from support.peers import Ends
from wireway.testing import FakeClock, FaultyLink, check_service, no_leaks, served

FILES = sorted(FOLDER.glob("*.py"))
DAY = 86400.0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_short_and_says_how_to_try_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    assert f"Try it: python examples/{path.name}" in (ast.get_docstring(ast.parse(text)) or "")
    assert 'if __name__ == "__main__":' in text


def test_they_are_numbered() -> None:
    assert [int(path.stem[:2]) for path in FILES] == list(range(1, len(FILES) + 1))


def test_01_echo(run: Run) -> None:
    with no_leaks():
        run(check_service, example(1).server, [(b"one", [b"one"]), (b"two", [b"two"])])


def test_02_lines_chat(run: Run) -> None:
    async def main() -> None:
        async with served(example(2).server) as running:
            ann, bob, bobs_phone = [await running.connect() for _ in range(3)]
            for client, name, others in ((ann, b"ann", ()), (bob, b"bob", (ann,)), (bobs_phone, b"bob", (ann, bob))):
                assert await client.receive() == b"* what is your name?"
                await client.send(name)
                for one in (client, *others):
                    assert await one.receive() == b"* %b is here" % name
            await ann.send(b" hello ")
            assert await bob.receive() == await bobs_phone.receive() == b"ann: hello"
            await ann.send(b"/to bob only you")
            assert await bob.receive() == await bobs_phone.receive() == b"ann to you: only you"
            await ann.send(b"/to eve hello")
            assert await ann.receive() == b"* nobody here is called eve"
            await ann.close()
            assert await bob.receive() == b"* ann left (peer-closed)"

    run(main)


def test_03_length_prefix_game(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run(example(3).demo)
    assert capsys.readouterr().out.splitlines() == [f"player 1 is at {place}" for place in ("0, 1", "1, 1", "2, 1")]

    async def main() -> None:
        async with served(example(3).server, faults=True) as running:
            running.link.slice(1)
            first, second = await running.connect(), await running.connect()
            for mover, move, place in ((second, b"W", (-1, 0)), (first, b"N", (0, 1)), (second, b"W", (-2, 0))):
                await mover.send(move)
                for one in (second, first):
                    assert struct.unpack(">Ihh", await one.receive())[1:] == place
            await first.send(b"X")
            assert [message async for message in first] == []

    run(main)


def test_04_slow_handlers(run: Run) -> None:
    async def main() -> None:
        module = example(4)
        module.SECONDS = 0.2
        async with served(module.server) as running:
            clients = [await running.connect() for _ in range(8)]
            begun = time.monotonic()
            answers = await asyncio.gather(*(client.request(b"x") for client in clients))
            assert time.monotonic() - begun < 8 * 0.2, "they did not wait for each other"
            assert all(answer.startswith(b"x, looked up by") for answer in answers)

    run(main)


def test_05_timeouts_and_heartbeats(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with served(example(5).server) as running:
            silent, dead, alive = [await running.connect() for _ in range(3)]
            for client in (dead, alive):
                assert await client.request(b"x") == b"noted: x"
            assert await alive.request(b"PING") == b"PONG"
            with FakeClock() as clock:
                await clock.advance(12, step=0.5)
                assert [message async for message in silent] == []
                await clock.advance(20, step=0.5)
                assert await alive.receive() == b"ping"
                await alive.send(b"pong")
                await clock.advance(0)
                assert await dead.receive() == b"ping"
                await clock.advance(12, step=0.5)
                assert [message async for message in dead] == []
                assert await alive.request(b"y") == b"noted: y"

    run(main, limit=DAY)
    told = capsys.readouterr().out
    assert "first-message-timeout" in told
    assert "heartbeat-timeout" in told


def test_06_limits(run: Run) -> None:
    async def main() -> None:
        server = example(6).server
        ends = Ends(server)
        async with served(server) as running:
            clients = [await running.connect() for _ in range(3)]
            assert [await client.request(b"x") for client in clients] == [b"x"] * 3
            refused = await running.connect()
            assert [message async for message in refused] == []
            assert b"'limit-address': 1" in await clients[0].request(b"stats")
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            assert await reader.read() == b""
            writer.close()
            await clients[2].close()
            assert (await ends.next()).code == "peer-closed", "those that were refused never were connections"
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b"x" * 300)
            assert await reader.read() == b""
            writer.close()
            assert (await ends.next()).code == "frame-too-large"
            assert server.stats.closed == {"limit-address": 2, "peer-closed": 1, "frame-too-large": 1}

    run(main)


def test_07_broadcast_groups(run: Run) -> None:
    async def main() -> None:
        async with served(example(7).server) as running:
            reader, writer = await running.connect(), await running.connect()
            assert await reader.request(b"?") == b"no topics"
            await reader.send(b"+news")
            assert await reader.request(b"?") == b"news (1)"
            assert await writer.request(b"news it rains") == b"sent to 1"
            assert await reader.receive() == b"news: it rains"
            await reader.send(b"-news")
            assert await reader.request(b"?") == b"no topics"
            assert await writer.request(b"news again") == b"sent to 0"

    run(main)


def test_08_client_reconnect(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with served(example(1).server) as running:
            with FaultyLink(running.address) as link:
                counting = asyncio.create_task(example(8).main(link.address, pause=0.01, count=30))
                await asyncio.to_thread(link.wait, lambda counts: counts.downstream >= 6)
                link.drop_connections()
                await asyncio.to_thread(link.wait, lambda counts: counts.accepted == 2)
                heard = await counting
                assert b"it is me again" in heard

    run(main)
    assert "peer-closed" in capsys.readouterr().out


def test_09_request_response(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(example(9).main) == [*range(0, 200, 2), 42]
    assert "no answer" in capsys.readouterr().out


def test_10_why_it_closed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(example(10).main) == ["truncated-frame", "peer-reset", "handler-error"]
    told = capsys.readouterr().out
    assert "division by zero" in told or "ZeroDivisionError" in told


def test_11_tls(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(example(11).main) == ["the client showed no certificate, and must"]
    told = capsys.readouterr().out
    assert "device-7 over TLSv1.3: it is 21 degrees" in told
    assert "and I am still here" in told


def test_12_zero_downtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a free port, as it starts itself anew from its file."""
    path = tmp_path / "program.py"
    path.write_text(path_of(12).read_text().replace("127.0.0.1:9000", "127.0.0.1:0"))
    monkeypatch.setattr(sys, "argv", [str(path)])
    names: dict[str, Any] = {"__name__": "program", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), names)
    first, second = names["main"]()
    assert first.endswith(": your line 1 is hello")
    assert second.endswith(": your line 2 is still there?")
    assert first.split(":")[0] != second.split(":")[0]


def test_13_half_packets(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    module = example(13)
    got = run(module.main)
    assert got["framed"] == [b"hello", b"how", b"are", b"you"]
    assert b"".join(got["raw"]) == b"".join(module.PIECES)
    told = capsys.readouterr().out
    assert "the length field says 5, needs 3 more bytes of the body of 5" in told


def test_14_out_of_descriptors(backend: str) -> None:
    environment = {**os.environ, "WIREWAY_BACKEND": backend}
    words = [sys.executable, str(path_of(14))]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60)
    without, limited = done.stdout.splitlines()
    assert re.fullmatch(r"no limit: +\{'answered': (2\d|3\d), 'closed': 0, 'waiting': (2\d|3\d)\}", without)
    assert limited == "connections=10: {'answered': 10, 'closed': 50, 'waiting': 0}", done.stderr
    assert "Too many open files" in done.stderr


def test_15_leaked_connections() -> None:
    """Takes its time, and heartbeats have tests of their own: once is enough."""
    module = example(15)
    assert wireway.run(module.evening(None)) == (21, {})
    heartbeat = wireway.Heartbeat(every=0.2, timeout=0.3, ping=b"ping", pong=b"pong")
    assert wireway.run(module.evening(heartbeat)) == (1, {"heartbeat-timeout": 20})


def test_16_one_slow_handler() -> None:
    module = example(16)
    seconds, stalls = wireway.run(module.slowest("blocking"))
    assert seconds > 0.4
    assert [(stall.cause, "time.sleep(SECONDS)" in str(stall.stack)) for stall in stalls] == [("blocked", True)]
    for how in ("threads", "await"):
        seconds, _ = wireway.run(module.slowest(how))
        assert seconds < 0.4, f"{how}: nobody else waits for the slow one"


def test_17_resets(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    causes = dict(run(example(17).main))
    assert causes.pop("reads, closes") == "peer-closed"
    assert set(causes.values()) == {"peer-reset"}
    assert len(causes) == 4
    assert "BrokenPipeError" in capsys.readouterr().out
