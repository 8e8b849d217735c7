"""`wireway top`, `ls`, `kick` and `closed` as a person meets them, in a real terminal where they need one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.terminal import terminal

WIREWAY = (sys.executable, "-m", "wireway")


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A running echo server, whose control socket is where the commands look."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    process = subprocess.Popen(
        [*WIREWAY, "serve", "echo", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = 0
    for line in process.stdout:
        if line.startswith("  address"):
            found = int(line.rpartition(":")[2])
        if "stop it" in line:
            break
    assert found
    yield found
    process.terminate()
    process.communicate(timeout=30)


@pytest.fixture
def peers(port: int) -> Iterator[list[socket.socket]]:
    """Five connections, of which each has sent more than the one before."""
    made = []
    for number in range(1, 6):
        sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        sock.sendall(b"x" * number * 1000)
        left = number * 1000
        while left:
            left -= len(sock.recv(left))
        made.append(sock)
    yield made
    for sock in made:
        sock.close()


def command(*words: str) -> tuple[int, str, str]:
    done = subprocess.run([*WIREWAY, *words], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_view(peers: list[socket.socket], tmp_path: Path) -> None:
    with terminal([*WIREWAY, "top", "--interval", "0.3"], columns=130, lines=30) as top:
        screen = top.wait_for("open 5", "connections: 5 of 5, by in")
        rows = [line.split()[1] for line in screen.splitlines() if "ESTABLISHED" in line]
        assert rows == ["5", "4", "3", "2", "1"]
        top.keys("r")
        top.wait_for("in↑")
        top.keys(":")
        top.wait_for("a column (")
        top.keys("messages_in", "Enter")
        top.wait_for("by messages_in")
        top.keys("/")
        top.wait_for("part of the peer")
        top.keys("no such peer", "Enter")
        top.wait_for("0 of 0 with 'no such peer'")
        top.keys("/")
        top.wait_for("no such peer", "▔")
        top.keys("C-u", "Enter")
        top.wait_for("connections: 5 of 5")
        top.keys("?")
        top.wait_for("the other way round")
        top.keys("Escape")
        top.wait_for("connections: 5 of 5", gone="the other way round")
        top.keys("d")
        top.wait_for("TCP_INFO", "snd_cwnd")
        top.keys("Escape")
        top.wait_for("connections: 5 of 5", gone="TCP_INFO")
        top.keys(":")
        top.wait_for("a column (")
        top.keys("kick 3", "Enter")
        top.wait_for("Close connection 3?")
        top.keys("n")
        top.wait_for("open 5", gone="Close connection")
        top.keys("C-k")
        top.wait_for("any other key: no")
        top.keys("y")
        top.wait_for("open 4")
        top.keys("s")
        top.wait_for("kicked by the operator", "closed: closed 1")
        top.keys("s")
        top.wait_for("stalls:")
        top.keys(":")
        top.wait_for("a column (")
        top.keys("nonsense", "Enter")
        top.wait_for("no column and no command")
        top.keys("q")
        top.wait_for("ended 0")


def test_lists_for_people_and_programs(peers: list[socket.socket]) -> None:
    status, out, err = command("ls", "--sort", "in", "--limit", "2")
    assert (status, err) == (0, "")
    assert "127.0.0.1:" in out
    assert "2 of 5: --limit shows more" in out
    listed = json.loads(command("ls", "--sort", "in", "--reverse", "--json")[1])
    assert [row["in"] for row in listed["connections"]] == [1000, 2000, 3000, 4000, 5000]
    assert listed["total"] == 5
    once = json.loads(command("top", "--once", "--json", "--interval", "0.2")[1])
    assert once["sums"]["open"] == 5
    assert once["rates"]["accepted"] == 0
    status, out, _ = command("top", "--once", "--interval", "0.2")
    assert status == 0
    assert "open 5  accepted 5" in out


def test_kicking_and_what_is_left_of_it(peers: list[socket.socket]) -> None:
    number = json.loads(command("ls", "--json", "--sort", "in")[1])["connections"][0]["id"]
    status, _, err = command("kick", str(number))
    assert (status, err) == (8, "Error: there is no terminal to ask on: add --yes\n")
    status, out, err = command("kick", str(number), "--yes", "--why", "spam")
    assert (status, err) == (0, "")
    assert peers[-1].recv(1) == b""
    ended = json.loads(command("closed", "--json")[1])
    assert [(row["id"], row["why"]) for row in ended["closed"]] == [(number, "spam")]
    status, out, _ = command("closed", "--reason", "closed")
    assert status == 0
    assert "spam" in out
    assert command("kick", "999", "--yes")[0] == 1


def test_it_asks_in_a_terminal(peers: list[socket.socket]) -> None:
    with terminal([*WIREWAY, "kick", "1"]) as screen:
        screen.wait_for("Close connection 1 from 127.0.0.1:")
        screen.keys("n", "Enter")
        screen.wait_for("ended 1")
    with terminal([*WIREWAY, "kick", "1"]) as screen:
        screen.wait_for("Close connection 1")
        screen.keys("y", "Enter")
        screen.wait_for("is closed", "ended 0")


@pytest.mark.parametrize("words", [("top", "--once"), ("ls",), ("kick", "1", "-y"), ("closed",)])
def test_nobody_to_ask(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    status, out, err = command(*words)
    assert (status, out) == (9, "")
    assert err.startswith("Error: no running server was found")
    assert err.count("\n") == 1


def test_mistakes(port: int) -> None:
    assert command("top")[0] == 8
    assert "add --once" in command("top")[2]
    status, _, err = command("ls", "--sort", "beauty")
    assert status == 2
    assert "there is no column 'beauty'" in err
