"""`MemoryConnection`: one side of a `memory_pair`, a connection in memory with the real framers.

Owns what a `wireway.Connection` does for a handler, without socket, server and kernel: framing, order, watermarks,
ends. Knows no time and no deadline, and no back end. What one side sends is bytes to the other: they are cut as `cut`
says, then by the native decoder of the other side's framing, when it asks for a message.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn, Self

from wireway._native import FrameSplitter
from wireway.errors import ConfigError, ConnectionClosedError, WirewayError
from wireway.framing import FrameError, Framing
from wireway.net.closing import CloseReason
from wireway.net.evidence import Evidence
from wireway.net.memory import ConnectionMemory
from wireway.net.requests import Correlate, Requests
from wireway.net.sending import SendResult

__all__ = ["Cut", "MemoryConnection"]

Cut = int | Sequence[int] | Callable[[bytes], Iterable[bytes]] | None
"""How bytes are cut on their way: pieces of one size, of these sizes in turn, as a function says; None: as sent."""
_NAMES = ("192.0.2.1", 50000), ("192.0.2.2", 9000)
"""Addresses that are nobody's: TEST-NET-1, RFC 5737."""


class MemoryConnection:
    """One side of a `memory_pair`, with the methods and the manners of a `wireway.Connection`.

    To a type checker it is none, since that class is final: a handler's annotation wants a ``cast``.
    Thread rule: everything belongs to one thread; waiting needs a running loop, of any kind.
    """

    def __init__(
        self, number: int, framing: Framing, cut: Cut, low: int, high: int, requests: Correlate | None
    ) -> None:
        """Made by `memory_pair`."""
        self.id = number
        self.local, self.peer = _NAMES if number % 2 else _NAMES[::-1]
        self.state: Any = None
        self.user: str | None = None
        self.tls: None = None
        self.reason: CloseReason | None = None
        """Why it closed, as `on_close` would be told; None while it is open."""
        self._other: MemoryConnection = self
        self._framing = framing
        self._splitter = FrameSplitter(framing._native())
        self._sizes = _sizes(cut) if isinstance(cut, int | Sequence) else None
        self._cut = cut if callable(cut) else None
        self._low, self._high = low, high
        self._wire: deque[bytes] = deque()
        """Pieces that the other side sent and this one has not taken."""
        self._on_wire = 0
        self._ended: str | None = None
        """Behind the pieces: the other side sends no more, by FIN ("end") or having closed ("closed")."""
        self._sends = True
        self._paused = False
        self._waiting: asyncio.Future[None] | None = None
        self._drains: list[asyncio.Future[None]] = []
        self._groups: list[str] = []
        self._requests = Requests(self, requests)
        self._latest: dict[bytes, bytes] = {}
        """What `send_latest` keeps until the other side has taken enough, by key."""
        self._aside: deque[bytes] = deque()
        """Messages that came before an answer that somebody waits for."""
        self._counts = {"messages_in": 0, "messages_out": 0, "bytes_in": 0, "bytes_out": 0}

    # --- sending ----------------------------------------------------------------------------------------------

    def send(self, message: bytes | bytearray | memoryview) -> Awaitable[None]:
        """Send one message. Awaiting it waits while more than `high` bytes have not been taken by the other side.

        :raises ConnectionClosedError: it is closed, or half-closed.
        :raises FrameError: the framing can not send the message.
        """
        self.send_nowait(message)
        return self.drain()

    def send_nowait(self, message: bytes | bytearray | memoryview) -> SendResult:
        """Send one message and do not wait: `QUEUED`, or `OVER` the high watermark. Raises as `send`."""
        if not self._sends:
            self._raise_closed()
        frame = self._splitter.encode(message)
        self._counts["messages_out"] += 1
        self._counts["bytes_out"] += len(frame)
        other = self._other
        if other.reason is None:  # else it goes nowhere, as to a peer that has closed
            pieces = [frame]
            if self._cut is not None:
                pieces = list(self._cut(frame))
                if b"".join(pieces) != frame:
                    raise ConfigError(f"memory_pair: cut made {pieces!r} of {frame!r}: it may only cut")
            elif self._sizes is not None:
                pieces = list(_cut_up(frame, self._sizes))
            other._wire.extend(piece for piece in pieces if piece)
            other._on_wire += len(frame)
            other._wake()
        return SendResult.QUEUED if self.writable else SendResult.OVER

    def send_latest(self, message: bytes | bytearray | memoryview, key: bytes) -> SendResult:
        """Send a message that the next with the same key makes worthless: above the high watermark it waits apart,
        and a newer one takes its place. Raises as `send`."""
        if self.writable and not self._latest:
            return self.send_nowait(message)
        if not self._sends:
            self._raise_closed()
        self._splitter.encode(message)  # refuses now what it would refuse later
        self._latest[bytes(key)] = bytes(message)
        return SendResult.OVER

    async def drain(self) -> None:
        """Wait until the other side has taken enough: at most `low` bytes wait, if they were more than `high`.

        :raises ConnectionClosedError: it closed meanwhile.
        """
        if self.writable:
            return
        future = asyncio.get_running_loop().create_future()
        self._drains.append(future)
        try:
            await future
        finally:
            if future in self._drains:
                self._drains.remove(future)

    def request(self, message: bytes, *, deadline: float | None = None) -> Awaitable[bytes]:
        """Send a message, wait for its answer and return that: see `Client.request`. Other messages are kept.

        :raises RequestTimeoutError: no answer within `deadline` seconds.
        :raises ConnectionClosedError: it closed before the answer.
        """
        if not self._sends:
            self._raise_closed()
        return self._requests.request(message, deadline=deadline)

    @property
    def queued(self) -> int:
        """Bytes that the other side has not taken."""
        return self._other._on_wire

    @property
    def writable(self) -> bool:
        """Whether `send` would return at once."""
        return self.queued <= self._high

    # --- receiving --------------------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """Wait for the next message. Cancelling it loses nothing.

        :raises ConnectionClosedError: none comes any more; the text says why.
        """
        message = await self._next()
        if message is None:
            self._raise_closed()
        return message

    def receive_nowait(self) -> bytes | None:
        """The next message if a whole one is there, else None. A `Connection` has no such method: it is for tests.

        :raises ConnectionClosedError: none comes any more.
        """
        message = self._take()
        if message is None and self._is_over():
            self._raise_closed()
        return message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        message = await self._next()
        if message is None:
            if self.reason is None or self.reason.code in ("peer-closed", "closed"):
                raise StopAsyncIteration
            self._raise_closed()
        return message

    async def _next(self) -> bytes | None:
        while (message := self._take()) is None and not self._is_over():
            if self._waiting is not None:
                raise RuntimeError("another receive() waits for the next message of this connection")
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return message

    def _take(self) -> bytes | None:
        """The next message that is no answer, out of what has come."""
        if self.reason is None and not self._paused and self._aside:
            return self._aside.popleft()
        while (message := self._decode()) is not None:
            if self._requests.received(message) is None:
                return message
        return None

    def _sift(self) -> None:
        """Find answers in what has come, also while nobody takes messages."""
        while self._requests.pending and (message := self._decode()) is not None:
            if self._requests.received(message) is None:
                self._aside.append(message)
        if self._is_over():
            self._requests.closed(self._closed_error)

    def _decode(self) -> bytes | None:
        """The next message. Ends the connection for bytes that are none, and at the end of the stream."""
        if self.reason is not None or self._paused:
            return None
        try:
            messages = self._splitter.feed(b"", 1)
            while not messages and self._wire:
                piece = self._wire.popleft()
                self._on_wire -= len(piece)
                self._counts["bytes_in"] += len(piece)
                messages = self._splitter.feed(piece, 1)
        except FrameError as error:
            self._end(error.code, str(error), error.__cause__)
            return None
        self._other._relieve()
        if messages:
            self._counts["messages_in"] += 1
            return messages[0]
        if self._ended is not None and not self._aside:
            self._come_to_the_end()
        return None

    def _come_to_the_end(self) -> None:
        if left := self._splitter.pending:
            self._end("truncated-frame", f"the peer ended its stream within a message, after {left} bytes of it")
        elif self._ended == "closed" or not self._sends:
            self._end("peer-closed", "the peer closed the connection")

    def _is_over(self) -> bool:
        return self.reason is not None or (self._ended is not None and not (self._wire or self._aside or self._paused))

    def pause(self) -> None:
        """Take no message until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Take messages again."""
        self._paused = False
        self._wake()

    def set_framing(self, framing: Framing) -> None:
        """From here on another framing holds, both ways, also for bytes that came and were not taken."""
        self._splitter.switch(framing._native())
        self._framing = framing

    # --- the end ----------------------------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self.reason is not None

    def close(self, why: str = "closed by the server") -> None:
        """Close: the other side still gets what was sent, and then the end."""
        self._flush_latest()
        self._end("closed", why)

    def abort(self, why: str = "aborted by the server") -> None:
        """Break off: what the other side has not taken is lost, and it sees a reset."""
        if self.reason is None:
            self._end("aborted", why)
            self._other._wire.clear()
            self._other._on_wire = 0
            self._other._end("peer-reset", "the peer reset the connection", ConnectionResetError("by the peer"))

    def half_close(self) -> None:
        """Send no more, and go on receiving: the other side gets what was sent, and then the end."""
        if self._sends:
            self._flush_latest()
            self._sends = False
            self._other._ended = self._other._ended or "end"
            self._other._wake()

    def _end(self, code: str, why: str, error: BaseException | None = None) -> None:
        if self.reason is not None:
            return
        self.reason = CloseReason.of(self, Evidence(code=code, why=why, error=error))
        self._sends = False
        self._wire.clear()
        self._on_wire = 0
        self._other._ended = "closed"
        self._other._wake()
        self._other._relieve()
        self._wake()
        for future in self._drains:
            if not future.done():
                future.set_exception(self._closed_error())
        self._drains.clear()
        self._requests.closed(self._closed_error)

    def _closed_error(self) -> ConnectionClosedError:
        if self.reason is not None:
            return ConnectionClosedError(f"the connection is closed: {self.reason.why}")
        return ConnectionClosedError(f"the connection is {'at its end' if self._sends else 'half-closed'}")

    def _raise_closed(self) -> NoReturn:
        raise self._closed_error()

    def _wake(self) -> None:
        if self._requests.pending:
            self._sift()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _flush_latest(self) -> None:
        latest, self._latest = self._latest, {}
        if self._sends:
            for message in latest.values():
                self.send_nowait(message)

    def _relieve(self) -> None:
        """The other side took something: whoever waits to send goes on."""
        if self.queued > self._low:
            return
        self._flush_latest()
        if self._drains:
            for future in self._drains:
                if not future.done():
                    future.set_result(None)
            self._drains.clear()

    # --- the rest of a connection -------------------------------------------------------------------------------

    @property
    def groups(self) -> list[str]:
        """The groups that it is in. Nobody broadcasts to them: that is the server's."""
        return list(self._groups)

    def join(self, group: str) -> bool:
        """Join a group; False if it is in it, or closed."""
        if group in self._groups or self.is_closing:
            return False
        self._groups.append(group)
        return True

    def leave(self, group: str) -> bool:
        """Leave a group; False if it is not in it."""
        if group not in self._groups:
            return False
        self._groups.remove(group)
        return True

    @property
    def stats(self) -> dict[str, Any]:
        """Counts of messages and bytes, in and out. No times: no time passes here."""
        return dict(self._counts)

    def explain(self) -> str:
        """What holds it up, for people."""
        return f"in memory: {self.queued} bytes sent and not taken by the other side"

    def memory(self) -> ConnectionMemory:
        """Its memory by owner: what waits between the two sides, and its objects. The kernel has none of it."""
        size = sys.getsizeof(self) + (0 if self.state is None else sys.getsizeof(self.state))
        return ConnectionMemory(core_queued=self.queued, core_received=self._on_wire, python=size)

    def fileno(self) -> int:
        """There is none: -1, as of a closed socket."""
        return -1

    def tcp_info(self) -> NoReturn:
        """There is no TCP.

        :raises WirewayError: always.
        """
        raise WirewayError("a connection in memory has no TCP_INFO: use a real one, with `wireway.testing.served`")

    def __repr__(self) -> str:
        state = f"closed: {self.reason.code}" if self.reason else f"{self.queued} bytes queued"
        return f"<MemoryConnection {self.id} {state}>"


def _sizes(cut: int | Sequence[int]) -> Iterator[int]:
    sizes = [cut] if isinstance(cut, int) else list(cut)
    if not sizes or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise ConfigError(f"memory_pair: cut is {cut!r}, sizes must be at least 1 byte")
    return itertools.cycle(sizes)


def _cut_up(data: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = start + next(sizes)
        yield data[start:end]
        start = end
