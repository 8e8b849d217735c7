"""The framings that put no length on the wire: none at all, delimiters, messages of one size."""

from __future__ import annotations

from dataclasses import dataclass, field

from wireway.errors import ConfigError
from wireway.framing.checks import LARGEST, refuse_flag, refuse_size
from wireway.units import Bytes

__all__ = ["Delimiter", "FixedLength", "Lines", "Raw"]

_LONGEST = 16
_MAX_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Raw:
    """No framing: each piece that the kernel hands over is a message, of 1 byte to 256 KiB.

    TCP keeps no boundaries: a piece may hold half of what the peer sent, or two sends at once.
    """

    def _native(self) -> tuple[str]:
        return ("raw",)


@dataclass(frozen=True, slots=True)
class Lines:
    r"""Lines: each message ends at ``\n`` or ``\r\n``; it is sent with ``\n``.

    A message that contains ``\n``, or ends with ``\r`` where that would be stripped, is refused by `send`: it would
    not arrive as it is.

    :param keep: the end of the line stays on the message, which must then have it when it is sent.
    :param max_size: the largest message in bytes, its end not counted; 64 KiB unless told. A peer that sends more
        without an end of line is disconnected; no more than that is kept of it.
    :raises ConfigError: for any other value.
    """

    keep: bool = field(default=False, kw_only=True)
    max_size: Bytes = field(default=_MAX_SIZE, kw_only=True)

    def __post_init__(self) -> None:
        refuse_flag("Lines", "keep", self.keep)
        refuse_size("Lines", "max_size", self.max_size)

    def _native(self) -> tuple[str, int, bool]:
        return ("lines", min(self.max_size, LARGEST), self.keep)


@dataclass(frozen=True, slots=True)
class Delimiter:
    """Each message ends where the delimiter first stands. Nothing escapes it: a message that contains it is refused
    by `send`.

    :param delimiter: 1 to 16 bytes, of any value.
    :param keep: the delimiter stays on the message, which must then end with it when it is sent.
    :param max_size: the largest message in bytes, the delimiter not counted; 64 KiB unless told. A peer that sends
        more without a delimiter is disconnected; no more than that is kept of it.
    :raises ConfigError: for any other value.
    """

    delimiter: bytes
    keep: bool = field(default=False, kw_only=True)
    max_size: Bytes = field(default=_MAX_SIZE, kw_only=True)

    def __post_init__(self) -> None:
        if type(self.delimiter) is not bytes or not 1 <= len(self.delimiter) <= _LONGEST:
            raise ConfigError(
                f"Delimiter: delimiter is {self.delimiter!r}, it must be 1 to {_LONGEST} bytes", option="delimiter"
            )
        refuse_flag("Delimiter", "keep", self.keep)
        refuse_size("Delimiter", "max_size", self.max_size)

    def _native(self) -> tuple[str, bytes, int, bool]:
        return ("delimiter", self.delimiter, min(self.max_size, LARGEST), self.keep)


@dataclass(frozen=True, slots=True)
class FixedLength:
    """Messages of one size, with nothing between them. `send` refuses any other size.

    :param size: bytes of each message, at least 1.
    :raises ConfigError: for any other value.
    """

    size: int

    def __post_init__(self) -> None:
        refuse_size("FixedLength", "size", self.size, most=LARGEST)

    def _native(self) -> tuple[str, int]:
        return ("fixed", self.size)
