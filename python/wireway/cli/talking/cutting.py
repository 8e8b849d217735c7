"""Owns the cutting of what comes into messages, and what is said of a frame that has begun and is not whole.

The connection itself is raw: only so can the bytes of half a frame be shown. Sans I/O.
"""

from __future__ import annotations

from wireway._native import FrameSplitter
from wireway.cli.talking.cuts import Cuts
from wireway.cli.talking.words import brief
from wireway.framing import FrameError, Framing, Raw, explain

__all__ = ["Cutter"]

_EXPLAINED = 64 * 1024


class Cutter:
    """Bytes to messages, messages to bytes.

    :param whole: what comes are messages already, as of a WebSocket: nothing is to be cut.
    """

    def __init__(self, framing: Framing, *, whole: bool = False) -> None:
        self.framing, self._whole = framing, whole
        self.messages = 0
        """Whole ones that came, over all connections."""
        self.lost = False
        """What came is no frame: it is kept, and handed out as it comes, until it is cut in another way."""
        self.explains = False
        """Whether `explained` tells how each receive was cut."""
        self._said: list[str] = []
        self.begin()

    def begin(self) -> None:
        """Another connection: nothing waits, and nothing came."""
        self._splitter = FrameSplitter(self.framing._native())
        self._rest = bytearray()
        self._cuts = Cuts(self.framing)
        self.lost = False

    @property
    def raw(self) -> bool:
        """There are no messages: what comes is shown as it comes."""
        return isinstance(self.framing, Raw) and not self._whole

    @property
    def waiting(self) -> int:
        """Bytes of a frame that has begun."""
        return 0 if self.lost else len(self._rest)

    @property
    def uncut(self) -> bytes:
        """What is kept and could not be cut."""
        return bytes(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now; where that is `lost`, what came.

        :raises FrameError: what follows is no frame; those before it are in its ``messages``.
        """
        if self.lost:
            self._rest = self._rest + data if len(self._rest) < _EXPLAINED else bytearray()
            self._cuts.skip(len(data), 0, len(self._rest))
            return [data]
        if isinstance(self.framing, Raw):
            self.messages += 1
            self._tell(data, b"", 1)
            return [data]
        waited = bytes(self._rest) if self.explains else b""
        self._rest += data
        try:
            found = self._splitter.feed(data)
        except FrameError as error:
            self.lost = True
            self._count(len(error.messages))
            self._tell(data, waited, len(error.messages), failed=True)
            raise
        self._count(len(found))
        self._tell(data, waited, len(found))
        return found

    def switch(self, framing: Framing) -> list[bytes]:
        """From here on cut in another way, what waits too. Returns what of it is whole now.

        :raises FrameError: as `feed`. It is cut in the new way all the same.
        """
        kept = bytes(self._rest)
        self.framing, self._splitter = framing, FrameSplitter(framing._native())
        self._rest.clear()
        self.lost = False
        self._cuts.switch(framing, len(kept))
        return self.feed(kept) if kept else []

    def encode(self, message: bytes) -> bytes:
        """The frame of a message.

        :raises FrameError: the framing does not take it.
        """
        return message if isinstance(self.framing, Raw) else self._splitter.encode(message)

    def missing(self) -> int:
        """Bytes that the begun frame needs at least; 0: none has begun, or its length is not known."""
        return explain(self.framing, self._rest[:_EXPLAINED]).missing - max(len(self._rest) - _EXPLAINED, 0)

    def unfinished(self) -> str:
        """What waits and what is missing of it, in a line; what it may be, if it looks like a common mistake."""
        have = len(self._rest)
        text = f"{have:,} byte{'' if have == 1 else 's'} of an unfinished frame"
        if have > _EXPLAINED:
            left = max(self.missing(), 0)
            return f"{text}: {left:,} more are missing" if left else text
        return f"{text}: {self._explained()}"

    def refused(self) -> str:
        """Where what came is no frame, and why, in a line."""
        return f"what came is no frame: {self._explained()}"

    def _explained(self) -> str:
        front = explain(self.framing, self._rest[:_EXPLAINED])
        lines = [line.strip() for line in str(front).splitlines()[1:]]
        facts = "; ".join(line for line in lines if not line.startswith("left over"))
        # It counts from the begun frame; people count from the first byte that came.
        place = facts.replace("at 0:", f"at {self._cuts.received - len(self._rest):,}:", 1)
        return f"{place}; so far {brief(bytes(self._rest))}"

    def _count(self, whole: int) -> None:
        self.messages += whole
        del self._rest[: len(self._rest) - self._splitter.pending]

    def _tell(self, data: bytes, waited: bytes, whole: int, *, failed: bool = False) -> None:
        if self.explains and not self._whole:
            self._said += self._cuts.tell(data, waited, whole, len(self._rest), failed=failed)
        elif not self._whole:
            self._cuts.skip(len(data), whole, len(self._rest))

    def explained(self) -> list[str]:
        """What there is to tell of the last receives; told once."""
        said, self._said = self._said, []
        return said
