"""`wireway trace` as a person meets it: on the terminal, in a pipe, and as a file that Wireshark's program reads."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.serving import WIREWAY, command, served
from support.terminal import terminal


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture
def port() -> Iterator[int]:
    with served("echo", "--framing", "length", "--port", "0") as address:
        yield int(address.rpartition(":")[2])


def frame(message: bytes) -> bytes:
    return len(message).to_bytes(4) + message


def call(sock: socket.socket, *messages: bytes) -> None:
    stream = b"".join(map(frame, messages))
    sock.sendall(stream)
    came = b""
    while len(came) < len(stream):
        came += sock.recv(65536)
    assert came == stream


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


@contextmanager
def tracing(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run `wireway trace WORDS`, once it has begun."""
    process = subprocess.Popen(
        [*WIREWAY, "trace", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("tracing ")
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_frames_on_a_terminal(port: int) -> None:
    with terminal([*WIREWAY, "trace", "127.0.0.1"], columns=120, lines=30) as screen:
        screen.wait_for("tracing 127.0.0.1: no connection now; Ctrl-C ends it")
        with connected(port) as peer:
            call(peer, b"hello", "\x1b[31mr\xf6d\x07".encode(), b"x" * 1000)
            screen.wait_for(
                f"-> 127.0.0.1:{port}",
                "in  frame of 9 = header 00 00 00 05 + message of 5: hello",
                "out frame of 9 = header 00 00 00 05 + message of 5: hello",
                r"\x1b[31mröd\x07",
                "… 800 more",
            )
            peer.sendall(b"\0\0\0\x09ab")
            screen.wait_for("6 bytes of a frame that is not whole: needs 7 more bytes of the body of 9")
        screen.wait_for("ended: truncated-frame")
        screen.keys("C-c")
        screen.wait_for("6 frames,", "of 1 connection", "ended 0")


def test_by_id_for_programs_until_the_connection_ends(port: int) -> None:
    with connected(port) as peer:
        call(peer, b"before")
        with tracing("1", "--format", "json") as process:
            call(peer, b"one", b"")
            peer.close()
            out, err = process.communicate(timeout=30)
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[-1]["ended"] == "peer-closed: the peer closed"
    assert len({(line["pid"], line["server"], line["id"]) for line in lines}) == 1
    frames = [line for line in lines if "frame" in line]
    for way in ("in", "out"):
        seen = [each for each in frames if each["way"] == way]
        assert [base64.b64decode(each["data"]) for each in seen] == [frame(b"one"), frame(b"")]
        assert [(each["frame"], each["header"], each["message"]) for each in seen] == [(7, 4, 3), (4, 4, 0)]
    assert err.startswith("4 frames, 22 bytes, of 1 connection")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "count"), [(("--limit", "3"), 3), (("--duration", "1.5"), 6)], ids=["limit", "duration"]
)
def test_it_ends_by_itself(port: int, words: tuple[str, ...], count: int) -> None:
    with connected(port) as peer, tracing("127.0.0.1", "-f", "hex", *words) as process:
        call(peer, b"one", b"two", b"three")
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert err.startswith(f"{count} frames, ")
        assert "    000000  00 00 00 03 6f 6e 65                              |....one|" in out
        call(peer, b"the server goes on")


def test_a_pipe_that_closes_and_the_signal_of_ctrl_c(port: int) -> None:
    with connected(port) as peer:
        call(peer, b"here")
        with tracing("127.0.0.1") as process:
            assert process.stdout is not None
            process.stdout.close()
            call(peer, b"one", b"two")
            call(peer, b"three")
            assert process.wait(timeout=30) == 0
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        with tracing("127.0.0.1") as process:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0


def tshark(file: Path, *fields: str) -> list[list[str]]:
    """What Wireshark reads in a file, a row a packet."""
    if shutil.which("tshark") is None:
        text = "there is no tshark: apt-get install tshark, or tests/interop/install.sh"
        if os.environ.get("WIREWAY_INTEROP_STRICT") == "1":
            pytest.fail(text)
        pytest.skip(text)
    wanted = [word for field in fields for word in ("-e", field)]
    options = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    done = subprocess.run(
        ["tshark", "-r", str(file), *options, "-T", "fields", *wanted],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_a_file_for_wireshark(port: int, tmp_path: Path) -> None:
    file = tmp_path / "a.pcapng"
    with tracing("127.0.0.1", "-w", str(file), "--limit", "6") as process, connected(port) as peer:
        own = peer.getsockname()[1]
        call(peer, b"hello", b"you")
        call(peer, b"z" * 100_000)
        process.communicate(timeout=30)
    assert process.returncode == 0
    rows = tshark(
        file,
        *(
            "ip.src",
            "tcp.srcport",
            "ip.dst",
            "tcp.dstport",
            "tcp.flags.str",
            "tcp.seq",
            "tcp.len",
            "ip.checksum.status",
        ),
        *("tcp.checksum.status", "frame.packet_flags_direction", "frame.time_epoch", "frame.interface_description"),
        *("tcp.analysis.flags", "frame.comment", "tcp.payload"),
    )
    assert {tuple(row[:4]) for row in rows} == {
        ("127.0.0.1", str(own), "127.0.0.1", str(port)),
        ("127.0.0.1", str(port), "127.0.0.1", str(own)),
    }
    assert [row[4].replace("·", "") for row in rows[:3]] == ["S", "AS", "A"]
    assert {(row[7], row[8]) for row in rows} == {("1", "1")}, "checksums"
    assert {row[12] for row in rows} == {""}, "Wireshark has nothing to say of the sequence"
    assert all((row[9] == "0x00000001") == (row[1] == str(own)) for row in rows)
    assert all(len(row[10].partition(".")[2]) == 9 for row in rows), "nanoseconds"
    assert {row[11] for row in rows} == {f"echo, length framing on tcp://127.0.0.1:{port}"}
    stream = frame(b"hello") + frame(b"you") + frame(b"z" * 100_000)
    for source in (own, port):
        payload = b"".join(bytes.fromhex(row[14]) for row in rows if row[1] == str(source))
        assert payload == stream
    comments = [row[13] for row in rows]
    assert any(comment.startswith("frame of 9, message of 5") for comment in comments)
    assert any(comment.startswith("queued: ") for comment in comments)


def test_a_unix_peer_whose_end_is_in_the_file(tmp_path: Path) -> None:
    file, path = tmp_path / "u.pcapng", tmp_path / "s.sock"
    with served("echo", "--framing", "length", "--unix", str(path)), socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(30)
        peer.connect(str(path))
        call(peer, b"one")
        with tracing("unix", "-w", str(file)) as process:
            call(peer, b"two")
            peer.close()
            status, out, _ = 0, "", ""
            while "peer-closed" not in out:
                status, out, _ = command("closed", "--json")
                assert status == 0
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
    rows = tshark(file, "ipv6.src", "tcp.flags.str", "tcp.checksum.status", "tcp.payload")
    assert [(row[0], row[1].replace("·", ""), row[3]) for row in rows] == [
        ("100::2", "AP", frame(b"two").hex()),
        ("100::1", "AP", frame(b"two").hex()),
        ("100::2", "AF", ""),
        ("100::1", "AF", ""),
        ("100::2", "A", ""),
    ]
    assert {row[2] for row in rows} == {"1"}


def test_the_workers_of_a_server_together() -> None:
    with served("echo", "--framing", "length", "--port", "0", "--workers", "2") as address:
        port = int(address.rpartition(":")[2])
        pids: set[int] = set()
        while len(pids) < 2:  # both have begun
            pids = {each["pid"] for each in json.loads(command("top", "--once", "--json")[1])["servers"]}
        with tracing("127.0.0.1", "--limit", "80", "--whole") as process:
            for _ in range(40):  # the kernel shares them out
                with connected(port) as peer:
                    call(peer, b"x")
            out, _ = process.communicate(timeout=30)
    seen = {line.split()[1] for line in out.splitlines() if " frame of 5 = header" in line}
    assert {int(who.partition("#")[0]) for who in seen} == pids
    assert len(seen) == 40


def test_mistakes(port: int) -> None:
    for words, status, text in (
        (("999",), 1, "there is no connection 999: see `wireway ls`"),
        (("10.0.0.1:http",), 2, "'http' is no port"),
        (("",), 2, "whom to trace is empty"),
        (("10.0.0.1", "-w", "/no/such/folder/x"), 4, "No such file or directory: /no/such/folder/x"),
    ):
        done = command("trace", *words)
        assert (done[0], done[1]) == (status, "")
        assert text in done[2]
        assert done[2].count("\n") == 1


def test_nobody_to_ask() -> None:
    status, out, err = command("trace", "127.0.0.1")
    assert (status, out) == (9, "")
    assert err.startswith("Error: no running server was found")
