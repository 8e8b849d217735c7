"""Hot restart with real processes: SIGUSR2, and what clients notice of it, which is nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.restarting import LIMIT, Client, Program, gone, until


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path)
    yield program
    program.end()


def test_connections_go_on_in_the_new_program(program: Program) -> None:
    clients = [program.client() for _ in range(300)]
    for client in clients:
        assert client.ask()[1:] == ["one", "1", "x"]
    clients[0].sock.sendall(b"half ")
    program.version("two")
    program.restart()
    until(lambda: len(program.started()) == 2)
    assert program.process.wait(LIMIT) == 0
    (old, port), (new, new_port) = program.started()
    assert (old != new, port) == (True, new_port)
    clients[0].sock.sendall(b"line\n")
    assert clients[0].line() == [str(new), "two", "2", "half", "line"]
    for client in clients[1:]:
        assert client.ask() == [str(new), "two", "2", "x"]
    assert program.client().ask()[:2] == [str(new), "two"]
    assert "300 connections" in program.words()
    os.kill(new, signal.SIGTERM)
    until(lambda: gone(new))
    assert clients[0].sock.recv(1) == b""


def test_under_load_nothing_is_lost_or_said_twice(program: Program) -> None:
    over = threading.Event()
    counts: list[int] = []

    def talk(client: Client) -> None:
        count = 0
        while not over.is_set():
            client.sock.sendall(b"".join(b"%d\n" % (count + more) for more in range(1, 21)))
            for _ in range(20):
                count += 1
                assert client.line()[2:] == [str(count), str(count)]
        counts.append(count)

    threads = [threading.Thread(target=talk, args=[program.client()]) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for generation in range(2, 6):
            program.restart()
            until(lambda: len(program.started()) == generation)  # noqa: B023 - called in this round
            assert all(thread.is_alive() for thread in threads)
            program.client()  # who connects now is let in
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert len(counts) == len(threads)
    assert min(counts) > 100


@pytest.mark.parametrize(
    ("version", "word"),
    [
        ("broken", "ended before it was ready"),
        ("hang", "not ready within 5 s"),
        ("refuse", "ended before it was ready"),
        ("starve", "ended in the middle"),
        ("die", "ended in the middle"),
    ],
)
def test_the_old_program_goes_on(program: Program, version: str, word: str) -> None:
    clients = [program.client() for _ in range(30)]
    for client in clients:
        client.ask()
    clients[0].sock.sendall(b"half ")
    program.version(version)
    program.restart()
    until(lambda: "this one goes on" in program.words())
    assert word in program.words(), program.words()
    assert program.words().count("hot restart:") == 1
    clients[0].sock.sendall(b"line\n")
    assert clients[0].line() == [str(program.process.pid), "one", "2", "half", "line"]
    for client in clients[1:]:
        assert client.ask() == [str(program.process.pid), "one", "2", "x"]
    assert program.client().ask()[1:] == ["one", "1", "x"]
    program.version("two")
    program.restart()  # and the next attempt does it
    until(lambda: len(program.started()) == 2)
    assert clients[0].ask()[1:] == ["two", "3", "x"]


def test_what_can_not_move_is_drained(program: Program) -> None:
    slow, locked, other = program.client(), program.client(), program.client()
    locked.ask("lock")
    slow.sock.sendall(b"slow\n")
    assert other.ask()[2:] == ["1", "x"]
    program.restart()
    until(lambda: len(program.started()) == 2)
    assert other.ask()[0] == str(program.started()[1][0])
    assert locked.sock.recv(1) == b"", "closed in order"
    assert program.process.poll() is None, "a handler still runs"
    (program.folder / "go").touch()
    assert slow.line()[0] == str(program.process.pid)
    assert slow.sock.recv(1) == b""
    assert program.process.wait(LIMIT) == 0
    words = program.words()
    assert "1: a handler runs" in words
    assert "its state can not be encoded" in words
