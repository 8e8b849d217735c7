"""Owns the file format that Wireshark reads: pcapng, draft-ietf-opsawg-pcapng, as far as it is written here.

Three kinds of blocks: one for the section, one for each interface, one for each packet. All are of the same build,
little-endian:

```text
   type (4)  length (4)  body, its end filled up to 4 bytes ...  options ...  length again (4)
```
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import BinaryIO

__all__ = ["IN", "OUT", "Pcapng"]

IN, OUT = 1, 2
"""Direction of a packet, as `epb_flags` has it (section 4.3.1)."""

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_RAW_IP = 101
"""LINKTYPE_RAW: the packet begins with its IPv4 or IPv6 header."""
_COMMENT, _NAME, _DESCRIPTION, _RESOLUTION, _FLAGS = 1, 2, 3, 9, 2
_SYSTEM, _PROGRAM = 3, 4
_NANOSECONDS = b"\x09"
_LONGEST = 65535
"""Bytes of an option."""


class Pcapng:
    """A file that is being written. Each packet is flushed: it can be read while it grows, also through a pipe."""

    def __init__(self, file: BinaryIO, program: str, comment: str) -> None:
        self._file = file
        body = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
        self._block(_SECTION, body, [(_COMMENT, comment.encode()), (_SYSTEM, b"Linux"), (_PROGRAM, program.encode())])
        self._interfaces = 0

    def interface(self, name: str, description: str) -> int:
        """A place where packets are seen. Returns its number."""
        options = [(_NAME, name.encode()), (_DESCRIPTION, description.encode()), (_RESOLUTION, _NANOSECONDS)]
        self._block(_INTERFACE, struct.pack("<HHI", _RAW_IP, 0, 0), options)
        self._interfaces += 1
        return self._interfaces - 1

    def packet(self, interface: int, at: int, data: bytes, direction: int, comment: str = "") -> None:
        """A packet that was seen at `at` nanoseconds since 1970."""
        body = struct.pack("<IIIII", interface, at >> 32, at & 0xFFFFFFFF, len(data), len(data)) + _padded(data)
        options = [(_FLAGS, struct.pack("<I", direction))]
        if comment:
            options.insert(0, (_COMMENT, comment.encode()))
        self._block(_PACKET, body, options)

    def _block(self, kind: int, body: bytes, options: Iterable[tuple[int, bytes]]) -> None:
        told = b"".join(
            struct.pack("<HH", code, len(value[:_LONGEST])) + _padded(value[:_LONGEST]) for code, value in options
        )
        length = 12 + len(body) + len(told) + 4  # the end of the options has no length
        self._file.write(struct.pack("<II", kind, length) + body + told + bytes(4) + struct.pack("<I", length))
        self._file.flush()


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
