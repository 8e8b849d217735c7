"""Owns the explanation of each receive: which frames it held, and where it cut one. For `--explain`. Sans I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from wireway.cli.talking.words import brief
from wireway.framing import Framing, Raw, explain

__all__ = ["Cuts"]

_MOST = 64 * 1024
"""Bytes that are looked into for one receive."""
_FRAMES = 20
"""Frames that are told of one receive."""


class Cuts:
    """Follows the stream of one connection, from its first byte.

    Offsets are counted from there.
    """

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self.received = 0
        """Bytes in all."""
        self._number = 0
        self._receives = 0
        """In how many the begun frame came so far."""

    def switch(self, framing: Framing, kept: int) -> None:
        """From here on it is cut in another way; `kept` bytes that waited are told of again."""
        self._framing = framing
        self.received -= kept
        self._receives = 0

    def skip(self, size: int, whole: int, rest: int) -> None:
        """A receive of so many bytes of which nothing is told."""
        self._number += 1
        self.received += size
        self._count(size, whole, rest)

    def tell(self, data: bytes, waited: bytes, whole: int, rest: int, *, failed: bool = False) -> Iterator[str]:
        """What was received, and how it was cut, in lines.

        :param waited: the front of the frame that had begun before.
        :param whole: frames that are whole now.
        :param rest: bytes that are left of the last, begun one.
        :param failed: what is left is no frame.
        """
        self._number += 1
        begin, self.received = self.received, self.received + len(data)
        where = f"receive {self._number}: {_bytes(len(data))}, {begin:,} to {self.received:,}"
        if isinstance(self._framing, Raw):
            yield f"{where}: {brief(data)}"
            return
        yield f"{where}: {self._verdict(bool(waited), whole, rest, failed)}"
        looked = waited + data
        base = self.received - len(looked)
        found = explain(self._framing, looked[:_MOST])
        for frame in found.frames[:_FRAMES]:
            yield f"  {replace(frame, offset=base + frame.offset)}"
        if (more := whole - min(len(found.frames), _FRAMES)) > 0:
            yield f"  … and {more:,} more"
        if rest:
            last = found if len(looked) <= _MOST else explain(self._framing, looked[len(looked) - rest :][:_MOST])
            beyond = max(rest - _MOST, 0)
            said = (
                _without_place(str(last), hints=failed) if not beyond else f"needs {last.missing - beyond:,} more bytes"
            )
            yield f"  at {self.received - rest:,}: {_bytes(rest)} of a frame: {said}"
        self._count(len(data), whole, rest)

    def _count(self, size: int, whole: int, rest: int) -> None:
        """In how many receives the begun frame came: it began in this one if one is whole, or no more waits."""
        self._receives = 0 if not rest else 1 if whole or rest <= size else self._receives + 1

    def _verdict(self, waited: bool, whole: int, rest: int, failed: bool) -> str:
        """The receive in a few words: one for one, several in one, or one that is cut off."""
        parts = []
        if whole:
            parts.append(f"{whole:,} whole frame{'' if whole == 1 else 's'}")
            if waited:
                which = "which" if whole == 1 else "the first of which"
                parts[0] += f", {which} came in {self._receives + 1} receives"
        if failed:
            parts.append("what is no frame")
        elif rest:
            parts.append("a frame that is cut off" if whole or not waited else "more of a frame that is cut off")
        return " and ".join(parts) or "nothing whole"


def _without_place(text: str, *, hints: bool) -> str:
    """What an explanation says of the begun frame, without its own offset."""
    facts = [line.strip() for line in text.splitlines()[1:]]
    begun = next((fact for fact in reversed(facts) if fact.startswith("at ")), "").partition(": ")[2]
    return "; ".join([begun, *(fact for fact in facts if hints and fact.startswith("hint: "))])


def _bytes(count: int) -> str:
    return f"{count:,} byte{'' if count == 1 else 's'}"
