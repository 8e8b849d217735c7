"""`wireway connect` at a terminal: keys typed, the screen read."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from support.calling import COMMAND, free_port, peer, read_to_end
from support.terminal import terminal


def test_typing_in_a_terminal(tmp_path: Path) -> None:
    half, whole = threading.Event(), threading.Event()
    heard: list[bytes] = []

    def talk(conn: socket.socket) -> None:
        heard.append(conn.recv(100))
        conn.sendall(b"\0\3abc\0\5de")
        assert half.wait(60)
        conn.sendall(b"\x1bgh")
        heard.append(conn.recv(100))
        whole.set()
        heard.append(read_to_end(conn))
        conn.sendall(b"\0\3bye")

    history = tmp_path / "deep" / "history"
    with peer(talk) as url:
        command = [*COMMAND, url, "--framing", "length:2", "--history", str(history)]
        with terminal(command, columns=150, lines=40) as screen:
            screen.wait_for("connected to 127.0.0.1:", ":help tells")
            screen.keys("-l", r"h\x00ix")
            screen.keys("BSpace", "Enter")
            screen.wait_for("< abc", "half a frame: 4 bytes are here, 3 missing")
            screen.wait_for("waits: 4 bytes of an unfinished frame", "needs 3 more bytes of the body of 5")
            screen.keys("begun")  # and while it is typed, the other side speaks
            screen.wait_for("> begun")
            half.set()
            screen.wait_for(r"< de\x1bgh", "> begun", gone="half a frame")
            screen.keys("Enter")
            assert whole.wait(30)
            screen.keys(":nothing", "Enter")
            screen.wait_for("no command: :help lists them")
            screen.keys(r"\q", "Enter")
            screen.wait_for("is no escape")
            screen.keys(":hex", "Enter")
            screen.wait_for("shown as hex")
            screen.keys("C-d")
            screen.wait_for("62 79 65", "closed: peer-closed", "ended 0")
    assert heard == [b"\0\3h\0i", b"\0\5begun", b""]
    assert history.stat().st_mode & 0o777 == 0o600
    assert "+begun\n" in history.read_text()


def test_ctrl_c_in_a_terminal() -> None:
    with peer(read_to_end) as url, terminal([*COMMAND, url, "--no-history"], columns=100, lines=20) as screen:
        screen.wait_for("connected to")
        screen.keys("C-c")
        assert "Traceback" not in screen.wait_for("ended 130")


def test_nobody_there_in_a_terminal() -> None:
    with terminal([*COMMAND, f"127.0.0.1:{free_port()}"], columns=160, lines=20) as screen:
        assert "Traceback" not in screen.wait_for("nobody listens there", "ended 7")
