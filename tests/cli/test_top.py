"""`wireway top`, `ls`, `kick` and `closed` as a person meets them, in a real terminal where they need one."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.serving import WIREWAY, command, served
from support.terminal import terminal


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A running echo server, whose control socket is where the commands look."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with served("echo", "--port", "0") as address:
        yield int(address.rpartition(":")[2])


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


def test_the_view(peers: list[socket.socket], tmp_path: Path) -> None:
    with terminal([*WIREWAY, "top", "--interval", "0.3"], columns=130, lines=30) as top:
        screen = top.wait_for("open 5", "connections: 5 of 5, by in")
        rows = [line.split()[0] for line in screen.splitlines() if "ESTABLISHED" in line]
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
        top.wait_for("Close connection 3 from 127.0.0.1:")
        top.keys("n")
        top.wait_for("open 5", gone="Close connection")
        top.keys("C-k")
        top.wait_for("any other key: no")
        top.keys("y")
        top.wait_for("open 4")
        top.keys("s")
        top.wait_for("kicked by the operator", "closed: closed 1")
        top.keys("s")
        top.wait_for("stalls   ? help")
        top.keys("s")
        top.wait_for("servers   ? help", "back end", "listens")
        top.keys("s")
        top.wait_for("connections: 4 of 4")
        top.keys(":")
        top.wait_for("a column (")
        top.keys("handlr", "Enter")
        top.wait_for("'handlr' is no column and no command; did you mean handler?")
        top.keys("O")
        top.wait_for("by out")
        top.keys(":")
        top.wait_for("a column (")
        top.keys("msg out", "Enter")
        top.wait_for("by messages_out")
        top.keys("c")
        top.wait_for("its last messages are kept")
        number = json.loads(command("ls", "--json")[1])["connections"][0]["id"]
        peers[number - 1].sendall("grüß \x1b[2J dich".encode())
        assert peers[number - 1].recv(100)
        top.keys(":")
        top.wait_for("a column (")
        top.keys(f"d {number}", "Enter")
        top.wait_for(f"connection {number} of process")
        top.keys("q")
        top.wait_for("connections: 4 of 4", gone="of process")
        top.keys("q")
        top.wait_for("ended 0")


def test_a_small_terminal_and_a_server_that_goes_and_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with (
        served("echo", "--port", "0") as address,
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=30) as peer,
    ):
        peer.sendall(b"x")
        assert peer.recv(1) == b"x"
        context = terminal([*WIREWAY, "top", "--interval", "0.3"], columns=40, lines=10)
        top = context.__enter__()
        top.wait_for("connections: 1 of 1", "127.0.0.1:")
        top.keys("?")
        top.wait_for("q          leave")
        top.keys("q")
        top.wait_for("connections: 1 of 1", gone="leave")
    try:
        top.wait_for("no server answers; waiting for one")
        with served("echo", "--port", "0"):
            top.wait_for("open 0", gone="no server answers")
            top.keys("C-c")
            top.wait_for("ended 0")
    finally:
        context.__exit__(None, None, None)


def test_what_a_connection_said_last(peers: list[socket.socket]) -> None:
    assert command("capture", "2") == (0, "1 connection captured\n", "")
    peers[1].sendall("grüß \x1b[2J dich".encode())
    assert peers[1].recv(100)
    status, out, _ = command("ls", "2")
    assert status == 0
    assert "TCP_INFO" in out
    assert out.count(r"16  grüß \x1b[2J dich") == 2, out
    told = json.loads(command("ls", "2", "--json")[1])
    assert [each["way"] for each in told["connection"]["messages"]] == ["in", "out"]
    assert told["framing"] == {"kind": "Raw"}
    assert command("capture", "--off")[1] == "0 connections captured\n"
    assert "`wireway capture 2`" in command("ls", "2")[1]
    assert command("ls", "77") == (1, "", "Error: there is no connection 77: see `wireway ls`\n")


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
    status, _, err = command("closed", "--reason", "pear-closed")
    assert status == 2
    assert "no connection closes with 'pear-closed'; did you mean peer-closed?" in err
    assert command("closed", "--since", "soon")[0] == 2
    assert json.loads(command("closed", "--since", "1h", "--json")[1])["closed"]
    assert not json.loads(command("closed", "--since", "2001-01-01", "--json", "--reason", "denied")[1])["closed"]
    own = peers[0].getsockname()[1]
    assert command("kick", "--peer", f"127.0.0.1:{own}", "--yes") == (0, "1 connection closed\n", "")
    assert command("kick", "--filter", "127.0.0", "--yes") == (0, "3 connections closed\n", "")
    assert command("kick", "--user", "ann", "--yes")[0] == 1
    assert command("kick", "1", "--user", "ann")[0] == 2
    assert all(peer.recv(1) == b"" for peer in peers)


def test_following_the_ends(port: int) -> None:
    words = [*WIREWAY, "closed", "--follow", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for number in (1, 2):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as peer:
                peer.sendall(b"x")
                assert peer.recv(1) == b"x"
            told = json.loads(process.stdout.readline())
            assert (told["id"], told["code"], told["messages_in"]) == (number, "peer-closed", 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_it_asks_in_a_terminal(peers: list[socket.socket]) -> None:
    with terminal([*WIREWAY, "kick", "1"]) as screen:
        screen.wait_for("Close connection 1 from 127.0.0.1:")
        screen.keys("n", "Enter")
        screen.wait_for("ended 1")
    with terminal([*WIREWAY, "kick", "1"]) as screen:
        screen.wait_for("Close connection 1")
        screen.keys("y", "Enter")
        screen.wait_for("is closed", "ended 0")


@pytest.mark.parametrize("words", [("top", "--once"), ("ls",), ("kick", "1", "-y"), ("closed",), ("capture",)])
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
