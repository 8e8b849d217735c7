"""The framings with a length before each message, and every place where a protocol may have put it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from wireway.errors import ConfigError
from wireway.framing.checks import LARGEST, refuse_flag, refuse_size
from wireway.units import Bytes

__all__ = ["LengthPrefix", "Varint"]

_WIDTHS = (1, 2, 3, 4, 8)
_MAX_SIZE = 16 * 1024 * 1024
_FAR = 64 * 1024
"""A header longer than this is no header."""


@dataclass(frozen=True, slots=True)
class LengthPrefix:
    """A length before each message.

    ``LengthPrefix(4)`` is the usual case: four bytes, network order, counting the message only. The other options
    describe headers that others made; Netty's and Swoole's names for them stand in docs/reference/framing.md. A
    frame has ``offset`` bytes, then the length field, then what the length counts (``adjustment`` corrects it); the
    message is what remains after ``strip`` bytes.

    Sending makes the frame that gives the message back. With ``strip=0`` the message is the whole frame and must
    bring the right length; with ``offset=0`` and no more than the length field stripped the field is written. Any
    other layout can be read only, and `send` refuses.

    :param width: bytes of the length: 1, 2, 3, 4 or 8.
    :param byteorder: ``"big"`` (network order) or ``"little"``.
    :param max_size: the largest message in bytes, 16 MiB unless told. A peer that announces more is
        disconnected from its header alone, before memory is spent on it.
    :param offset: bytes before the length field, at most 64 KiB.
    :param includes_header: the length counts the whole frame from its first byte; if not, what follows the field.
    :param adjustment: bytes added to the length that was read; negative if the length counts too many.
    :param strip: bytes at the front of a frame that are not part of the message. Unless told the length field if
        ``offset`` is 0, else none: the message is the whole frame then.
    :raises ConfigError: for any other value.
    """

    width: int = 4
    byteorder: Literal["big", "little"] = field(default="big", kw_only=True)
    max_size: Bytes = field(default=_MAX_SIZE, kw_only=True)
    offset: int = field(default=0, kw_only=True)
    includes_header: bool = field(default=False, kw_only=True)
    adjustment: int = field(default=0, kw_only=True)
    strip: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if type(self.width) is not int or self.width not in _WIDTHS:
            raise ConfigError(
                f"LengthPrefix: width is {self.width!r}, allowed are 1, 2, 3, 4 and 8 bytes", option="width"
            )
        if self.byteorder not in ("big", "little"):
            raise ConfigError(
                f"LengthPrefix: byteorder is {self.byteorder!r}, allowed are 'big' and 'little'", option="byteorder"
            )
        refuse_size("LengthPrefix", "max_size", self.max_size)
        refuse_size("LengthPrefix", "offset", self.offset, 0, _FAR)
        refuse_flag("LengthPrefix", "includes_header", self.includes_header)
        refuse_size("LengthPrefix", "adjustment", self.adjustment, -_FAR, _FAR)
        if self.strip is not None:
            refuse_size("LengthPrefix", "strip", self.strip, 0, _FAR)

    @property
    def _stripped(self) -> int:
        if self.strip is not None:
            return self.strip
        return 0 if self.offset else self.width

    def _native(self) -> tuple[str, int, str, int, int, bool, int, int]:
        limit = min(self.max_size, LARGEST)
        layout = (self.offset, self.includes_header, self.adjustment, self._stripped)
        return ("length", self.width, self.byteorder, limit, *layout)


@dataclass(frozen=True, slots=True)
class Varint:
    """A length as protocol buffers write it before each message: seven bits in a byte, the least significant first.

    This is what ``writeDelimitedTo`` (Java) and ``SerializeDelimitedToOstream`` (C++) make
    (https://protobuf.dev/programming-guides/encoding/#varints).

    :param max_bytes: the longest length: 5 bytes (32 bits) or 10 (64 bits). A longer one closes the connection.
    :param max_size: the largest message in bytes, 16 MiB unless told. A peer that announces more is
        disconnected from its header alone, before memory is spent on it.
    :raises ConfigError: for any other value.
    """

    max_bytes: int = field(default=5, kw_only=True)
    max_size: Bytes = field(default=_MAX_SIZE, kw_only=True)

    def __post_init__(self) -> None:
        if type(self.max_bytes) is not int or self.max_bytes not in (5, 10):
            raise ConfigError(
                f"Varint: max_bytes is {self.max_bytes!r}, allowed are 5 (32 bits) and 10 (64 bits)", option="max_bytes"
            )
        refuse_size("Varint", "max_size", self.max_size)

    def _native(self) -> tuple[str, int, int]:
        return ("varint", self.max_bytes, min(self.max_size, LARGEST))
