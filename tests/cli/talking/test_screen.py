"""`wireway connect` at a terminal: keys typed, the screen read."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from support.calling import COMMAND, echo, free_port, peer, read_to_end
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


def test_what_is_no_frame_can_be_cut_in_another_way_and_a_lost_connection_made_again(tmp_path: Path) -> None:
    """The commands of a session, the explanation of each receive, and what is found again with Ctrl-R."""
    again, back = threading.Event(), threading.Event()

    def talk(conn: socket.socket) -> None:
        conn.sendall(b"\2hi\3y")
        assert conn.recv(100) == b"\x10\0\0\0\0\xff"  # typed as hex, framed as fixed:6
        conn.sendall(b"o\1!")
        assert conn.recv(100) == b"\2ok"
        again.set()

    def twice(listening: socket.socket) -> None:
        for _ in range(2):
            conn, _ = listening.accept()
            with conn:
                conn.settimeout(60)
                if not again.is_set():
                    talk(conn)
                else:
                    back.set()
                    read_to_end(conn)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        thread = threading.Thread(target=twice, args=(listening,))
        thread.start()
        url = f"127.0.0.1:{listening.getsockname()[1]}"
        command = [*COMMAND, url, "-f", "tpkt", "--explain", "--reconnect", "--history", str(tmp_path / "history")]
        with terminal(command, columns=150, lines=45) as screen:
            screen.wait_for("receive 1: 5 bytes, 0 to 5: what is no frame", "what came is no frame: at 0: header 02")
            screen.wait_for(":framing NAME cuts it in another way", "what comes is no frame")
            screen.keys(":framing fixed:6", "Enter")
            screen.wait_for("fixed:6 framing from here on", "half a frame: 5 bytes are here, 1 missing")
            screen.keys(":x 10 00 00 00 00 ff", "Enter")
            screen.wait_for(r"< \x02hi\x03yo", "1 whole frame, which came in 2 receives")
            screen.keys(":framing length:1", "Enter")
            screen.wait_for("< !")
            screen.keys(":input text", "Enter", ":times", "Enter")
            screen.wait_for("what is typed is read as text", "before each line: clock")
            screen.keys(":info", "Enter", ":tcp", "Enter")
            screen.wait_for("nothing: neither side waits for the other", "state=ESTABLISHED")
            screen.keys("ok", "Enter")
            screen.wait_for("trying again in 0.", "closed: peer-closed")
            assert back.wait(60)
            screen.keys("C-r", "fixed")
            screen.wait_for("(reverse-i-search)`fixed': :framing fixed:6")
            screen.keys("C-g", "C-u", ":q", "Enter")
            screen.wait_for("ended 0")
        thread.join(60)


def test_each_line_that_is_pasted_is_a_message() -> None:
    heard: list[bytes] = []

    def talk(conn: socket.socket) -> None:
        conn.sendall(b"HTTP by hand\n")
        heard.append(read_to_end(conn))

    command = [*COMMAND, "--eol", "crlf", "--no-history", "--quiet"]
    with peer(talk) as url, terminal([*command, url], columns=100, lines=20) as screen:
        assert "connected to" not in screen.wait_for("< HTTP by hand", "sent 0")
        screen.paste("GET / HTTP/1.0\nHost: x\n\n")
        screen.wait_for("GET / HTTP/1.0")
        screen.keys("Enter")
        screen.wait_for("sent 3")
        screen.keys("C-d")
        assert "closed: " not in screen.wait_for("ended 0")
    assert heard == [b"GET / HTTP/1.0\r\nHost: x\r\n\r\n"]


def test_who_listens_may_answer_a_peer_that_has_ended_its_half() -> None:
    port = free_port()
    with terminal([*COMMAND, "-l", f"127.0.0.1:{port}", "--no-history"], columns=100, lines=20) as screen:
        screen.wait_for("listens on tcp://127.0.0.1:")
        with socket.create_connection(("127.0.0.1", port), 60) as conn:
            conn.sendall(b"question")
            conn.shutdown(socket.SHUT_WR)
            screen.wait_for("< question", "the peer has ended its half; what you type is still sent")
            screen.keys("answer", "Enter")
            assert conn.recv(100) == b"answer\n"
            screen.keys("C-d")
            assert conn.recv(100) == b""
        screen.wait_for("closed: peer-closed", "ended 0")


def test_a_dumb_terminal_without_unicode() -> None:
    with (
        peer(echo) as url,
        # tmux sets TERM itself.
        terminal(["env", "TERM=dumb", *COMMAND, url, "--no-history"], columns=60, lines=5, LC_ALL="C") as screen,
    ):
        screen.wait_for("can be typed")
        screen.keys(r"\u00e9", "Enter")
        screen.wait_for("< \xe9")
        screen.keys("C-c")
        assert "Traceback" not in screen.wait_for("ended 130")


def test_ctrl_c_in_a_terminal() -> None:
    with peer(read_to_end) as url, terminal([*COMMAND, url, "--no-history"], columns=100, lines=20) as screen:
        screen.wait_for("connected to")
        screen.keys("C-c")
        assert "Traceback" not in screen.wait_for("ended 130")


def test_nobody_there_in_a_terminal() -> None:
    with terminal([*COMMAND, f"127.0.0.1:{free_port()}"], columns=160, lines=20) as screen:
        assert "Traceback" not in screen.wait_for("nobody listens there", "ended 7")
