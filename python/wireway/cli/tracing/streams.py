"""Owns what becomes of a trace's events: the two directions of a connection, frame by frame. Sans I/O.

A server says which pieces came and left, and where it cut them; here the two are put together:

```text
   in    "in" bytes ...  "cut" 9, 5    -> a frame of the first 9 bytes, of which 5 are the message
   out   "queued" 9      "out" bytes   -> a frame of the first 9 bytes, once they have left
   gap-in, gap-out                     -> so many bytes are not known here
```
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import wireway
from wireway._native import FrameSplitter
from wireway.framing import Framing

__all__ = ["Frame", "Loss", "Note", "Piece", "Stream", "framing_from"]


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame."""

    at: int
    """Nanoseconds since 1970: when it was cut, or when its last byte left."""
    way: str
    size: int
    message: int | None
    """Bytes of the message in it; None if that is not known."""
    data: bytes
    """The frame's bytes, as far as they were seen: its last ones."""
    skip: int | None
    """Bytes before the message; None if that is not known."""
    pieces: int
    """In how many pieces it came or left."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes as they came or left."""

    at: int
    way: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Loss:
    """What was not seen, since this side was too slow."""

    at: int
    way: str
    events: int
    size: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something else that is to be told."""

    at: int
    text: str
    ended: bool = False


def framing_from(told: dict[str, Any] | None) -> Framing | None:
    """The framing that a server tells of; None for one that only its program knows."""
    if told is None:
        return None
    options = {
        name: bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
        for name, value in told.items()
        if name != "kind"
    }
    kinds = {kind.__name__: kind for kind in (
        wireway.Raw, wireway.Lines, wireway.Delimiter, wireway.FixedLength, wireway.LengthPrefix, wireway.Varint,
        wireway.Tpkt, wireway.Mbap,
    )}  # fmt: skip
    kind: Any = kinds.get(str(told.get("kind")))
    made: Framing | None = None if kind is None else kind(**options)
    return made


class _Way:
    """One direction: bytes that are not cut yet."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.unseen = 0
        """Bytes before those, which were not seen."""
        self.pieces: deque[int] = deque()
        """What is left of each piece, bytes."""
        self.frames: deque[int] = deque()
        """Going out: the sizes of the frames to come."""

    def feed(self, data: bytes) -> None:
        self.data += data
        self.pieces.append(len(data))

    def start(self, waiting: int) -> None:
        """From here on it is seen: after so many bytes that were not."""
        self.data.clear()
        self.pieces.clear()
        self.frames.clear()
        self.unseen = waiting

    @property
    def waiting(self) -> int:
        """Bytes that are not cut, seen or not."""
        return self.unseen + len(self.data)

    def take(self, size: int) -> tuple[bytes, int]:
        """The next `size` bytes, as far as they were seen, and in how many pieces they were."""
        hidden = min(self.unseen, size)
        self.unseen -= hidden
        left = size - hidden
        data = bytes(self.data[:left])
        del self.data[:left]
        count = 0
        while left > 0 and self.pieces:
            count += 1
            part = min(left, self.pieces[0])
            left -= part
            self.pieces[0] -= part
            if self.pieces[0] == 0:
                self.pieces.popleft()
        return data, count


class Stream:
    """A connection that is traced.

    :param about: what the server tells of it.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        self.about = about
        self.framing = framing_from(about["framing"])
        self._native = None if self.framing is None else self.framing._native()
        self._ways = {"in": _Way(), "out": _Way()}
        self.ended = False

    def take(self, event: list[Any]) -> Iterator[Frame | Piece | Loss | Note]:
        """What an event gives."""
        at, kind = int(event[0]), event[2]
        match kind:
            case "in" | "out":
                data = base64.b64decode(event[3])
                yield Piece(at, kind, data)
                way = self._ways[kind]
                way.feed(data)
                if kind == "out":
                    # What was queued before this began has no known end: it goes before the first frame.
                    if way.unseen or way.frames:
                        yield from self._left(at, way)
                    else:
                        way.take(len(data))
            case "cut":
                yield self._frame(at, "in", int(event[3]), int(event[4]))
            case "header":
                _, pieces = self._ways["in"].take(int(event[3]))
                yield Note(at, f"PROXY header of {_bytes(int(event[3]))}{_in_pieces(pieces)}")
            case "queued":
                self._ways["out"].frames.append(int(event[3]))
            case "gap-in" | "gap-out":
                waiting, events, size = (int(value) for value in event[3:6])
                way = self._ways[kind[4:]]
                way.start(waiting)
                if events:
                    yield Loss(at, kind[4:], events, size)
            case "ended":
                self.ended = True
                yield from self._rest(at)
                yield Note(at, f"ended: {event[3]}: {event[4]}", ended=True)

    def unfinished(self) -> str | None:
        """What has come of a frame that is not whole, in words; None if none has begun."""
        way = self._ways["in"]
        if not way.waiting:
            return None
        text = f"{_bytes(way.waiting)} of a frame that is not whole"
        if self.framing is None or way.unseen or not way.data:
            return text
        front = wireway.framing.explain(self.framing, bytes(way.data[:65536]))
        return text if front.problem is None or front.frames else f"{text}: {front.problem}"

    def _frame(self, at: int, way: str, size: int, message: int | None) -> Frame:
        data, pieces = self._ways[way].take(size)
        skip = None
        if self._native is not None and len(data) == size:
            try:
                seen = FrameSplitter.look(self._native, data)
            except wireway.framing.FrameError:
                seen = 0  # it was cut in another way: `set_framing`
            if isinstance(seen, tuple) and sum(seen) == size and message in (None, seen[1]):
                skip, message = seen[0], seen[1]
        return Frame(at, way, size, message, data, skip, pieces)

    def _left(self, at: int, way: _Way) -> Iterator[Frame | Note]:
        if way.unseen:
            before = min(way.unseen, len(way.data))
            way.unseen = way.unseen - before
            data = way.data[:before]
            del way.data[:before]
            while way.pieces and before:
                part = min(before, way.pieces[0])
                before -= part
                way.pieces[0] -= part
                if way.pieces[0] == 0:
                    way.pieces.popleft()
            yield Note(at, f"out {_bytes(len(data))} that were queued before")
        while way.frames and len(way.data) >= way.frames[0]:
            yield self._frame(at, "out", way.frames.popleft(), None)

    def _rest(self, at: int) -> Iterator[Note]:
        left = self.unfinished()
        if left:
            yield Note(at, f"in  {left}")
        way = self._ways["out"]
        unsent = sum(way.frames) - len(way.data)
        if unsent > 0:
            count = len(way.frames)
            yield Note(at, f"out {count:,} frame{'' if count == 1 else 's'} not sent: {_bytes(unsent)} never left")


def _bytes(count: int) -> str:
    return f"{count:,} byte{'' if count == 1 else 's'}"


def _in_pieces(count: int) -> str:
    return f", in {count:,} pieces" if count > 1 else ""
