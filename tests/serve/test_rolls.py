"""SIGHUP with workers: each hands its connections to its successor, and no client notices."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.restarting import Client, Program, gone, until


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path, workers=2)
    yield program
    program.process.send_signal(signal.SIGTERM)
    program.process.wait(20)
    program.end()


def roll(program: Program) -> None:
    """SIGHUP, and wait until both workers were replaced and are gone."""
    before = [pid for pid, _ in program.started()[-2:]]
    program.process.send_signal(signal.SIGHUP)
    until(lambda: len(program.started()) >= 2 and not set(before) & {pid for pid, _ in program.started()[-2:]})
    until(lambda: all(gone(pid) for pid in before))


def test_connections_stay_open(program: Program) -> None:
    clients = [program.client() for _ in range(100)]
    for client in clients:
        assert client.ask()[1:] == ["one", "1", "x"]
    clients[0].sock.sendall(b"half ")
    program.version("two")
    roll(program)
    new = {str(pid) for pid, _ in program.started()[2:]}
    clients[0].sock.sendall(b"line\n")
    assert clients[0].line()[1:] == ["two", "2", "half", "line"]
    assert {answer[0] for answer in (client.ask() for client in clients[1:])} == new
    assert program.client().ask()[1:3] == ["two", "1"]
    until(lambda: "every worker was replaced" in program.words())


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
        for _ in range(3):
            roll(program)
            assert all(thread.is_alive() for thread in threads)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert len(counts) == len(threads)
    assert min(counts) > 100


def test_a_broadcast_in_the_middle_reaches_everybody_once(program: Program) -> None:
    """Whether the connection was with the old worker or the new one when the message came, from either."""
    clients = [program.client() for _ in range(40)]
    speaker, hearers = clients[0], clients[1:]
    over = threading.Event()
    said = 1
    for client in clients:
        client.ask()

    def speak() -> None:
        nonlocal said
        while not over.is_set():
            said += 1
            assert speaker.ask("all")[2:] == [str(said), "all"]

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        for _ in range(2):
            roll(program)
    finally:
        over.set()
        thread.join()
    assert said > 20
    for client in hearers:
        assert [client.line() for _ in range(2, said + 1)] == [["news", str(number)] for number in range(2, said + 1)]
        assert client.ask("end")[-1] == "end"


@pytest.mark.parametrize("version", ["broken", "refuse", "starve", "die"])
def test_a_successor_that_fails_leaves_all_as_it_was(program: Program, version: str) -> None:
    clients = [program.client() for _ in range(80)]
    before = [client.ask()[0] for client in clients]
    clients[0].sock.sendall(b"half ")
    program.version(version)
    program.process.send_signal(signal.SIGHUP)
    until(lambda: "the roll ends at worker 1" in program.words())
    assert "Traceback" not in program.words()
    clients[0].sock.sendall(b"line\n")
    assert clients[0].line()[2:] == ["2", "half", "line"]
    assert [client.ask()[0] for client in clients[1:]] == before[1:]
    program.version("two")
    roll(program)
    assert Counter(client.ask()[1] for client in clients) == {"two": 80}


def test_a_worker_that_stands_still_is_replaced_all_the_same(program: Program) -> None:
    clients = [program.client() for _ in range(20)]
    owners = [int(client.ask()[0]) for client in clients]
    stopped = program.started()[0][0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        program.version("two")
        program.process.send_signal(signal.SIGHUP)
        until(lambda: "the predecessor does not answer" in program.words())
        for client, owner in zip(clients, owners, strict=True):
            if owner != stopped:
                assert client.ask()[2:] == ["2", "x"]
    finally:
        os.kill(stopped, signal.SIGCONT)
    until(lambda: "every worker was replaced" in program.words())
    until(lambda: gone(stopped))
