"""What is done to bytes on their way, without a socket and without waiting: time is an argument."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from wireway.testing.bridge import HELD, NEVER, TICK, Bridge, Direction, Pipe, ResetError, Rules


class Source:
    """Gives what it was told to, then blocks."""

    def __init__(self, *pieces: bytes | OSError) -> None:
        self.pieces = list(pieces)

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            raise BlockingIOError
        piece = self.pieces.pop(0)
        if isinstance(piece, OSError):
            raise piece
        assert len(piece) <= size
        return piece


class Sink:
    """Takes `room` bytes and remembers each send."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room, self.sent, self.ended = room, list[bytes](), False
        self.error: OSError | None = None

    def send(self, piece: memoryview) -> int:
        if self.error:
            raise self.error
        if not self.room:
            raise BlockingIOError
        taken = bytes(piece[: self.room])
        self.room -= len(taken)
        self.sent.append(taken)
        return len(taken)

    def shutdown(self, _how: int) -> None:
        self.ended = True


class Host:
    """A thread that is none."""

    def __init__(self, **rules: Any) -> None:
        self.rules: dict[Direction, Rules] = {"upstream": Rules(**rules), "downstream": Rules()}
        self.random = random.Random(7)
        self.bytes: dict[Direction, int] = {"upstream": 0, "downstream": 0}
        self.unreachable = self.resets = 0

    def watch(self, sock: object, events: int, callback: Callable[[int], None] | None) -> None:
        raise AssertionError("a pipe watches nothing")

    def forget(self, bridge: Bridge) -> None:
        raise AssertionError("a pipe forgets nothing")


def pipe(*pieces: bytes | OSError, room: int = 1 << 30, **rules: Any) -> Any:
    """A pipe that has taken `pieces` at the time 100."""
    made: Any = Pipe(Host(**rules), "upstream", Source(*pieces), Sink(room))  # type: ignore[arg-type]
    for _ in pieces:
        made.take(100.0)
    return made


def run(pipe: Any, now: float = 100.0) -> list[float]:
    """Let it pass on, jumping from deadline to deadline, until it waits for something else; when it sent."""
    times: list[float] = []
    for _ in range(10_000):
        before = len(pipe.sink.sent)
        due = pipe.pass_on(now)
        times += [round(now - 100.0, 6)] * (len(pipe.sink.sent) - before)
        if due == NEVER:
            return times
        assert due >= now
        now = due
    raise AssertionError("it comes to no end")


def test_without_rules_all_goes_on_at_once() -> None:
    one = pipe(b"abc", b"defg", b"")
    assert run(one) == [0.0, 0.0]
    assert (one.sink.sent, one.sink.ended, one.held, one.passed) == ([b"abc", b"defg"], True, 0, 7)


def test_slices_follow_each_other() -> None:
    one = pipe(b"abcde", b"f", size=2)
    assert run(one) == [0.0] * 4
    assert one.sink.sent == [b"ab", b"cd", b"e", b"f"]


def test_slices_keep_their_distance() -> None:
    one = pipe(b"abc", size=1, every=0.5)
    assert run(one) == [0.0, 0.5, 1.0]


def test_a_delay_keeps_the_order_and_the_distances() -> None:
    one = pipe(delay=2.0)
    one.source.pieces = [b"a", b"b", b""]
    one.take(100.0)
    one.take(101.0)
    one.take(101.5)
    assert run(one) == [2.0, 3.0]
    assert one.sink.ended


def test_jitter_is_seeded_and_bytes_do_not_overtake() -> None:
    pieces = [bytes([number]) for number in range(50)]
    first, second = pipe(*pieces, delay=1.0, jitter=0.5), pipe(*pieces, delay=1.0, jitter=0.5)
    times = run(first)
    assert times == run(second) == sorted(times)
    assert b"".join(first.sink.sent) == b"".join(pieces)
    assert 1.0 <= times[0] < times[-1] <= 1.5


def test_a_rate_is_kept() -> None:
    one = pipe(b"x" * 10_000, rate=1000.0)
    times = run(one)
    assert times[-1] == pytest.approx(10.0, abs=3 * TICK)
    assert max(map(len, one.sink.sent)) == 1000 * TICK


def test_a_reset_comes_after_exactly_so_many_bytes() -> None:
    one = pipe(b"abcdef", reset_after=4)
    with pytest.raises(ResetError):
        run(one)
    assert one.sink.sent == [b"abcd"]


def test_a_reset_of_the_source_comes_after_its_bytes() -> None:
    one = pipe(b"abc", ConnectionResetError(), delay=1.0)
    assert one.pass_on(100.0) == 101.0
    with pytest.raises(ResetError):
        run(one, 101.0)
    assert one.sink.sent == [b"abc"]


def test_silence_holds_everything_back() -> None:
    one = pipe(b"abc", b"", silent=True)
    assert run(one, 1000.0) == []
    assert not one.wants_to_read()
    one.relay.rules["upstream"] = Rules()
    assert run(one) == [0.0]
    assert one.sink.ended


def test_a_full_pipe_reads_no_more() -> None:
    one = pipe(*[b"x" * 65536] * 4, room=0)
    assert one.held == HELD
    assert not one.wants_to_read()
    assert run(one) == []
    assert one.blocked
    one.sink.room = 1
    run(one)
    assert one.wants_to_read()


def test_after_an_end_of_its_own_it_reads_and_discards() -> None:
    one = pipe(b"abc")
    one.end()
    one.source.pieces = [b"def"]
    one.take(100.0)
    run(one)
    assert (one.sink.sent, one.sink.ended, one.wants_to_read()) == ([b"abc"], True, True)


def test_a_sink_that_is_gone_makes_it_discard() -> None:
    one = pipe(b"abc")
    one.sink.error = BrokenPipeError()
    assert run(one) == []
    assert (one.finished, one.held, one.wants_to_read()) == (True, 0, True)
