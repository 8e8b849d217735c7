"""`wireway connect` as a person meets it: pipes, scripts, a terminal, half packets, mistakes."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.calling import COMMAND, echo, free_port, peer, read_to_end, run
from support.certificates import authority, localhost, stranger
from wireway.cli.command import app

# --- pipes ---------------------------------------------------------------------------------------------------------


def test_bytes_go_both_ways_as_they_are() -> None:
    data = bytes(range(256)) * 4096
    with peer(echo) as url:
        done = run(url, given=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_a_file_is_sent_and_a_file_is_written(tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(1_000_000))
    with peer(echo) as url, there.open("rb") as stdin, back.open("wb") as stdout:
        done = subprocess.run([*COMMAND, url], stdin=stdin, stdout=stdout, timeout=60, check=False)
    assert done.returncode == 0
    assert back.read_bytes() == there.read_bytes()


def test_our_half_ends_with_stdin_and_what_comes_later_is_still_written() -> None:
    def late(conn: socket.socket) -> None:
        assert read_to_end(conn) == b"question"
        conn.sendall(b"answer")

    with peer(late) as url:
        done = run(url, given=b"question")
    assert (done.returncode, done.stdout) == (0, b"answer")


def test_the_peer_may_speak_first_and_end_first() -> None:
    with peer(lambda conn: conn.sendall(b"bye")) as url:
        process = subprocess.Popen([*COMMAND, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:  # stdin stays open
            assert process.stdout.read() == b"bye"
            assert process.wait(30) == 0


def test_lines_are_messages_of_a_framing() -> None:
    def talk(conn: socket.socket) -> None:
        assert read_to_end(conn) == b"\2\0hi\0\0\3\0you"
        conn.sendall(b"\2\0ok\1\0\n")

    with peer(talk) as url:
        done = run(url, "--framing", "length:2:le", given=b"hi\r\n\nyou")
    assert (done.returncode, done.stdout) == (0, b"ok\n\n\n")


def test_lines_of_hex_and_of_escapes() -> None:
    with peer(echo) as url:
        assert run(url, "--input", "hex", given=b"00 ff\n0a\n").stdout == b"\0\xff\n"
    with peer(echo) as url:
        assert run(url, "--input", "escaped", "--eol", "crlf", given=rb"a\x00b").stdout == b"a\0b\r\n"
    with peer(read_to_end) as url:
        done = run(url, "--input", "hex", given=b"00\nxx\n")
    assert done.returncode == 1
    assert b"line 2 of stdin: 'xx' is not hex" in done.stderr


def test_views_and_timestamps() -> None:
    with peer(echo) as url:
        done = run(url, "--hex", "-t", "--framing", "lines", given=b"abc\n")
    stamp, _, row = done.stdout.decode().partition(" ")
    assert len(stamp) == len("12:00:00.000")
    assert row == "00000000  61 62 63                                          |abc|\n"
    with peer(echo) as url:
        assert run(url, "--view", "text", given=b"one\n\x1b[2J\n").stdout == b"one\n\\x1b[2J\n"


def test_nobody_reads_any_more() -> None:
    def flood(conn: socket.socket) -> None:
        try:
            while True:
                conn.sendall(bytes(65536))
        except OSError:
            return

    with peer(flood) as url:
        process = subprocess.Popen(
            [*COMMAND, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.read(10) == bytes(10)
        process.stdout.close()
        process.stdout = None
        assert process.communicate(timeout=30)[1] == b""
        assert process.returncode == 0


# --- half packets and ends -----------------------------------------------------------------------------------------


def test_half_a_packet_that_waits_is_explained() -> None:
    go_on = threading.Event()

    def slow(conn: socket.socket) -> None:
        conn.sendall(b"\0\0\0\x05hello\0\0\0\x0ahel")
        assert go_on.wait(30)
        conn.sendall(b"lo worl")

    with peer(slow) as url:
        process = subprocess.Popen(
            [*COMMAND, url, "-f", "length:4"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        said = process.stderr.readline().decode()
        go_on.set()
        out, err = process.communicate(timeout=30)
    assert "waits: 7 bytes of an unfinished frame" in said
    assert "the length field says 10, needs 7 more bytes of the body of 10" in said
    assert "00 00 00 0a 68 65 6c |....hel|" in said
    assert (process.returncode, out, err) == (0, b"hello\nhello worl\n", b"")


def test_an_end_within_a_frame() -> None:
    with peer(lambda conn: conn.sendall(b"\0\0\0\x0ahel")) as url:
        done = run(url, "-f", "length")
    assert done.returncode == 1
    assert b"Error: the connection ended within a frame: 7 bytes" in done.stderr
    assert b"needs 7 more bytes" in done.stderr


def test_what_is_no_frame_is_explained_after_what_was() -> None:
    def talk(conn: socket.socket) -> None:
        conn.sendall(b"\3\0\0\7abcHTTP/1.1 400 Bad Request\r\n")
        read_to_end(conn)

    with peer(talk) as url:
        done = run(url, "-f", "tpkt")
    assert (done.returncode, done.stdout) == (1, b"abc\n")
    assert b"what came is no frame" in done.stderr
    assert b"HTTP" in done.stderr


def test_why_it_closed() -> None:
    def reset(conn: socket.socket) -> None:
        conn.recv(1)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with peer(reset) as url:
        done = run(url, given=b"x")
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: the connection broke off: peer-reset")
    with peer(echo) as url:
        done = run(url, "--verbose")
    assert done.returncode == 0
    assert b"connected to 127.0.0.1:" in done.stderr
    assert b"peer-closed" in done.stderr


# --- scripts -------------------------------------------------------------------------------------------------------


def test_send_and_expect() -> None:
    def shop(conn: socket.socket) -> None:
        conn.sendall(b"220 ready\r\n")
        assert conn.recv(100) == b"HELO\r\n"
        conn.sendall(b"250 ")
        conn.sendall(b"OK\r\n")
        assert read_to_end(conn) == b""

    with peer(shop) as url:
        done = run(url, "--send", r"HELO\r\n", "--expect", "220", "--expect", r"/^250 ok/i", given=None)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"220 ready\r\n250 OK")


def test_expected_and_not_come() -> None:
    with peer(echo) as url:
        done = run(url, "--send", "PING", "--expect", "PONG", "--timeout", "0.5")
    assert done.returncode == 1
    assert done.stderr == b"Error: 'PONG' did not come in 0.5 s: what came instead ends in: PING\n"
    with peer(lambda conn: conn.sendall(b"no")) as url:
        done = run(url, "--expect", "PONG")
    assert done.returncode == 1
    assert b"'PONG' did not come before the end (peer-closed): what came instead ends in: no" in done.stderr


def test_it_is_over_in_time_or_not() -> None:
    with (
        peer(read_to_end) as url,
        subprocess.Popen([*COMMAND, url, "--timeout", "0.5"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as one,
    ):
        assert one.wait(30) == 1
        assert one.stderr is not None
        assert one.stderr.read() == b"Error: it was not over in 0.5 s\n"


# --- the other side, Unix sockets, TLS -----------------------------------------------------------------------------


@contextmanager
def listening(*words: str, given: bytes) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`wireway connect --listen`, its URL, and what stdin gave it."""
    command = [*COMMAND, "--listen", *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        said = process.stderr.readline().decode()
        assert said.startswith("listens on "), said + process.stderr.read().decode()
        process.stdin.write(given)
        process.stdin.flush()
        try:
            yield said.split()[2].rstrip(","), process
        finally:
            if process.stdin is not None:
                process.stdin.close()


def call(process: subprocess.Popen[bytes], *words: str, given: bytes) -> tuple[int, bytes, bytes]:
    """Send that to the listening side, and end its stdin when it came: who ends first decides what is still sent."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*COMMAND, *words], **pipes) as caller:  # type: ignore[call-overload]
        caller.stdin.write(given)
        caller.stdin.close()
        caller.stdin = None
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.read(len(given)) == given
        process.stdin.close()
        process.stdin = None
        out, err = caller.communicate(timeout=30)
        return caller.returncode, out, err


def test_both_sides_are_the_command() -> None:
    with listening("tcp://127.0.0.1:0", given=b"from the listener") as (url, process):
        assert call(process, url, given=b"from the caller") == (0, b"from the listener", b"")
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, b""), err
        assert b"connection from 127.0.0.1:" in err


def test_unix_sockets(tmp_path: Path) -> None:
    with listening(f"unix://{tmp_path}/s", given=b"a") as (url, process):
        assert url == f"unix://{tmp_path}/s"
        assert call(process, url, given=b"b") == (0, b"a", b"")


def test_tls(tmp_path: Path) -> None:
    cert, key = localhost().write(tmp_path, "server")
    ca, strange = tmp_path / "ca.pem", tmp_path / "strange.pem"
    ca.write_bytes(authority().pem)
    strange.write_bytes(stranger().pem)
    own = ("--cert", str(cert), "--key", str(key))
    for trust in (("--ca", str(ca), *own), ("--insecure", "--alpn", "x/2", "--alpn", "x/1")):
        asks = ("--ca", str(ca)) if "--ca" in trust else ("--alpn", "x/1")
        with listening("tls://127.0.0.1:0", *own, *asks, given=b"secret") as (url, process):
            status, out, err = call(process, url, "-v", *trust, given=b"too")
            assert (status, out) == (0, b"secret"), err
            assert b"TLSv1.3" in err
            assert (b"x/1 by ALPN" in err) == ("--alpn" in trust)
    with listening("tls://127.0.0.1:0", *own, given=b"") as (url, process):
        for wrong, said in (
            (("--ca", str(strange)), b"issued by nobody that is trusted here"),
            (("--ca", str(ca), "--server-name", "other.example"), b'is not for "other.example"'),
        ):
            done = run(url, *wrong)
            assert (done.returncode, done.stderr.count(b"\n")) == (7, 1)
            assert said in done.stderr
        process.terminate()


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["http://x"], 2, "write ws://x for a WebSocket"),
        (["nosuchhost.invalid:1"], 7, "is unknown"),
        (["127.0.0.1"], 2, "a host and a port"),
        (["127.0.0.1:1", "-f", "line"], 2, "did you mean lines"),
        (["127.0.0.1:1", "--expect", "/(/"], 2, "no regular expression"),
        (["127.0.0.1:1", "--send", r"\q"], 2, "is no escape"),
        (["127.0.0.1:1", "--ca", "x"], 2, "write tls://"),
        (["127.0.0.1:1", "--keep"], 2, "--keep is for --listen"),
        (["127.0.0.1:1", "--reconnect"], 2, "--reconnect is for a terminal"),
        (["127.0.0.1:1", "-lk", "--expect", "x"], 2, "leave --keep out"),
        (["127.0.0.1:1", "-q", "-v"], 2, "contradict"),
        (["127.0.0.1:1", "--never", "/(/"], 2, "--never /(/: no regular expression"),
        (["127.0.0.1:1", "-T"], 2, "--elapsed needs lines"),
        (["tls://127.0.0.1:1", "--ca", __file__], 2, f"--ca {__file__}: there is no PEM"),
        (["tls://127.0.0.1:1", "--ca", "/"], 2, "--ca /: Is a directory"),
        (["127.0.0.1:1", "--hex", "--view", "text"], 2, "contradict"),
        (["127.0.0.1:1", "-t"], 2, "--timestamps needs lines"),
        (["127.0.0.1:1", "-f", "lines", "--eol", "lf"], 2, "--eol is for raw"),
        (["127.0.0.1:1", "--backend", "quick"], 2, "quick"),
        (["tls://127.0.0.1:1", "--ca", "not-there.pem"], 4, "not there"),
        (["tls://127.0.0.1:1", "--listen"], 2, "give --cert"),
        (["unix:///not/there"], 7, "is the server running"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(words: list[str], status: int, said: str) -> None:
    done = CliRunner().invoke(app, ["connect", *words])
    assert done.stderr.startswith("Error: "), done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.exit_code == status, done.stderr
    assert done.stdout == ""


def test_refused_and_taken() -> None:
    done = run(f"127.0.0.1:{free_port()}")
    assert done.returncode == 7
    assert b"nobody listens there" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = run("--listen", f"127.0.0.1:{other.getsockname()[1]}")
    assert done.returncode == 6
    assert done.stderr.startswith(b"Error: ")
