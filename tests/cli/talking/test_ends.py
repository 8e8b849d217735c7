"""The ends of `wireway connect` in a pipe: of stdin, of the peer, of patience; one connection after the other."""

from __future__ import annotations

import os
import socket
import subprocess
import time

from support.calling import COMMAND, echo, free_port, peer, read_to_end, run


def test_what_stdin_has_is_sent_though_the_peer_has_ended_its_half() -> None:
    data = os.urandom(8_000_000)
    heard: list[bytes] = []

    def deaf(conn: socket.socket) -> None:
        conn.shutdown(socket.SHUT_WR)
        heard.append(read_to_end(conn))

    with peer(deaf) as url:
        done = run(url, given=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert heard == [data]


def test_what_the_peer_did_not_take_is_an_error() -> None:
    def gone(conn: socket.socket) -> None:
        conn.recv(1)

    with peer(gone) as url:
        done = run(url, given=bytes(8_000_000))
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: the connection broke off: peer-reset")


def test_our_half_may_stay_open() -> None:
    def patient(conn: socket.socket) -> None:
        assert conn.recv(100) == b"question"
        conn.settimeout(0.3)
        try:
            assert conn.recv(100) != b"", "our half was closed"
        except TimeoutError:
            conn.sendall(b"answer")

    with peer(patient) as url:
        done = run(url, "--no-half-close", given=b"question")
    assert (done.returncode, done.stdout) == (0, b"answer")


def test_silence_ends_it() -> None:
    def never_ends(conn: socket.socket) -> None:
        conn.sendall(b"once")
        read_to_end(conn)
        conn.recv(1)

    with peer(never_ends) as url:
        began = time.monotonic()
        done = run(url, "--wait", "0.3", "--no-half-close", "-v")
        assert time.monotonic() - began >= 0.3
    assert (done.returncode, done.stdout) == (0, b"once")
    assert b"ended: no byte for 0.3 s" in done.stderr
    with peer(never_ends) as url:
        done = run(url, "-w", "0.3", "--expect", "twice")
    assert done.returncode == 1
    assert b"'twice' did not come in 0.3 s without a byte: what came instead ends in: once" in done.stderr


def test_what_must_not_come() -> None:
    with peer(echo) as url:
        done = run(url, "--never", "/ERR|FAIL/", given=b"all is well")
    assert (done.returncode, done.stdout) == (0, b"all is well")
    with peer(echo) as url:
        done = run(url, "--never", "nothing", "--never", "ERR", "--send", "ERR 7", "--expect", "7")
    assert done.returncode == 1
    assert done.stderr == b"Error: 'ERR' came, which --never forbids\n"


def test_each_receive_is_explained() -> None:
    with peer(lambda conn: conn.sendall(b"\0\1a\0\2bc")) as url:
        done = run(url, "--explain", "-f", "length:2")
    assert (done.returncode, done.stdout) == (0, b"a\nbc\n")
    first, second, third = done.stderr.decode().splitlines()
    assert first == "receive 1: 7 bytes, 0 to 7: 2 whole frames"
    assert second.startswith("  at 0: header 00 01, ")
    assert third.startswith("  at 3: header 00 02, ")


def test_one_connection_after_the_other() -> None:
    port = free_port()
    command = [*COMMAND, "--listen", "--keep", f"127.0.0.1:{port}", "--send", "welcome", "-f", "lines"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as one:
        assert one.stderr is not None
        assert one.stdout is not None
        try:
            one.stderr.readline()
            with socket.create_connection(("127.0.0.1", port), 30) as first:
                assert first.recv(100) == b"welcome\n"
                with socket.create_connection(("127.0.0.1", port), 30) as second:
                    second.sendall(b"of the second\n")  # waits for its turn
                    first.sendall(b"of the first\nand a half")
                    assert one.stdout.readline() == b"of the first\n"
                    first.close()
                    assert second.recv(100) == b"welcome\n"
                    assert one.stdout.readline() == b"of the second\n"
            assert one.stderr.readline().startswith(b"connection from 127.0.0.1:")
            assert b"the connection ended within a frame: 10 bytes" in one.stderr.readline()
        finally:
            one.kill()


def test_a_closed_stdin_or_stdout_is_an_empty_one() -> None:
    for redirected in ("<&-", ">&-", "<&- >&-"):
        with peer(echo) as url:
            words = " ".join(COMMAND)
            done = subprocess.run(["sh", "-c", f"{words} {url} --send x {redirected}"], timeout=60, check=False)
        assert done.returncode == 0, redirected


def test_lines_of_a_message_come_without_the_frame_and_times_go_before_them() -> None:
    with peer(echo) as url:
        done = run(url, "--elapsed", "--view", "text", "-f", "lines", given=b"a\nb\n")
    first, second = done.stdout.decode().splitlines()
    assert first == "+0.000000 a"
    assert second.startswith("+0.")
    assert second.endswith(" b")
