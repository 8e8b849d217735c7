"""`Evidence`: what is known of a connection when it ends, as the native half gives it, and `Case`, the same with names.

Owns the vocabulary: codes and who is behind each, the poll flags, errno names. It concludes nothing: `diagnosis` does.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from wireway.net.tcp_info import TcpInfo

__all__ = [
    "CODES",
    "UNREACHABLE",
    "Case",
    "Evidence",
    "Phase",
    "Side",
    "errno_name",
    "error_number",
    "poll_flag_names",
    "side_of",
    "size",
]

Side = Literal["local", "peer", "kernel", "network"]
Phase = Literal["connect", "proxy-header", "tls-handshake", "first-message", "open", "closing"]

CODES: Mapping[str, Side] = {
    "peer-closed": "peer", "peer-reset": "peer", "truncated-frame": "peer", "bad-frame": "peer",
    "frame-too-large": "peer", "bad-proxy-header": "peer",
    "tls-garbage": "peer", "tls-version": "peer", "tls-no-certificate": "peer", "tls-expired": "peer",
    "tls-wrong-host": "peer", "tls-unknown-ca": "peer", "tls-bad-certificate": "peer", "tls-rejected": "peer",
    "tls-truncated": "peer", "tls-error": "peer", "tls-handshake-timeout": "local",
    "timed-out": "network", "io-error": "kernel",
    "closed": "local", "server-stopped": "local", "aborted": "local", "handed-over": "local",
    "handler-error": "local", "handler-cancelled": "local", "refused": "local",
    "first-message-timeout": "local", "idle-timeout": "local", "read-timeout": "local", "write-timeout": "local",
    "write-stalled": "local", "linger-timeout": "local", "lifetime": "local", "heartbeat-timeout": "local",
    "limit-connections": "local", "limit-address": "local", "limit-subnet": "local", "limit-accept-rate": "local",
    "banned": "local", "denied": "local", "slow-consumer": "local", "memory-budget": "local",
}  # fmt: skip
"""The closed set of codes, and who ended the connection unless the evidence says otherwise."""


UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL)
"""There is no way to the peer, says this machine or a router."""

_SIDE_OF_ERRNO: Mapping[int, Side] = {
    errno.ECONNRESET: "peer", errno.EPIPE: "peer", errno.ECONNREFUSED: "peer",
    errno.ETIMEDOUT: "network", **dict.fromkeys(UNREACHABLE, "network"),
    errno.ECONNABORTED: "kernel", errno.ENOMEM: "kernel", errno.ENOBUFS: "kernel",
}  # fmt: skip


class Evidence(TypedDict, total=False):
    """What the native half says of an end. Times in seconds, sizes in bytes; what is missing is not known."""

    id: int
    code: str
    why: str
    error: BaseException | None
    peer: Any
    at: float
    """When, on the loop's clock."""
    phase: str
    side: str | None
    errno: int | None
    """Of the call that failed."""
    so_error: int
    """`SO_ERROR`, read once."""
    poll_flags: int
    """`revents` of poll(2)."""
    tcp_info: bytes | None
    """`struct tcp_info`, raw."""
    unread: int
    """Arrived, and not read from the kernel (SIOCINQ)."""
    unsent: int
    """Taken by the kernel, not acknowledged by the peer's (SIOCOUTQ)."""
    queued: int
    """Sent by handlers, not yet given to the kernel."""
    partial: int
    """Of a message that had begun."""
    backlog: int
    """Read, and not yet handled."""
    age: float
    idle_in: float
    idle_out: float
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    dialled: bool
    """This side connected; a server's connections came from the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Evidence with every field there, and `struct tcp_info` read."""

    code: str = "closed"
    why: str = ""
    phase: str = "open"
    errno: int = 0
    info: TcpInfo | None = None
    unread: int = 0
    unsent: int = 0
    queued: int = 0
    partial: int = 0
    backlog: int = 0
    age: float = 0.0
    idle_in: float = 0.0
    idle_out: float = 0.0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    dialled: bool = False

    @classmethod
    def of(cls, evidence: Evidence) -> Case:
        """Read the evidence."""
        raw = evidence.get("tcp_info")
        return cls(
            code=evidence.get("code", "closed"),
            why=evidence.get("why", ""),
            phase=evidence.get("phase") or "open",
            errno=error_number(evidence),
            info=TcpInfo.parse(raw) if raw else None,
            unread=evidence.get("unread", 0),
            unsent=evidence.get("unsent", 0),
            queued=evidence.get("queued", 0),
            partial=evidence.get("partial", 0),
            backlog=evidence.get("backlog", 0),
            age=evidence.get("age", 0.0),
            idle_in=evidence.get("idle_in", 0.0),
            idle_out=evidence.get("idle_out", 0.0),
            messages_in=evidence.get("messages_in", 0),
            messages_out=evidence.get("messages_out", 0),
            bytes_in=evidence.get("bytes_in", 0),
            bytes_out=evidence.get("bytes_out", 0),
            dialled=evidence.get("dialled", False),
        )

    @property
    def lost(self) -> int:
        """Bytes of ours that the peer's kernel never acknowledged."""
        return self.unsent + self.queued

    @property
    def silence(self) -> float:
        """Seconds without a sign of life of the peer. The kernel sees its acknowledgements too, we only its data."""
        if self.info is not None and self.info.last_ack_recv is not None:
            return self.info.last_ack_recv
        return self.idle_in

    @property
    def spoke_last(self) -> bool:
        """Whether our data was the last on the way; the kernel knows better than we when it left."""
        if self.info is not None and self.info.last_data_sent is not None and self.info.last_data_recv is not None:
            return self.info.last_data_sent <= self.info.last_data_recv
        return self.idle_out <= self.idle_in

    def figure(self, name: str) -> float:
        """A figure of `info`, 0 if there is none."""
        return float(getattr(self.info, name, None) or 0)


def error_number(evidence: Evidence) -> int:
    """The errno behind an end: the failed call's, the exception's, or `SO_ERROR`; 0 for none."""
    if number := evidence.get("errno") or 0:
        return number
    error = evidence.get("error")
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return evidence.get("so_error") or 0


def side_of(evidence: Evidence) -> Side:
    """Who ended the connection: by its code, and where that only says "an error of the kernel", by the errno."""
    code = evidence.get("code", "closed")
    if code in ("peer-reset", "timed-out", "io-error") and (number := error_number(evidence)) in _SIDE_OF_ERRNO:
        return _SIDE_OF_ERRNO[number]
    return CODES.get(code, "local")


def errno_name(number: int) -> str:
    """`ECONNRESET` for 104; the number itself if it has no name; nothing for 0."""
    return errno.errorcode.get(number, str(number)) if number else ""


_FLAGS = (
    ("IN", select.POLLIN), ("OUT", select.POLLOUT), ("RDHUP", select.POLLRDHUP), ("ERR", select.POLLERR),
    ("HUP", select.POLLHUP),
)  # fmt: skip


def poll_flag_names(flags: int) -> tuple[str, ...]:
    """`("IN", "RDHUP")` for the `revents` of poll(2)."""
    return tuple(name for name, bit in _FLAGS if flags & bit)


def size(count: int) -> str:
    """`1 byte`, `17 bytes`, `64.0 KiB`, for people."""
    if count < 10_000:
        return "1 byte" if count == 1 else f"{count} bytes"
    amount, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}"
