"""`CloseReason`: why one connection ended, with the evidence and a verdict. `ClosedLog`: the last of them.

Owns how an end is told to people and to programs. It knows no server and no socket: `CloseReason.of` takes what the
native half gives. What is costly, reading `struct tcp_info` and the verdict, happens when somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
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
    evidence: Evidence = field(default_factory=Evidence, repr=False, compare=False)
    """What it was built from, as the native half gave it."""
    _verdict: list[Verdict] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, connection: Closable | None, evidence: Evidence, ago: float = 0.0) -> CloseReason:
        """The reason for an end, from what the native half says of it. Nothing is concluded yet: some microseconds.

        :param connection: the connection, while its descriptor is still open; None for a record of the past.
        :param ago: seconds since the end.
        """
        code, why, error = evidence.get("code", "closed"), evidence.get("why", ""), evidence.get("error")
        number, peer, local = evidence.get("id", 0), evidence.get("peer"), None
        if connection is not None:
            number, local = connection.id, connection.local
            peer = connection.peer if peer is None else peer  # a path: only IP addresses are kept
        return cls(code, why, error, number, peer, local, time.time() - ago, evidence=evidence)

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
        """How far it had come: ``connect``, ``proxy-header``, ``first-message``, ``open`` or ``closing``."""
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


class ClosedLog:
    """The connections of a server that ended, and why: the last 10,000, as long as the server object lives.

    The native half keeps them, half a KiB each; a `CloseReason` is made when somebody looks, some 5 ms for a
    thousand. Their exceptions are not kept: those would keep the objects of their frames alive. `errno` is.

    Thread rule: the loop's thread, and any while the loop does not run.
    """

    def __init__(self) -> None:
        """Know of nothing yet."""
        self._records: Callable[[], Iterable[Any]] = tuple
        self._clock: Callable[[], float] = float

    def follow(self, records: Callable[[], Iterable[Any]], clock: Callable[[], float]) -> None:
        """Look there from now on.

        :param records: gives the evidence of each end, the oldest first, such as `ServerCore.records`.
        :param clock: the clock of its `at`, such as `loop.time`.
        """
        self._records, self._clock = records, clock

    def __len__(self) -> int:
        return len(list(self._records()))

    def __iter__(self) -> Iterator[CloseReason]:
        """All that are kept, the oldest first."""
        return iter(self.filter())

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
        found, now, today = [], self._clock(), time.time()
        for evidence in self._records():
            ago = now - evidence.get("at", now)
            if (
                (code is None or evidence.get("code") == code)
                and (since is None or today - ago >= since)
                and (peer is None or _fits(evidence.get("peer"), peer))
                and (side is None or side_of(evidence) == side)
            ):
                found.append(CloseReason.of(None, evidence, ago))
        return found


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
