"""How a stream of bytes is cut into messages. What a user names; the cutting itself is native.

A framing is a value: frozen, comparable, checked when it is made. Knows no socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from wireway.errors import ConfigError

__all__ = ["Framing", "LengthPrefix", "Raw"]

_WIDTHS = (1, 2, 3, 4, 8)


@dataclass(frozen=True, slots=True)
class Raw:
    """No framing: each piece that the kernel hands over is a message, of 1 byte to 256 KiB.

    TCP keeps no boundaries: a piece may hold half of what the peer sent, or two sends at once.
    """

    def _native(self) -> tuple[str]:
        return ("raw",)


@dataclass(frozen=True, slots=True)
class LengthPrefix:
    """A length before each message; the length counts the message only, not itself.

    :param width: bytes of the length: 1, 2, 3, 4 or 8.
    :param byteorder: ``"big"`` (network order) or ``"little"``.
    :param max_size: the largest message in bytes, 16 MiB unless told. A peer that announces more is
        disconnected from its header alone, before memory is spent on it.
    :raises ConfigError: for any other value.
    """

    width: int = 4
    byteorder: Literal["big", "little"] = field(default="big", kw_only=True)
    max_size: int = field(default=16 * 1024 * 1024, kw_only=True)

    def __post_init__(self) -> None:
        if type(self.width) is not int or self.width not in _WIDTHS:
            raise ConfigError(f"LengthPrefix: width is {self.width!r}, allowed are 1, 2, 3, 4 and 8 bytes")
        if self.byteorder not in ("big", "little"):
            raise ConfigError(f"LengthPrefix: byteorder is {self.byteorder!r}, allowed are 'big' and 'little'")
        if type(self.max_size) is not int or self.max_size < 1:
            raise ConfigError(f"LengthPrefix: max_size is {self.max_size!r}, it must be at least 1 byte")

    def _native(self) -> tuple[str, int, str, int]:
        return ("length", self.width, self.byteorder, self.max_size)


Framing = Raw | LengthPrefix
