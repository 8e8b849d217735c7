"""`TcpInfo`: what Linux knows of a TCP connection, `getsockopt(TCP_INFO)` of tcp(7), with units.

Owns the layout of `struct tcp_info` (linux/tcp.h). It knows no socket: it reads bytes. What the figures mean for a
connection is told by `diagnosis`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["TcpInfo"]

_STATES = (
    "UNKNOWN", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
    "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip
"""By their numbers in include/net/tcp_states.h."""

_MICRO, _MILLI = 1e-6, 1e-3

_FIELDS: tuple[tuple[str, int, str, float | None], ...] = (
    # name, where it stands, how it is stored (native order), seconds in its unit if it is a time
    ("retransmits", 2, "=B", None),
    ("probes", 3, "=B", None),
    ("backoff", 4, "=B", None),
    ("rto", 8, "=I", _MICRO),
    ("snd_mss", 16, "=I", None),
    ("unacked", 24, "=I", None),
    ("sacked", 28, "=I", None),
    ("lost", 32, "=I", None),
    ("retrans", 36, "=I", None),
    ("last_data_sent", 44, "=I", _MILLI),
    ("last_data_recv", 52, "=I", _MILLI),
    ("last_ack_recv", 56, "=I", _MILLI),
    ("pmtu", 60, "=I", None),
    ("rtt", 68, "=I", _MICRO),
    ("rttvar", 72, "=I", _MICRO),
    ("snd_ssthresh", 76, "=I", None),
    ("snd_cwnd", 80, "=I", None),
    ("total_retrans", 100, "=I", None),
    ("bytes_acked", 120, "=Q", None),
    ("bytes_received", 128, "=Q", None),
    ("segs_out", 136, "=I", None),
    ("segs_in", 140, "=I", None),
    ("notsent", 144, "=I", None),
    ("min_rtt", 148, "=I", _MICRO),
    ("delivery_rate", 160, "=Q", None),
    ("busy", 168, "=Q", _MICRO),
    ("rwnd_limited", 176, "=Q", _MICRO),
    ("sndbuf_limited", 184, "=Q", _MICRO),
    ("bytes_sent", 200, "=Q", None),
    ("bytes_retrans", 208, "=Q", None),
    ("snd_wnd", 228, "=I", None),
    ("rcv_wnd", 232, "=I", None),
)

_NOT_MEASURED = {"rtt": 0, "rttvar": 0, "min_rtt": 0xFFFF_FFFF}
"""What the kernel gives before the first round trip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpInfo:
    """The kernel's figures of one connection. Times are seconds, sizes bytes, windows and counts as named.

    A field that this kernel does not know is None (the structure grows at its end, from Linux 2.6 to today). When a
    connection is dead, by reset or timeout, the kernel has set `unacked`, `notsent` and `backoff` to zero
    (`tcp_write_queue_purge`); all other figures are those of the moment of its death, and `state` is CLOSE.
    """

    state: str
    """ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING."""
    retransmits: int | None = None
    """Timeouts in a row of the segment that is being sent again now; 0 when an acknowledgement came."""
    probes: int | None = None
    """Window or keepalive probes sent since the peer last answered."""
    backoff: int | None = None
    """Doublings of the timeout."""
    rto: float | None = None
    """The retransmission timeout."""
    snd_mss: int | None = None
    """The largest segment that we send."""
    unacked: int | None = None
    """Segments on the way, without an acknowledgement."""
    sacked: int | None = None
    """Segments that arrived behind a gap."""
    lost: int | None = None
    """Segments on the way that are taken to be lost."""
    retrans: int | None = None
    """Segments on the way that were sent again."""
    total_retrans: int | None = None
    """Segments sent again in the connection's life."""
    last_data_sent: float | None = None
    """How long ago data was last sent (the same as the age, when none was)."""
    last_data_recv: float | None = None
    """How long ago data last came."""
    last_ack_recv: float | None = None
    """How long ago the peer last acknowledged anything: it, and the way from it, were alive then."""
    pmtu: int | None = None
    """The largest packet that the way takes."""
    rtt: float | None = None
    """The round trip, smoothed; None before it was measured."""
    rttvar: float | None = None
    """Its mean deviation; None before it was measured."""
    min_rtt: float | None = None
    """The shortest round trip lately; None before it was measured."""
    snd_cwnd: int | None = None
    """The congestion window, in segments."""
    snd_ssthresh: int | None = None
    """Where slow start ends, in segments."""
    bytes_acked: int | None = None
    """Sent and acknowledged. Counts SYN and FIN as one each."""
    bytes_received: int | None = None
    """Received in order."""
    bytes_sent: int | None = None
    """Sent, repetitions included."""
    bytes_retrans: int | None = None
    """Sent again."""
    segs_in: int | None = None
    """Segments received, those without data included."""
    segs_out: int | None = None
    """Segments sent, those without data included."""
    notsent: int | None = None
    """Bytes that the kernel holds and has not sent once."""
    delivery_rate: int | None = None
    """The latest bytes a second that arrived at the peer."""
    busy: float | None = None
    """Time with data to send."""
    rwnd_limited: float | None = None
    """Time of it that the peer's receive window held us up: its program did not read fast enough."""
    sndbuf_limited: float | None = None
    """Time of it that our send buffer held us up."""
    snd_wnd: int | None = None
    """The peer's receive window: how much it would take. 0: its buffer is full."""
    rcv_wnd: int | None = None
    """The window that we offer."""

    @classmethod
    def parse(cls, data: bytes) -> TcpInfo:
        """Read `struct tcp_info` as the kernel of this machine gave it, however long.

        :raises ValueError: fewer than 8 bytes: no kernel gives so few.
        """
        if len(data) < 8:
            raise ValueError(f"struct tcp_info has at least 8 bytes, got {len(data)}")
        found: dict[str, Any] = {}
        for name, place, code, unit in _FIELDS:
            if place + struct.calcsize(code) <= len(data):
                value = struct.unpack_from(code, data, place)[0]
                if name not in _NOT_MEASURED or value != _NOT_MEASURED[name]:
                    found[name] = value if unit is None else value * unit
        return cls(state=_STATES[data[0]] if data[0] < len(_STATES) else f"STATE_{data[0]}", **found)
