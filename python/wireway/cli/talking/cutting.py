"""Owns the cutting of what comes into messages, and what is said of a frame that has begun and is not whole.

The connection itself is raw: only so can the bytes of half a frame be shown. Sans I/O.
"""

from __future__ import annotations

from wireway._native import FrameSplitter
from wireway.framing import FrameError, Framing, Raw, explain

__all__ = ["Cutter"]

_EXPLAINED = 64 * 1024


class Cutter:
    """Bytes to messages, messages to bytes."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self._splitter = FrameSplitter(framing._native())
        self._rest = bytearray()
        self.messages = 0
        """Whole ones that came."""

    @property
    def raw(self) -> bool:
        """There are no messages: what comes is shown as it comes."""
        return isinstance(self.framing, Raw)

    @property
    def waiting(self) -> int:
        """Bytes of a frame that has begun."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now.

        :raises FrameError: what follows is no frame; those before it are in its ``messages``.
        """
        if self.raw:
            self.messages += 1
            return [data]
        self._rest += data
        try:
            found = self._splitter.feed(data)
        except FrameError as error:
            self.messages += len(error.messages)
            self._keep()
            raise
        self.messages += len(found)
        self._keep()
        return found

    def switch(self, framing: Framing) -> list[bytes]:
        """From here on cut in another way, what waits too. Returns what of it is whole now."""
        kept = bytes(self._rest)
        self.framing, self._splitter = framing, FrameSplitter(framing._native())
        self._rest.clear()
        return self.feed(kept) if kept else []

    def encode(self, message: bytes) -> bytes:
        """The frame of a message.

        :raises FrameError: the framing does not take it.
        """
        return message if self.raw else self._splitter.encode(message)

    def missing(self) -> int:
        """Bytes that the begun frame needs at least; 0: none has begun, or its length is not known."""
        return explain(self.framing, self._rest[:_EXPLAINED]).missing - max(len(self._rest) - _EXPLAINED, 0)

    def unfinished(self) -> str:
        """What waits and what is missing of it, in a line; what it may be, if it looks like a common mistake."""
        front = explain(self.framing, self._rest[:_EXPLAINED])
        have = len(self._rest)
        lines = str(front).splitlines()[1:]
        facts = [line.strip() for line in lines if not line.startswith("  left over")]
        text = f"{have:,} byte{'' if have == 1 else 's'} of an unfinished frame"
        if have > _EXPLAINED:
            left = max(front.missing - (have - _EXPLAINED), 0)
            return f"{text}: {left:,} more are missing" if left else text
        return f"{text}: {'; '.join(facts)}; so far {_brief(bytes(self._rest))}"

    def _keep(self) -> None:
        del self._rest[: len(self._rest) - self._splitter.pending]


def _brief(data: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data[:16])
    dots = " …" if len(data) > 16 else ""
    return f"{data[:16].hex(' ')}{dots} |{text}|"
