"""`CloseReason`: why one connection ended, with the evidence and a verdict. `ClosedLog`: the last of them.

Owns how an end is told to people and to programs. It knows no server and no socket: `CloseReason.of` takes what the
native half gives. What is costly, reading `struct tcp_info` and the verdict, happens when somebody asks.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any, Protocol

from wireway.net.diagnosis import Verdict, verdict
from wireway.net.evidence import Evidence, Side, errno_name, error_number, poll_flag_names, side_of, size
from wireway.net.tcp_info import TcpInfo

__all__ = ["Closable", "CloseReason", "ClosedLog"]


class Closable(Protocol):
    """What `CloseReason.of` wants to know of a connection."""

    @property
    def id(self) -> int: ...
    @property
    def peer(self) -> Any: ...
    @property
    def local(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a connection ended: for programs a `code`, for people `str(reason)` and `reason.explain()`.

    Times are seconds and sizes bytes. What is not known is 0, or None where 0 would mean something. Immutable; may be
    used from every thread.
    """

    code: str
    """One of the closed set of docs/reference/close-reasons.md, such as ``peer-reset``."""
    why: str
    """One sentence for people: what was seen. What it means is the `verdict`."""
    error: BaseException | None = None
    """The exception behind it: the handler's, or the kernel's as an `OSError`."""
    connection: int = 0
    """The connection's `id`; 0 if it never became one."""
    peer: Any = None
    """The peer's address, as `Connection.peer`."""
    local: Any = None
    """Our own."""
    closed_at: float = field(default_factory=time.time)
    """When, as `time.time()`."""
    detail: str = ""
    """The traceback of `error` as text, in the entries of a `ClosedLog`: those do not keep the exception itself."""
    evidence: Evidence = field(default_factory=Evidence, repr=False, compare=False)
    """What it was built from, as the native half gave it."""
    _verdict: list[Verdict] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, connection: Closable, evidence: Evidence) -> CloseReason:
        """The reason for the end of `connection`, whose descriptor is still open.

        Nothing is concluded yet: some microseconds.
        """
        code, why, error = evidence.get("code", "closed"), evidence.get("why", ""), evidence.get("error")
        peer = evidence.get("peer")
        if peer is None:  # a path: the native half keeps IP addresses only
            peer = connection.peer
        return cls(code, why, error, connection.id, peer, connection.local, evidence=evidence)

    @classmethod
    def of_connect(
        cls, error: OSError | TimeoutError, peer: Any = None, *, age: float = 0.0, tcp_info: bytes | None = None
    ) -> CloseReason:
        """The reason why a connection could not be made.

        :param error: what `connect` raised. A `TimeoutError` of your own deadline is ETIMEDOUT too.
        :param peer: where to.
        :param age: seconds that it tried.
        :param tcp_info: ``sock.getsockopt(IPPROTO_TCP, TCP_INFO, 256)``, asked before the socket was closed.
        """
        code = "timed-out" if isinstance(error, TimeoutError) else "io-error"
        text = str(error) or "no answer within the connect timeout"
        evidence = Evidence(code=code, why=text, error=error, phase="connect", age=age, tcp_info=tcp_info)
        return cls(code, text, error, peer=peer, evidence=evidence)

    # --- who and when ---------------------------------------------------------------------------------------------

    @property
    def side(self) -> Side:
        """Who ended it: ``local`` (this program), ``peer``, ``kernel`` (of this machine) or ``network``."""
        return side_of(self.evidence)

    @property
    def phase(self) -> str:
        """How far it had come.

        ``connect``, ``proxy-header``, ``tls-handshake``, ``first-message``, ``open`` or ``closing``.
        """
        return self.evidence.get("phase") or "open"

    @property
    def age(self) -> float:
        """How long it lived."""
        return self.evidence.get("age", 0.0)

    @property
    def opened_at(self) -> float:
        """When it began, as `time.time()`."""
        return self.closed_at - self.age

    @property
    def idle(self) -> float:
        """How long neither side had sent anything."""
        return min(self.idle_in, self.idle_out)

    @property
    def idle_in(self) -> float:
        """How long nothing had come."""
        return self.evidence.get("idle_in", 0.0)

    @property
    def idle_out(self) -> float:
        """How long nothing had been sent."""
        return self.evidence.get("idle_out", 0.0)

    # --- what the kernel said -------------------------------------------------------------------------------------

    @property
    def errno(self) -> int:
        """The errno behind the end, of the failed call or `SO_ERROR`; 0 for none."""
        return error_number(self.evidence)

    @property
    def so_error(self) -> int:
        """The socket's pending error, as the one read of `SO_ERROR` gave it; 0 for none."""
        return self.evidence.get("so_error") or 0

    @property
    def poll_flags(self) -> tuple[str, ...]:
        """What poll(2) said of the socket last: of IN, OUT, RDHUP, ERR, HUP."""
        return poll_flag_names(self.evidence.get("poll_flags") or 0)

    @property
    def tcp_info(self) -> TcpInfo | None:
        """The kernel's last figures; None if it was not TCP or they were not taken. Read anew at each call."""
        raw = self.evidence.get("tcp_info")
        return TcpInfo.parse(raw) if raw else None

    # --- what was on the way --------------------------------------------------------------------------------------

    @property
    def unread(self) -> int:
        """Bytes of the peer that this process never read from the kernel."""
        return self.evidence.get("unread", 0)

    @property
    def backlog(self) -> int:
        """Bytes of the peer that were read and not handled."""
        return self.evidence.get("backlog", 0)

    @property
    def partial(self) -> int:
        """Bytes of a message of the peer that had begun."""
        return self.evidence.get("partial", 0)

    @property
    def queued(self) -> int:
        """Bytes of ours that were never given to the kernel: lost."""
        return self.evidence.get("queued", 0)

    @property
    def unsent(self) -> int:
        """Bytes of ours that the kernel had and the peer's did not acknowledge: lost, unless only that was lost."""
        return self.evidence.get("unsent", 0)

    @property
    def messages_in(self) -> int:
        """Messages that were handled."""
        return self.evidence.get("messages_in", 0)

    @property
    def messages_out(self) -> int:
        """Messages that were sent or queued."""
        return self.evidence.get("messages_out", 0)

    @property
    def bytes_in(self) -> int:
        """Bytes that came."""
        return self.evidence.get("bytes_in", 0)

    @property
    def bytes_out(self) -> int:
        """Bytes that the kernel took."""
        return self.evidence.get("bytes_out", 0)

    # --- what it means --------------------------------------------------------------------------------------------

    @property
    def verdict(self) -> Verdict:
        """What most probably happened, how sure that is, and what else it may have been. Found at the first call."""
        if not self._verdict:
            self._verdict.append(verdict(Evidence(**{"code": self.code, "why": self.why, **self.evidence})))
        return self._verdict[0]

    def __str__(self) -> str:
        where = f" to {_address(self.peer)}" if self.peer is not None else ""
        return f"{self.code} ({self.side}) after {self.age:.1f} s{where}: {self.verdict}"

    def explain(self) -> str:
        """All of it, for people: several lines, the verdict first."""
        found = self.verdict
        lines = [f"{found.text} ({found.confidence:.0%} sure)"]
        lines += [f"  or: {other}" for other in found.alternatives]
        lines += [f"{name}: {text}" for name, text in self._facts() if text]
        if self.detail:
            lines += ["", self.detail.rstrip()]
        return "\n".join(lines)

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "code", f"{self.code}, by {self.side}, in phase {self.phase}: {self.why}"
        yield "connection", f"{self.connection}, peer {_address(self.peer)}, local {_address(self.local)}"
        yield (
            "time",
            f"lived {self.age:.3f} s; last heard {self.idle_in:.3f} s ago, last sent {self.idle_out:.3f} s ago",
        )
        if self.error is not None:
            yield "error", repr(self.error)
        names = [errno_name(self.errno) and f"errno {errno_name(self.errno)}"]
        names.append(errno_name(self.so_error) and f"SO_ERROR {errno_name(self.so_error)}")
        names.append(f"poll {'|'.join(self.poll_flags)}" if self.poll_flags else "")
        yield "kernel", ", ".join(name for name in names if name)
        yield (
            "received",
            f"{self.messages_in} messages, {size(self.bytes_in)}; {size(self.unread)} unread, "
            f"{size(self.backlog)} not handled, {size(self.partial)} of a begun message",
        )
        yield (
            "sent",
            f"{self.messages_out} messages, {size(self.bytes_out)}; {size(self.unsent)} not acknowledged, "
            f"{size(self.queued)} not sent",
        )
        info = self.tcp_info
        if info is not None:
            rtt = "unknown" if info.rtt is None else f"{info.rtt * 1000:.1f} ms"
            yield (
                "TCP",
                f"{info.state}, round trip {rtt}, {info.total_retrans} segments sent again ({info.retransmits} times "
                f"in a row at the end), {info.probes} probes unanswered, peer window {info.snd_wnd}, "
                f"last acknowledgement {info.last_ack_recv} s ago",
            )

    def detached(self) -> CloseReason:
        """The same without the exception, whose traceback would keep every object of its frames alive.

        An exception that holds none, such as the kernel's errors, stays.
        """
        error = self.error
        if error is None or (error.__traceback__ is None and error.__context__ is None and error.__cause__ is None):
            return self
        kept = Evidence(**{**self.evidence, "error": None})
        if isinstance(error, OSError):
            kept["errno"] = self.errno
        return replace(self, error=None, detail="".join(traceback.format_exception(error)), evidence=kept)


class ClosedLog:
    """The last ends of connections, as of the moment at which a server was asked for them.

    :param capacity: how many are kept; the oldest goes first. One takes about 2 KiB.

    Thread rule: any thread; it changes no more once a server gave it.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        """Keep nothing yet."""
        self._kept: deque[CloseReason] = deque(maxlen=capacity)
        self._counts: Counter[str] = Counter()

    def add(self, reason: CloseReason) -> None:
        """Keep one. Its exception is kept as text, `CloseReason.detail`."""
        self._counts[reason.code] += 1
        self._kept.append(reason if reason.error is None else reason.detached())

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[CloseReason]:
        """Those that are kept, the oldest first."""
        return iter(tuple(self._kept))

    @property
    def counts(self) -> dict[str, int]:
        """How many were added for each code, kept or not."""
        return dict(self._counts)

    @property
    def total(self) -> int:
        """How many were added."""
        return self._counts.total()

    def filter(
        self,
        *,
        code: str | None = None,
        side: str | None = None,
        peer: str | tuple[Any, ...] | None = None,
        since: float | None = None,
    ) -> list[CloseReason]:
        """Those that fit all that is given, the oldest first.

        :param code: such as ``peer-reset``.
        :param side: local, peer, kernel or network.
        :param peer: an address (``192.0.2.7``), a network (``192.0.2.0/24``), a path, or all of `CloseReason.peer`.
        :param since: closed at this `time.time()` or later.
        """
        return [
            reason
            for reason in self
            if (code is None or reason.code == code)
            and (side is None or reason.side == side)
            and (since is None or reason.closed_at >= since)
            and (peer is None or _fits(reason.peer, peer))
        ]


def _fits(address: Any, wanted: str | tuple[Any, ...]) -> bool:
    if address == wanted:
        return True
    if not (isinstance(address, tuple) and isinstance(wanted, str)):
        return False
    host = str(address[0])
    if "/" not in wanted:
        return host == wanted
    try:
        return ip_address(host.partition("%")[0]) in ip_network(wanted, strict=False)
    except ValueError:
        return False


def _address(address: Any) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "?" if address is None else str(address) or "(unnamed)"
