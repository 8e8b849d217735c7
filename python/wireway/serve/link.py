"""Owns the frames of the bus between a worker and its supervisor, over a Unix stream socket. Knows no process.

It is a socket of its own beside the channel, so that a word as ``drain`` never waits behind a million broadcasts.

A frame is ``u32 length, u8 kind, u32 length of the head, head as JSON, payload``; the first length counts what follows.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

__all__ = ["ANSWER", "ASK", "HELLO", "LIMIT", "NOTED", "POLL", "PUBLISH", "Link", "pack", "unpack"]

HELLO, PUBLISH, POLL, NOTED, ASK, ANSWER = range(6)
"""What a frame is: a worker listens; a message for many; write your page; it is written; a question; its answer."""
LIMIT = 16 << 20
"""Bytes that may wait for one worker, or for the supervisor. What goes beyond is not taken."""

_HEAD = struct.Struct("!IBI")
_COUNTED = _HEAD.size - 4
_READ = 256 << 10
_AT_ONCE = 64
_OVERHEAD = 64
"""Bytes that a waiting frame costs beyond its own."""


def pack(kind: int, head: dict[str, Any], payload: bytes = b"") -> bytes:
    """A frame."""
    told = json.dumps(head, separators=(",", ":")).encode()
    return b"".join((_HEAD.pack(_COUNTED + len(told) + len(payload), kind, len(told)), told, payload))


def unpack(frame: bytes) -> tuple[dict[str, Any], bytes]:
    """Head and payload of a frame."""
    _, _, told = _HEAD.unpack_from(frame)
    return json.loads(frame[_HEAD.size : _HEAD.size + told]), frame[_HEAD.size + told :]


class Link:
    """One side. It never waits: what the other side does not read waits here, up to `limit` bytes.

    :param sock: a connected Unix stream socket, which the link owns from now on.
    :param on_frame: called with the kind and the whole frame, which may be sent on as it is.
    :param on_end: called once when the other side is gone or breaks the format; never after `close`.

    Everything belongs to the thread that runs the loop.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_frame: Callable[[int, bytes], None],
        on_end: Callable[[], None],
        *,
        limit: int = LIMIT,
    ) -> None:
        sock.setblocking(False)
        self._sock, self._limit = sock, limit
        self._on_frame, self._on_end = on_frame, on_end
        self._loop = asyncio.get_running_loop()
        self._in = bytearray()
        self._out: deque[bytes] = deque()
        self._sent = 0  # bytes of the first in `_out` that have left
        self._writing = False
        self._flushed = asyncio.Event()
        self._flushed.set()
        self.queued = 0
        """Bytes that wait to leave, with what keeping them costs."""
        self.closed = False
        """Whether it has ended: here, or on the other side."""
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, frame: bytes) -> bool:
        """Send a frame, in order. False: it is not sent, as the link has ended or too much waits."""
        cost = len(frame) + _OVERHEAD
        if self.closed or self.queued + cost > self._limit:
            return False
        self._out.append(frame)
        self.queued += cost
        if not self._writing:
            self._flush()
        return not self.closed

    async def flushed(self, seconds: float) -> bool:
        """Wait until nothing waits, or the link has ended, at most so long."""
        try:
            await asyncio.wait_for(self._flushed.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def exhaust(self) -> None:
        """Take all that has arrived by now: the other side is gone, and what it said last counts."""
        while not self.closed and self._readable():
            pass

    def close(self) -> None:
        """End it. What waits is lost, and `on_end` is not called."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        if self._writing:
            self._loop.remove_writer(self._sock.fileno())
        self._out.clear()
        self._in.clear()
        self.queued = 0
        self._flushed.set()
        self._sock.close()

    def _end(self) -> None:
        if not self.closed:
            self.close()
            self._on_end()

    def _flush(self) -> None:
        while self._out:
            pieces: list[bytes | memoryview] = list(islice(self._out, _AT_ONCE))
            pieces[0] = memoryview(pieces[0])[self._sent :]
            try:
                left = self._sent + self._sock.sendmsg(pieces, [], socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # The other side is gone. What it said before is still to be read; the end comes after it.
                self._out.clear()
                self._sent = self.queued = 0
                break
            while self._out and left >= len(self._out[0]):
                gone = len(self._out.popleft())
                left -= gone
                self.queued -= gone + _OVERHEAD
            self._sent = left
        if self._out and not self._writing:
            self._flushed.clear()
            self._loop.add_writer(self._sock.fileno(), self._flush)
        elif not self._out:
            self._flushed.set()
            if self._writing:
                self._loop.remove_writer(self._sock.fileno())
        self._writing = bool(self._out)

    def _readable(self) -> bool:
        """Whether there was something to read."""
        try:
            got = self._sock.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            got = b""
        if not got:
            self._end()
            return False
        self._in += got
        at = 0
        while not self.closed and len(self._in) - at >= _HEAD.size:
            length, kind, told = _HEAD.unpack_from(self._in, at)
            if length > LIMIT or told > length - _COUNTED or kind > ANSWER:
                self._end()
                return False
            if len(self._in) - at < length + 4:
                break
            frame = bytes(self._in[at : at + length + 4])
            at += length + 4
            try:
                self._on_frame(kind, frame)
            except Exception as error:  # noqa: BLE001 - told to the loop, and the next frame is read
                self._loop.call_exception_handler(
                    {"message": "a frame of the bus between processes could not be handled", "exception": error}
                )
        del self._in[:at]
        return not self.closed
