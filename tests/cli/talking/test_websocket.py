"""`wireway connect ws://…`: whole messages, of either side."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from support.calling import COMMAND, free_port, peer, run


@contextmanager
def server(talk: Callable[[ServerConnection], None], **options: object) -> Iterator[str]:
    with serve(talk, "127.0.0.1", 0, **options) as serving:  # type: ignore[arg-type]
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{serving.socket.getsockname()[1]}/chat?room=1"
        finally:
            serving.shutdown()
            thread.join(30)


def echo(conn: ServerConnection) -> None:
    for message in conn:
        conn.send(message)


def test_each_line_is_a_message_and_the_answers_are_waited_for() -> None:
    heard: list[str | bytes] = []

    def talk(conn: ServerConnection) -> None:
        for message in conn:
            heard.append(message)
            conn.send(message)

    with server(talk) as url:
        done = run(url, "--wait", "0.5", given="one\nzwö\n".encode())
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == "one\nzwö\n".encode()
        assert heard == ["one", "zwö"]
        heard.clear()
        done = run(url, "--input", "hex", "--hex", "--wait", "0.5", given=b"00 ff\n")
        assert heard == [b"\0\xff"]
        assert done.stdout.startswith(b"00000000  00 ff ")
        heard.clear()
        run(url, "--wait", "0.5", given=b"\xff\n")  # what is no text is sent as binary
        assert heard == [b"\xff"]


def test_what_is_said_with_the_handshake() -> None:
    asked: list[str] = []

    def talk(conn: ServerConnection) -> None:
        assert conn.request is not None
        asked.extend([conn.request.path, conn.request.headers["X-Key"], str(conn.subprotocol)])
        conn.send(["frag", "ments"])

    with server(talk, subprotocols=["v2"]) as url:  # type: ignore[list-item]
        done = run(url, "-H", "X-Key: 7", "--subprotocol", "v1", "--subprotocol", "v2", "-v", "-f", "raw")
    assert asked == ["/chat?room=1", "7", "v2"]
    assert (done.returncode, done.stdout) == (0, b"fragments\n")
    assert b", v2" in done.stderr
    assert b"the peer closed the WebSocket: 1000 (OK)" in done.stderr


def test_expect_over_a_web_socket() -> None:
    with server(echo) as url:
        assert run(url, "--send", "PING", "--expect", "/^PING$/").returncode == 0
        done = run(url, "--send", "PING", "--expect", "PONG", "--timeout", "0.5")
    assert done.returncode == 1
    assert b"'PONG' did not come in 0.5 s: what came instead ends in: PING" in done.stderr


def test_how_it_ends() -> None:
    with server(lambda conn: conn.close(4000, "so long")) as url:
        done = run(url)
    assert done.returncode == 1
    assert done.stderr == b"Error: the peer closed the WebSocket: 4000 (private use) so long\n"
    with server(lambda conn: conn.socket.shutdown(2)) as url:
        done = run(url)
    assert done.returncode == 1
    assert b"without a WebSocket Close" in done.stderr
    with server(lambda conn: conn.send("x" * 100)) as url:
        done = run(url, "--max-size", "99")
    assert done.returncode == 1
    assert b"Error: what came is no WebSocket: " in done.stderr


def test_who_speaks_no_web_socket() -> None:
    with peer(lambda conn: conn.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nnothing")) as url:
        done = run(url.replace("tcp", "ws"))
    assert done.returncode == 7
    assert b"no WebSocket: the server answered 404 Not Found: nothing\n" in done.stderr
    with peer(lambda conn: conn.sendall(b"SSH-2.0-x\r\n")) as url:
        done = run(url.replace("tcp", "ws"))
    assert done.returncode == 7
    assert b"no WebSocket: " in done.stderr
    with server(echo) as url:
        done = run(url, "-f", "lines")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


def test_the_listening_side() -> None:
    port = free_port()
    command = [*COMMAND, "-lk", f"ws://127.0.0.1:{port}/", "--send", "welcome", "--view", "text"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as one:
        assert one.stderr is not None
        assert one.stdout is not None
        try:
            assert one.stderr.readline().startswith(f"listens on ws://127.0.0.1:{port}, for one connection after")
            for number in range(2):
                with connect(f"ws://127.0.0.1:{port}/any") as client:
                    assert client.recv(timeout=30) == "welcome"
                    client.send(f"hello {number}")
                    assert one.stdout.readline() == f"hello {number}\n"
        finally:
            one.kill()
