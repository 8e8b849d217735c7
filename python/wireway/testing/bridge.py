"""One connection through a `FaultyLink`: two sockets, and the bytes on their way between them.

Owns what is done to bytes: when a piece is due, how large it may be, and how an end is passed on. Knows neither the
selector nor the thread; `Host` is what it needs of them. Time is read where bytes come in, and passed in elsewhere.

One connection is a `Bridge` of two `Pipe`s. What a pipe takes it keeps, at most `HELD` bytes, until its rules say
that it is due::

    source ──recv──> queue of (due, piece) ──send──> sink       upstream: client to target; downstream: back

The end of the stream and a reset wait in the same queue, behind the bytes that came before them.
"""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["HELD", "NEVER", "TICK", "Bridge", "Direction", "Host", "Pipe", "ResetError", "Rules"]

HELD = 256 * 1024
"""Bytes that one direction of one connection keeps at most: beyond it, the sender is no longer read."""
TICK = 0.01
"""Seconds of its rate that a limited direction sends at once."""
NEVER = float("inf")
_PIECE = 64 * 1024

Direction = Literal["upstream", "downstream"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is done to one direction. The default does nothing."""

    size: int = HELD
    """The largest piece that is passed on, bytes."""
    every: float = 0.0
    """Seconds between two pieces."""
    delay: float = 0.0
    jitter: float = 0.0
    """Each piece waits `delay` seconds, and up to `jitter` more."""
    rate: float = NEVER
    """Bytes a second."""
    reset_after: int | None = None
    """Bytes after which both sides are reset."""
    reads: bool = True
    """Whether the sender is read."""
    silent: bool = False
    """Nothing is read, nothing passed on, no end noticed."""


class Host(Protocol):
    """What a bridge needs of the thread that it lives in."""

    rules: dict[Direction, Rules]
    random: random.Random
    bytes: dict[Direction, int]
    unreachable: int
    resets: int

    def watch(self, sock: socket.socket, events: int, callback: Callable[[int], None] | None) -> None:
        """Call back when one of `events` is there; 0 forgets the socket."""

    def forget(self, bridge: Bridge) -> None:
        """The bridge is closed."""


class ResetError(Exception):
    """Both sides of the connection are to be reset."""


class Pipe:
    """One direction of one connection."""

    def __init__(self, relay: Host, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        self.relay, self.source, self.sink = relay, source, sink
        self.direction: Direction = direction
        self.queue: deque[tuple[float, memoryview | None]] = deque()
        """When a piece is due, and the piece: an empty one is the end of the stream, None a reset."""
        self.held = self.passed = self.marked = 0
        self.last_due = self.free_at = 0.0
        self.taking = True
        """The source has not ended."""
        self.discards = False
        """What still comes is thrown away: the sink was told the end, or is gone."""
        self.blocked = False
        """The sink takes nothing at present."""
        self.finished = False
        """The sink was told the end."""

    @property
    def rules(self) -> Rules:
        return self.relay.rules[self.direction]

    def wants_to_read(self) -> bool:
        rules = self.rules
        return self.taking and rules.reads and not rules.silent and (self.discards or self.held < HELD)

    def take(self, now: float) -> None:
        """Read once. Never raises for what the network does: a reset is passed on in its turn."""
        try:
            data = self.source.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.taking = False
            self._queue(now, None)
            return
        if not data:
            self.taking = False
        self._queue(now, memoryview(data))

    def _queue(self, now: float, piece: memoryview | None) -> None:
        if self.discards:
            return
        rules = self.rules
        wait = rules.delay + (self.relay.random.uniform(0.0, rules.jitter) if rules.jitter else 0.0)
        self.last_due = max(self.last_due, now + wait)  # bytes of a stream do not overtake each other
        self.held += 0 if piece is None else len(piece)
        self.queue.append((self.last_due, piece))

    def end(self) -> None:
        """Tell the sink the end after what is held; discard the rest."""
        if not self.discards:
            self._queue(time.monotonic(), memoryview(b""))
            self.discards = True

    def pass_on(self, now: float) -> float:
        """Send what is due. Returns when to come again: infinity if something else must happen first."""
        rules = self.rules
        # One small piece at a time: the thread under test runs in between, and may see it alone.
        for _ in range(1 if rules.size < HELD else 16):
            if rules.reset_after is not None and self.passed - self.marked >= rules.reset_after:
                raise ResetError
            if rules.silent or not self.queue:
                return NEVER
            due, piece = self.queue[0]
            due = max(due, self.free_at)
            if due > now:
                return due
            if piece is None:
                raise ResetError
            if not piece:
                self.queue.popleft()
                self._finish()
                return NEVER
            try:
                sent = self.sink.send(piece[: self._most(rules)])
            except (BlockingIOError, InterruptedError):
                self.blocked = True
                return NEVER
            except OSError:
                self._break()
                return NEVER
            self._sent(now, rules, sent)
        return now if self.queue else NEVER

    def _most(self, rules: Rules) -> int:
        most = rules.size
        if rules.rate != NEVER:
            most = min(most, max(1, int(rules.rate * TICK)))
        if rules.reset_after is not None:
            most = min(most, rules.reset_after - (self.passed - self.marked))
        return most

    def _sent(self, now: float, rules: Rules, size: int) -> None:
        self.blocked = False
        self.passed += size
        self.held -= size
        self.relay.bytes[self.direction] += size
        due, piece = self.queue.popleft()
        assert piece is not None
        if size < len(piece):
            self.queue.appendleft((due, piece[size:]))
        # A thread that woke up late makes up for it, by two ticks at most.
        paced = max(self.free_at, now - 2 * TICK) + size / rules.rate
        self.free_at = max(paced, now + rules.every)

    def _finish(self) -> None:
        self.finished = True
        self.discards = True
        with contextlib.suppress(OSError):  # it is gone already: its own end tells
            self.sink.shutdown(socket.SHUT_WR)

    def _break(self) -> None:
        """The sink is gone. What it sent before is still in its receive queue, and goes the other way first."""
        self.queue.clear()
        self.held = 0
        self.blocked, self.discards, self.finished = False, True, True


class Bridge:
    """One connection: the client's socket, the target's, and the two directions between them."""

    def __init__(self, relay: Host, client: socket.socket, target: socket.socket, connecting: bool) -> None:
        self.relay, self.client, self.target, self.connecting = relay, client, target, connecting
        self.up = Pipe(relay, "upstream", client, target)
        self.down = Pipe(relay, "downstream", target, client)
        self.wake_at = 0.0
        self.closed = False

    def ready(self, sock: socket.socket, mask: int) -> None:
        """What the selector says of one of the two sockets."""
        if self.closed:
            return
        if self.connecting:
            if sock is self.target and mask & selectors.EVENT_WRITE:
                self.connecting = False
                if self.target.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self.relay.unreachable += 1
                    self.reset()
            return
        taker, giver = (self.up, self.down) if sock is self.client else (self.down, self.up)
        if mask & selectors.EVENT_READ:
            taker.take(time.monotonic())
        if mask & selectors.EVENT_WRITE:
            giver.blocked = False

    def work(self, now: float) -> None:
        """Pass on what is due, end what has ended, and say what is waited for."""
        self.wake_at = NEVER
        if not self.connecting:
            try:
                self.wake_at = min(self.up.pass_on(now), self.down.pass_on(now))
            except ResetError:
                self.reset()
                return
            if self.up.finished and self.down.finished:
                self.close()
                return
        self._watch(self.client, self.up, self.down)
        self._watch(self.target, self.down, self.up)

    def _watch(self, sock: socket.socket, taker: Pipe, giver: Pipe) -> None:
        events = 0
        if self.connecting:
            events = selectors.EVENT_WRITE if sock is self.target else 0
        else:
            if taker.wants_to_read():
                events |= selectors.EVENT_READ
            if giver.blocked and not giver.rules.silent:
                events |= selectors.EVENT_WRITE
        self.relay.watch(sock, events, lambda mask: self.ready(sock, mask))

    def reset(self) -> None:
        """End both sides with RST. A Unix socket knows none: there the peer sees the end of the stream, or
        ECONNRESET if it had sent what was not read."""
        if self.closed:
            return
        self.relay.resets += 1
        for sock in (self.client, self.target):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close()

    def close(self) -> None:
        """End both sides with FIN. Closing with unread bytes would be a reset (RFC 2525, 2.17): they are read."""
        for sock in (self.client, self.target):
            with contextlib.suppress(OSError):
                for _ in range(64):
                    if not sock.recv(_PIECE):
                        break
        self._close()

    def _close(self) -> None:
        self.closed = True
        for sock in (self.client, self.target):
            self.relay.watch(sock, 0, None)
            sock.close()
        self.relay.forget(self)
