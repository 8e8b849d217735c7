"""Owns the packets that stand for what a connection received and sent: IP and TCP around the pieces of its stream.

A trace sees streams, not packets: the packets here are made up, so that Wireshark can read the stream. Addresses,
ports, order, times, sequence numbers and checksums are right; how the network cut the stream is not known. A connection
that is seen from its beginning begins with a handshake, one that ended ends with FIN or RST. What was lost here is a
hole in the sequence numbers.

A Unix socket has no addresses: its ends are 100::1 (the server) and 100::2 (the peer), of a prefix that nobody has
(RFC 6666), and the peer's port is the connection's number.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from wireway.cli.tracing.pcapng import IN, OUT, Pcapng
from wireway.cli.tracing.streams import Frame, Loss, Note, Piece, Stream

__all__ = ["Packets"]

_LARGEST = 65_000
"""Bytes of the stream in one packet: a packet's length has 16 bits."""
_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_TCP = 6
_WINDOW = 65535
_RESET = ("peer-reset", "aborted", "slow-consumer", "memory-budget", "timed-out", "io-error")
"""Codes of ends that are no orderly ones."""


class Packets:
    """What a connection's events are, as packets of a file."""

    def __init__(self, file: Pcapng, interface: int, stream: Stream) -> None:
        self._file, self._interface, self._stream = file, interface, stream
        about = stream.about
        self._peer = _end(about["peer_name"], "100::2", about["id"])
        self._local = _end(about["local_name"], "100::1", 1)
        if self._peer[0].version != self._local[0].version:  # a dual-stack socket
            self._peer, self._local = _as_six(self._peer), _as_six(self._local)
        self._next = {IN: 1, OUT: 1}
        self._held: tuple[int, int, bytes, list[str]] | None = None
        self._frames: list[int] = []
        self._begun = False
        self._lost = ""

    def take(self, event: list[Any], what: list[Frame | Piece | Loss | Note]) -> None:
        """An event, and what it gave."""
        kind = event[2]
        if kind == "queued":
            self._frames.append(int(event[3]))
        elif kind == "gap-in" or kind == "gap-out":
            self.flush()
        for each in what:
            match each:
                case Piece(at, way, data):
                    self._piece(at, IN if way == "in" else OUT, data)
                case Frame(_, "in", size, message) if self._held is not None:
                    inner = "" if message in (None, size) else f", message of {message:,}"
                    self._held[3].append(f"frame of {size:,}{inner}")
                case Loss(_, way, events, size):
                    self._next[IN if way == "in" else OUT] += size
                    self._lost = f"before this, {events:,} events and {size:,} bytes were not seen"
                case Note(at, text, True):
                    self._end(at, text)
                case _:
                    pass

    def flush(self) -> None:
        """Write the packet that waits for what is said of it."""
        held, self._held = self._held, None
        if held is not None:
            at, way, data, comments = held
            self._write(at, way, data, "; ".join(comments))

    def _piece(self, at: int, way: int, data: bytes) -> None:
        self.flush()
        self._begin(at)
        comments = []
        if self._lost:
            comments.append(self._lost)
            self._lost = ""
        if way == OUT and self._frames:
            frames, self._frames = self._frames, []
            shown = ", ".join(f"{size:,}" for size in frames[:10])
            what = "frame" if len(frames) == 1 else f"{len(frames):,} frames"
            comments.append(f"queued: {what} of {shown}{' …' if len(frames) > 10 else ''}")
        self._held = (at, way, data, comments)

    def _begin(self, at: int) -> None:
        if self._begun:
            return
        self._begun = True
        if not self._stream.about["new"]:
            return
        comment = "made up: the trace began before its first byte"
        for way, flags in ((IN, _SYN), (OUT, _SYN | _ACK), (IN, _ACK)):
            sequence = self._next[way] - (1 if flags & _SYN else 0)
            self._packet(at, way, flags, sequence, b"", comment if flags == _SYN else "")

    def _end(self, at: int, text: str) -> None:
        self.flush()
        self._begin(at)
        code = text.removeprefix("ended: ").partition(":")[0]
        if code == "handed-over":
            return
        from_peer = code.startswith("peer-") or code in ("truncated-frame", "tls-truncated")
        first = IN if from_peer else OUT
        if code in _RESET:
            self._packet(at, first, _RST | _ACK, self._next[first], b"", text)
            return
        other = OUT if first == IN else IN
        self._packet(at, first, _FIN | _ACK, self._next[first], b"", text)
        self._next[first] += 1
        self._packet(at, other, _FIN | _ACK, self._next[other], b"", "")
        self._next[other] += 1
        self._packet(at, first, _ACK, self._next[first], b"", "")

    def _write(self, at: int, way: int, data: bytes, comment: str) -> None:
        for start in range(0, len(data), _LARGEST):
            part = data[start : start + _LARGEST]
            self._packet(at, way, _PSH | _ACK, self._next[way], part, comment if start == 0 else "")
            self._next[way] += len(part)

    def _packet(self, at: int, way: int, flags: int, sequence: int, data: bytes, comment: str) -> None:
        source, target = (self._peer, self._local) if way == IN else (self._local, self._peer)
        acknowledged = self._next[OUT if way == IN else IN] if flags & _ACK else 0
        if flags & _SYN and flags & _ACK:
            acknowledged = self._next[IN]
        tcp = struct.pack(
            ">HHIIBBHHH", source[1], target[1], sequence & 0xFFFFFFFF, acknowledged & 0xFFFFFFFF, 5 << 4, flags,
            _WINDOW, 0, 0,
        )  # fmt: skip
        length = len(tcp) + len(data)
        ends = source[0].packed + target[0].packed
        if source[0].version == 4:
            pseudo = ends + struct.pack(">BBH", 0, _TCP, length)
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, _TCP, 0) + ends
            head = head[:10] + struct.pack(">H", _checksum(head)) + head[12:]
        else:
            pseudo = ends + struct.pack(">II", length, _TCP)
            head = struct.pack(">IHBB", 6 << 28, length, _TCP, 64) + ends
        tcp = tcp[:16] + struct.pack(">H", _checksum(pseudo + tcp + data)) + tcp[18:]
        self._file.packet(self._interface, at, head + tcp + data, way, comment)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _end(name: list[Any] | None, instead: str, number: int) -> tuple[_Address, int]:
    if name is None:
        return ipaddress.ip_address(instead), number & 0xFFFF
    address = ipaddress.ip_address(str(name[0]).partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped, int(name[1])


def _as_six(end: tuple[_Address, int]) -> tuple[_Address, int]:
    address, port = end
    if isinstance(address, ipaddress.IPv4Address):
        address = ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
    return address, port


def _checksum(data: bytes) -> int:
    """RFC 1071: the ones' complement of the ones' complement sum of 16-bit words."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
