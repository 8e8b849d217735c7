"""The headers of two protocols that others build on: ISO transport on TCP, and Modbus TCP."""

from __future__ import annotations

from dataclasses import dataclass, field

from wireway.framing.checks import refuse_size
from wireway.units import Bytes

__all__ = ["Mbap", "Tpkt"]

_TPDU = 65531
_ADU = 260


@dataclass(frozen=True, slots=True)
class Tpkt:
    """ISO transport on TCP (RFC 1006, section 6): what S7, RDP, MMS and H.323 stand on.

    The header has 4 bytes: version 3, a reserved byte, and 16 bits for the length of the whole packet. A message is
    the TPDU behind it, of 3 to 65,531 bytes. Another version, or a packet under 7 bytes, closes the connection.

    :param max_size: the largest TPDU in bytes, 3 to 65,531.
    :raises ConfigError: for any other value.
    """

    max_size: Bytes = field(default=_TPDU, kw_only=True)

    def __post_init__(self) -> None:
        refuse_size("Tpkt", "max_size", self.max_size, 3, _TPDU)

    def _native(self) -> tuple[str, int]:
        return ("tpkt", self.max_size)


@dataclass(frozen=True, slots=True)
class Mbap:
    """Modbus TCP ("MODBUS Messaging on TCP/IP Implementation Guide" V1.0b, section 3.1.3).

    A message is the whole ADU: transaction (2 bytes), protocol (2 bytes, always 0), length (2 bytes, of what
    follows), unit, function, data. `send` refuses an ADU whose length field is wrong; another protocol than 0, or a
    length under 2, closes the connection.

    :param max_size: the largest ADU in bytes: 260, as the standard has it, unless told; 8 to 65,541.
    :raises ConfigError: for any other value.
    """

    max_size: Bytes = field(default=_ADU, kw_only=True)

    def __post_init__(self) -> None:
        refuse_size("Mbap", "max_size", self.max_size, 8, 65541)

    def _native(self) -> tuple[str, int]:
        return ("mbap", self.max_size)
