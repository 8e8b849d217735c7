"""add_reader and add_writer: other people's descriptors, whatever their kind, and what happens when they go away."""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.naming import stable

Reports = list[dict[str, Any]]
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(autouse=True)
def _no_reports(reports: Reports) -> Iterator[None]:
    yield
    assert reports == []


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, other = socket.socketpair()
    ours.setblocking(False)
    other.setblocking(False)
    with ours, other:
        yield ours, other


def turn(loop: AbstractEventLoop) -> None:
    """Let the loop look at its descriptors and run what is ready."""
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()


def fill(sock: socket.socket) -> int:
    """Write until the buffer is full."""
    count = 0
    while True:
        try:
            count += sock.send(bytes(65536))
        except BlockingIOError:
            return count


def test_a_reader_runs_while_there_is_something_to_read(loop: AbstractEventLoop, pair: Pair) -> None:
    ours, other = pair
    calls: list[bytes] = []

    def read() -> None:
        calls.append(ours.recv(1))
        if len(calls) == 3:
            loop.stop()

    loop.add_reader(ours, read)
    turn(loop)
    assert calls == []
    other.send(b"abc")
    loop.run_forever()
    assert calls == [b"a", b"b", b"c"]
    turn(loop)
    assert len(calls) == 3
    assert loop.remove_reader(ours)


def test_a_writer_runs_while_there_is_room(loop: AbstractEventLoop, pair: Pair) -> None:
    ours, other = pair
    calls: list[int] = []
    loop.add_writer(ours, calls.append, 1)
    turn(loop)
    turn(loop)
    assert len(calls) >= 2
    full = fill(ours)
    turn(loop)
    calls.clear()
    turn(loop)
    assert calls == []
    loop.add_writer(ours, loop.stop)
    while full > 0:
        full -= len(other.recv(1 << 20))
    loop.run_forever()
    assert loop.remove_writer(ours)


def test_both_on_one_descriptor(loop: AbstractEventLoop, pair: Pair) -> None:
    ours, other = pair
    calls: list[str] = []
    loop.add_reader(ours, calls.append, "read")
    loop.add_writer(ours, calls.append, "write")
    turn(loop)
    assert set(calls) == {"write"}
    other.send(b"x")
    turn(loop)
    turn(loop)
    assert set(calls) == {"write", "read"}
    assert loop.remove_writer(ours)
    calls.clear()
    turn(loop)
    assert set(calls) == {"read"}
    assert loop.remove_reader(ours)
    calls.clear()
    turn(loop)
    assert calls == []


def test_what_remove_says(loop: AbstractEventLoop, pair: Pair) -> None:
    ours, _ = pair
    assert loop.remove_reader(ours) is False
    assert loop.remove_writer(ours) is False
    loop.add_reader(ours, print)
    assert loop.remove_writer(ours) is False
    assert loop.remove_reader(ours) is True
    assert loop.remove_reader(ours) is False


def test_a_second_reader_replaces_the_first(loop: AbstractEventLoop, pair: Pair) -> None:
    ours, other = pair
    calls: list[int] = []
    other.send(b"x")
    loop.add_reader(ours, calls.append, 1)
    loop.add_reader(ours, calls.append, 2)
    turn(loop)
    assert set(calls) == {2}
    loop.remove_reader(ours)


@pytest.mark.parametrize("give", [socket.socket.fileno, lambda sock: sock], ids=["number", "object"])
def test_a_number_or_an_object_with_fileno(
    loop: AbstractEventLoop, pair: Pair, give: Callable[[socket.socket], Any]
) -> None:
    ours, other = pair
    other.send(b"x")
    loop.add_reader(give(ours), loop.stop)
    loop.run_forever()
    assert loop.remove_reader(ours.fileno())


@pytest.mark.parametrize("wrong", ["0", object(), None, -1, 1.5], ids=stable)
def test_what_is_no_descriptor(loop: AbstractEventLoop, wrong: Any) -> None:
    with pytest.raises(ValueError, match="Invalid file"):
        loop.add_reader(wrong, print)
    with pytest.raises(ValueError, match="Invalid file"):
        loop.add_writer(wrong, print)


def test_a_closed_descriptor_is_refused(loop: AbstractEventLoop) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(reading, print)
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_writer(writing, print)
    assert loop.remove_reader(reading) is False


def test_a_reader_runs_in_the_context_of_its_adding(loop: AbstractEventLoop, pair: Pair) -> None:
    ours, other = pair
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    def add() -> None:
        variable.set(1)
        loop.add_reader(ours, look)
        variable.set(2)

    def look() -> None:
        seen.append(variable.get())
        loop.stop()

    contextvars.copy_context().run(add)
    other.send(b"x")
    loop.run_forever()
    assert (seen, variable.get()) == ([1], 0)
    loop.remove_reader(ours)


def test_a_reader_removes_itself(loop: AbstractEventLoop, pair: Pair) -> None:
    ours, other = pair
    calls: list[bool] = []
    loop.add_reader(ours, lambda: calls.append(loop.remove_reader(ours)))
    other.send(b"x")
    turn(loop)
    turn(loop)
    assert calls == [True]


def test_a_reader_that_was_removed_in_the_same_turn_does_not_run(loop: AbstractEventLoop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    calls: list[int] = []

    def first(number: int) -> None:
        calls.append(number)
        for ours, _ in pairs:
            loop.remove_reader(ours)

    for number, (ours, other) in enumerate(pairs):
        other.send(b"x")
        loop.add_reader(ours, first, number)
    turn(loop)
    assert len(calls) == 1
    for ours, other in pairs:
        ours.close()
        other.close()


def test_a_pipe(loop: AbstractEventLoop) -> None:
    reading, writing = os.pipe()
    calls: list[bytes] = []

    def read() -> None:
        calls.append(os.read(reading, 10))
        loop.stop()

    loop.add_reader(reading, read)
    os.write(writing, b"data")
    loop.run_forever()
    os.close(writing)
    loop.run_forever()
    assert calls == [b"data", b""]
    loop.remove_reader(reading)
    os.close(reading)


def test_a_pipe_whose_reader_left_is_ready_for_writing(loop: AbstractEventLoop) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.write(writing, bytes(65536))
    loop.add_writer(writing, loop.stop)
    os.close(reading)
    loop.run_forever()
    loop.remove_writer(writing)
    os.close(writing)


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="needs eventfd")
def test_an_eventfd(loop: AbstractEventLoop) -> None:
    event = os.eventfd(0)
    loop.add_reader(event, loop.stop)
    os.eventfd_write(event, 1)
    loop.run_forever()
    loop.remove_reader(event)
    os.close(event)


def test_a_terminal(loop: AbstractEventLoop) -> None:
    controller, terminal = os.openpty()
    loop.add_reader(terminal, loop.stop)
    os.write(controller, b"line\n")
    loop.run_forever()
    assert os.read(terminal, 99) == b"line\n"
    loop.remove_reader(terminal)
    os.close(controller)
    os.close(terminal)


def test_a_peer_that_hangs_up_is_ready_in_both_directions(loop: AbstractEventLoop, pair: Pair) -> None:
    ours, other = pair
    other.close()
    for add, remove in ((loop.add_reader, loop.remove_reader), (loop.add_writer, loop.remove_writer)):
        add(ours, loop.stop)
        loop.run_forever()
        assert remove(ours)


def test_a_number_that_is_used_again_after_it_was_removed(loop: AbstractEventLoop) -> None:
    """The next descriptor with the same number is a stranger."""
    for _ in range(50):
        ours, other = socket.socketpair()
        calls: list[int] = []
        loop.add_reader(ours, calls.append, 1)
        loop.remove_reader(ours)
        ours.close()
        again, far = socket.socketpair()
        loop.add_writer(again, loop.stop)
        loop.run_forever()
        loop.remove_writer(again)
        assert calls == []
        for sock in (again, far, other):
            sock.close()


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "fresh"])
@pytest.mark.parametrize("looked", [True, False], ids=["missed", "unnoticed"])
def test_a_number_that_was_closed_behind_the_loops_back(
    loop: AbstractEventLoop, ours: str, watched: bool, looked: bool
) -> None:
    """asyncio never hears of the number again. Ours begins anew with whoever has it now."""
    first, other = socket.socketpair()
    calls: list[str] = []
    loop.add_reader(first, calls.append, "stale")
    if watched:
        turn(loop)
    number = first.fileno()
    first.close()
    if looked:
        turn(loop)
        calls.clear()
    with pytest.raises(OSError, match="Bad file descriptor"):
        loop.add_reader(number, print)
    second, far = socket.socketpair()
    assert number in (second.fileno(), far.fileno())
    reused, sender = (second, far) if second.fileno() == number else (far, second)
    loop.add_reader(reused, loop.stop)
    sender.send(b"x")
    loop.run_forever()
    assert calls == []
    assert loop.remove_reader(reused)
    for sock in (second, far, other):
        sock.close()


def test_a_transport_owns_its_descriptor(loop: AbstractEventLoop, pair: Pair) -> None:
    ours, _ = pair

    async def main() -> None:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        for method in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match=rf"File descriptor {ours.fileno()} is used by transport"):
                method(ours.fileno(), print)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.remove_reader(ours.fileno())
        transport.abort()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


@pytest.mark.parametrize("path", [__file__, "/"])
def test_a_file_is_never_watched(loop: AbstractEventLoop, path: str) -> None:
    """What epoll says, on every back end: it is always ready, whatever that means."""
    number = os.open(path, os.O_RDONLY)
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(PermissionError):
            add(number, print)
    os.close(number)


def test_many_descriptors(loop: AbstractEventLoop) -> None:
    pairs = [socket.socketpair() for _ in range(200)]
    seen: set[int] = set()

    def read(number: int) -> None:
        pairs[number][0].recv(1)
        seen.add(number)
        if len(seen) == len(pairs):
            loop.stop()

    for number, (ours, other) in enumerate(pairs):
        loop.add_reader(ours, read, number)
        other.send(b"x")
    loop.run_forever()
    assert len(seen) == len(pairs)
    for ours, other in pairs:
        loop.remove_reader(ours)
        ours.close()
        other.close()


def test_a_reader_added_from_a_callback_of_the_same_turn(loop: AbstractEventLoop, pair: Pair) -> None:
    ours, other = pair
    other.send(b"x")
    loop.call_soon(loop.add_reader, ours, loop.stop)
    loop.run_forever()
    loop.remove_reader(ours)


def test_select_refuses_a_descriptor_over_its_limit(loop: AbstractEventLoop, ours: str, pair: Pair) -> None:
    import resource

    import wireway

    if ours != "select":
        pytest.skip("a limit of select")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft <= 1100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    high = os.dup2(pair[0].fileno(), 1030)
    try:
        with pytest.raises(wireway.DescriptorLimitError, match="1030 is over the limit of select"):
            loop.add_reader(high, print)
        turn(loop)
    finally:
        os.close(high)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
