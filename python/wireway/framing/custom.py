"""A framing that a function of the user's cuts, and what that function answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wireway.errors import ConfigError
from wireway.framing.checks import LARGEST, refuse_size

__all__ = ["CustomFraming", "Frame", "Need"]


@dataclass(frozen=True, slots=True)
class Need:
    """The answer of a cut function: it can not tell yet.

    :param more: the bytes that it needs besides those it was shown, at least 1.
    """

    more: int = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """The answer of a cut function: a frame begins here. Not all of it needs to be there yet.

    :param length: all bytes of the frame, at least 1.
    :param strip: bytes at its front that are not part of the message.
    """

    length: int
    strip: int = field(default=0, kw_only=True)


@dataclass(frozen=True, slots=True)
class CustomFraming:
    """A framing of your own: a function that looks at bytes and says where the frame ends.

    ``cut(data)`` gets the first bytes of a frame, at least one, not always all that have come. It returns `Need` or
    `Frame`, or raises `FrameError` (or any `ValueError`): the connection is then closed with the code ``bad-frame``
    and that text. Any other exception closes it too, and is kept as the reason's ``error``. Asked about the same
    bytes it must answer the same. It runs on the loop's thread, inside reading: it must not use the connection.

    :param cut: the function.
    :param wrap: ``wrap(message)`` returns the whole frame of a message, which `send` sends. Without it messages can
        be read only.
    :param max_size: the largest frame in bytes, header included; 16 MiB unless told. A peer is disconnected as soon
        as the function names or asks for more, before memory is spent on it.
    :raises ConfigError: for any other value.
    """

    cut: Callable[[bytes], Need | Frame]
    wrap: Callable[[bytes], bytes] | None = field(default=None, kw_only=True)
    max_size: int = field(default=16 * 1024 * 1024, kw_only=True)

    def __post_init__(self) -> None:
        if not callable(self.cut):
            raise ConfigError(f"CustomFraming: cut is {self.cut!r}, it must be a function of the bytes at hand")
        if self.wrap is not None and not callable(self.wrap):
            raise ConfigError(f"CustomFraming: wrap is {self.wrap!r}, it must be a function of a message, or None")
        refuse_size("CustomFraming", "max_size", self.max_size)

    def _native(self) -> tuple[Any, ...]:
        return ("custom", self.cut, self.wrap, min(self.max_size, LARGEST), Need, Frame)
