"""From evidence to a verdict: pure functions that say in plain words why a connection ended, or what slows it now.

Owns the rules and how sure they are. It knows no socket and no server: what it says of the same evidence is always the
same. The facts behind the rules, with their sources: docs/explanation/resets.md. A verdict is a guess with a number:
two causes that leave the same packets on the wire can not be told apart from one end, and then the second is named too.

Long because: every way to end has its rule, and they are read beside each other.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from wireway.net.evidence import CODES, UNREACHABLE, Case, Evidence, errno_name, size
from wireway.net.tcp_info import TcpInfo

__all__ = ["Verdict", "bottleneck", "diagnose", "verdict"]

_FRESH = 0.2
"""Seconds: a reset answering data sent after a longer silence is by a host that does not know the connection."""

_LONG_IDLE = 60.0
"""Seconds after which firewalls and NAT may have forgotten a connection; RFC 5382 asks for hours, many keep minutes."""

_MIDDLEBOX = "a firewall, NAT or load balancer between cut the connection"
_BETWEEN = "somebody between shows a certificate of its own"
_LINGER = "its program aborted on purpose (SO_LINGER with 0 seconds)"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What most probably happened."""

    text: str
    """One sentence for people."""
    confidence: float
    """From 0 to 1: how probable, were one to see many ends with this evidence."""
    alternatives: tuple[str, ...] = ()
    """What else leaves the same evidence, the likelier first."""

    def __str__(self) -> str:
        return f"{self.text} ({self.confidence:.0%})"


def verdict(evidence: Evidence) -> Verdict:
    """The verdict on an end. Takes some microseconds; never fails for evidence that lacks something."""
    return diagnose(Case.of(evidence))


def diagnose(case: Case) -> Verdict:
    """The same of evidence that is read already."""
    if case.phase == "connect":
        return _connect(case)
    if case.code in ("peer-reset", "timed-out", "io-error"):
        rule = _BY_ERRNO.get(case.errno) or {"peer-reset": _reset, "timed-out": _timed_out}.get(case.code)
        return rule(case) if rule else _other_error(case)
    return _BY_CODE.get(case.code, _ours)(case)


# --- the kernel's errors -------------------------------------------------------------------------------------------


def _reset(case: Case) -> Verdict:
    """RST. Whether for unread data, on purpose, or by a host that never heard of us shows in what was on the way."""
    sent_ago = case.figure("last_data_sent") if case.info else case.idle_out
    if case.lost == 0 and case.figure("probes") > 0:
        return Verdict(
            f"half-open: after {case.silence:.0f} s of silence the peer answered a keepalive probe with a reset; its "
            "host no longer knows the connection (it restarted, or the process ended and its goodbye was lost)",
            0.9,
            (_MIDDLEBOX,),
        )
    if case.unsent and case.info and case.figure("snd_wnd") > 0 and case.silence - sent_ago >= _FRESH:
        return Verdict(
            f"half-open: after {case.silence - sent_ago:.1f} s of silence our next {size(case.unsent)} were answered "
            "with a reset; the peer's host no longer knows the connection (it restarted, or the process ended and its "
            "goodbye was lost)",
            0.85,
            (_MIDDLEBOX, "its process was killed in that very moment"),
        )
    if case.lost:
        stuck = case.info is not None and (case.figure("snd_wnd") == 0 or case.figure("rwnd_limited") > 0.1)
        return Verdict(
            f"peer reset while {size(case.lost)} of ours had not reached it ({size(case.queued)} of it still queued "
            "here): it closed with data pending in its receive buffer, or was killed",
            0.9 if stuck else 0.75,
            (_LINGER, _MIDDLEBOX),
        )
    if case.bytes_out == 0:
        if case.bytes_in == 0 and case.dialled:
            return Verdict(
                "the server accepted and reset it without a byte in either direction: it takes no one like us now",
                0.75,
                (_LINGER, _MIDDLEBOX),
            )
        if case.bytes_in == 0:
            return Verdict(
                "the peer connected and reset without a byte in either direction: a health check or a port scan",
                0.8,
                (_LINGER, _MIDDLEBOX),
            )
        return Verdict(f"{_LINGER}: nothing was sent to it that it could have left unread", 0.85, (_MIDDLEBOX,))
    if min(case.idle_in, case.idle_out) >= _LONG_IDLE:
        return Verdict(
            f"{_MIDDLEBOX}, after {min(case.idle_in, case.idle_out):.0f} s without traffic",
            0.5,
            (_LINGER, "its process was killed with data of ours unread"),
        )
    if case.spoke_last:
        return Verdict(
            f"peer reset while what we sent last was unread by it, though its kernel had all "
            f"{case.messages_out} messages ({size(case.bytes_out)}): it closed with data pending, or was killed",
            0.65,
            (_LINGER, _MIDDLEBOX),
        )
    return Verdict(
        f"{_LINGER}, or it was killed or closed with data of ours unread; it spoke last",
        0.5,
        (_MIDDLEBOX,),
    )


def _pipe(case: Case) -> Verdict:
    # tcp_reset() in the kernel: EPIPE is the error of a reset in CLOSE_WAIT, that is after the peer's FIN.
    return Verdict(
        "the peer had already ended its stream and closed; what we sent afterwards was answered with a reset"
        + (f" ({size(case.lost)} lost)" if case.lost else ""),
        0.85,
        ("it only ended its sending half, and was then killed or closed with data of ours unread",),
    )


def _timed_out(case: Case) -> Verdict:
    """ETIMEDOUT: retransmissions, window probes or keepalive probes got no answer for as long as is allowed."""
    if case.lost == 0:
        probes = f"{case.figure('probes'):.0f} keepalive probes" if case.figure("probes") else "keepalive probes"
        return Verdict(
            f"blackhole while idle: {probes} got no answer, nothing came for {case.silence:.1f} s; the peer's host is "
            "down, or the network or a firewall drops everything",
            0.9 if case.info else 0.7,
            ("the peer lost its address or route",),
        )
    if case.info is not None and case.info.snd_wnd == 0:
        if case.figure("probes") <= 1:
            return Verdict(
                f"zero window: the peer's host answers but its program does not read; {size(case.lost)} waited until "
                "the user timeout",
                0.9,
                ("its program is stopped, deadlocked or overloaded",),
            )
        return Verdict(
            f"the peer's receive window was full, then it fell silent: {case.figure('probes'):.0f} window probes got "
            f"no answer, {size(case.lost)} waited",
            0.75,
            ("its host crashed or the network failed while its program did not read",),
        )
    if case.figure("probes") and case.figure("notsent") >= case.unsent > 0:
        return Verdict(
            f"this machine could not send: not one segment of {size(case.lost)} left it; its route, address or "
            "interface is gone",
            0.8,
            ("a full queue of its interface",),
        )
    again = case.figure("retransmits") or case.figure("total_retrans")
    return Verdict(
        f"blackhole while sending: {size(case.lost)} were sent "
        + (f"again {again:.0f} times " if again else "")
        + f"and never acknowledged, nothing came for {case.silence:.1f} s; the network or the peer's host is gone",
        0.9 if again else 0.7,
        ("a firewall dropped the connection's state without a word", "the peer's host is overloaded or froze"),
    )


def _destroyed(_case: Case) -> Verdict:
    return Verdict(
        "somebody on this machine destroyed the connection from outside of this process (`ss -K`, SOCK_DESTROY)",
        0.9,
        ("a network manager or firewall service of this machine did it as an address or interface went away",),
    )


def _unreachable(case: Case) -> Verdict:
    return Verdict(
        f"no route to the peer ({errno_name(case.errno)}): this machine lost its route, address or interface, or a "
        "router on the way or the peer's network said that it can not be reached (ICMP)",
        0.85,
        ("the peer's host is down: nobody answered for its address (ARP, neighbour discovery)",),
    )


def _no_memory(case: Case) -> Verdict:
    return Verdict(
        f"this machine is short of memory for sockets ({errno_name(case.errno)}; see net.ipv4.tcp_mem)", 0.8, ()
    )


def _other_error(case: Case) -> Verdict:
    name = f" ({errno_name(case.errno)})" if case.errno else ""
    return Verdict(f"the kernel reported an error{name}: {case.why}", 0.4, (_MIDDLEBOX,))


# --- connecting ----------------------------------------------------------------------------------------------------


def _connect(case: Case) -> Verdict:
    if case.errno == errno.ECONNREFUSED:
        return Verdict(
            "closed port: the host answered at once that nobody listens there",
            0.95,
            ("a firewall rejects with a reset",),
        )
    if case.errno in UNREACHABLE:
        return _unreachable(case)
    if case.errno == errno.ECONNRESET:
        return Verdict(
            "the listener's program closed its socket before it took us",
            0.5,
            (_MIDDLEBOX,),
        )
    if case.errno in (0, errno.ETIMEDOUT):
        tries = case.figure("total_retrans") or case.figure("retransmits")
        return Verdict(
            f"no answer to {1 + tries:.0f} SYN in {case.age:.1f} s: the listener's accept queue is full (its program "
            "accepts too slowly), or a firewall drops, or the host is down",
            0.7 if case.info else 0.5,
            (
                "full queue: TcpExtListenOverflows of `nstat -az` grows on the listener's machine",
                "dropped: another port of that host answers, if only with a reset",
                "down: nothing of that host answers",
            ),
        )
    return _other_error(case)


# --- the peer's and our own ends -----------------------------------------------------------------------------------


def _peer_closed(case: Case) -> Verdict:
    killed = "its process ended or was killed with nothing unread: the kernel then says goodbye in its place"
    if case.lost:
        return Verdict(
            f"the peer ended its stream while {size(case.lost)} of ours had no acknowledgement: it did not wait",
            0.85,
            (killed, "it ended only its sending half and would have read on"),
        )
    if case.bytes_in == 0 and case.dialled:
        return Verdict(
            "the server accepted and ended it without a byte: it takes no one like us now, or has nothing to say",
            0.7,
            (killed,),
        )
    if case.bytes_in == 0:
        return Verdict("the peer connected and left without a byte: a health check or a port scan", 0.7, (killed,))
    return Verdict("the peer ended its stream in order, and had acknowledged all that we sent", 0.95, (killed,))


def _truncated(case: Case) -> Verdict:
    begun = f" ({size(case.partial)} of it came)" if case.partial else ""
    return Verdict(
        f"the peer ended its stream within a message{begun}: its program ended or failed while it wrote",
        0.75,
        ("it uses another framing than this server",),
    )


def _bad_frame(case: Case) -> Verdict:
    if case.messages_in == 0:
        return Verdict(
            "the very first bytes are no message: the peer speaks another protocol, or another framing",
            0.85,
            ("a port scan",),
        )
    return Verdict(
        f"after {case.messages_in} good messages the stream is no longer cut as agreed: a defect of the peer's encoder",
        0.7,
        ("the peer sends larger messages than this server allows", "two of its tasks wrote at the same time"),
    )


def _silent(case: Case) -> Verdict:
    """A deadline of ours passed. Whose fault shows in what is on the way."""
    if case.phase in ("first-message", "proxy-header") or case.code == "first-message-timeout":
        if case.bytes_in == 0:
            return Verdict(
                "the peer connected and never sent a byte: a health check, a port scan, or it waits for us to begin",
                0.75,
                (_MIDDLEBOX,),
            )
        return Verdict(
            f"the peer began a message and did not end it in time ({size(case.bytes_in)} came)",
            0.7,
            ("it sends byte by byte to hold the connection (slowloris)", "it uses another framing"),
        )
    if _network_is_bad(case):
        return Verdict(
            f"the network: {size(case.lost)} of ours were sent again {case.figure('retransmits'):.0f} times in a row "
            f"without an answer, nothing came for {case.silence:.1f} s",
            0.85,
            ("the peer's host is down",),
        )
    return Verdict(
        f"the peer said nothing for {case.idle_in:.1f} s although the connection is sound as far as the kernel knows",
        0.7,
        ("its program hangs", f"{_MIDDLEBOX} without a word: nobody has sent anything since that could notice"),
    )


def _stalled(case: Case) -> Verdict:
    """The peer did not take what we send."""
    if _network_is_bad(case):
        return _silent(case)
    window = "" if case.info is None else f" (its window: {size(int(case.figure('snd_wnd')))})"
    return Verdict(
        f"the peer does not read fast enough{window}: {size(case.lost)} waited here",
        0.85 if case.figure("snd_wnd") == 0 and case.info else 0.65,
        ("the network between is slower than what we send",),
    )


def _network_is_bad(case: Case) -> bool:
    return case.unsent > 0 and case.figure("retransmits") >= 2


def _tls(case: Case) -> Verdict:
    """TLS says itself what was wrong; what is added is whom to ask."""
    text, *others = {
        "tls-garbage": ("a program that speaks no TLS on a TLS port", "a port scan", "plain HTTP, or a PROXY header"),
        "tls-version": ("it is too old, or its TLS is set to old versions", _MIDDLEBOX),
        "tls-no-certificate": ("a client that was not given its certificate",),
        "tls-expired": ("its certificate was not renewed", "the clock of this machine is wrong"),
        "tls-wrong-host": ("a certificate for another name, or an address that leads elsewhere",),
        "tls-unknown-ca": ("an authority that is not trusted here", "an intermediate certificate is missing", _BETWEEN),
        "tls-bad-certificate": ("a certificate that was made for something else, or badly", _BETWEEN),
        "tls-rejected": ("the peer did not accept what this side is or wants: the alert says what",),
        "tls-truncated": ("its process ended or was killed, or it closes without a close_notify as old programs do",
                          "somebody between cut the stream"),
        "tls-handshake-timeout": ("the peer is no TLS client, hangs, or is far too slow", "slowloris", _MIDDLEBOX),
    }.get(case.code, ("the peer breaks the protocol, or somebody between changed what it sent",))  # fmt: skip
    return Verdict(f"{case.why}: {text}", 0.8 if others else 0.9, tuple(others))


def _handler(case: Case) -> Verdict:
    return Verdict(f"our own handler failed: {case.why}", 1.0)


def _ours(case: Case) -> Verdict:
    lost = f"; {size(case.lost)} of ours were not acknowledged" if case.lost else ""
    unread = case.unread + case.backlog
    left = f"; {size(unread)} of the peer's were not handled" if unread else ""
    return Verdict(f"this side ended it ({case.code}): {case.why}{lost}{left}", 1.0)


_BY_ERRNO: dict[int, Callable[[Case], Verdict]] = {
    errno.ECONNRESET: _reset,
    errno.EPIPE: _pipe,
    errno.ETIMEDOUT: _timed_out,
    errno.ECONNABORTED: _destroyed,
    errno.ECONNREFUSED: _connect,
    errno.ENOMEM: _no_memory,
    errno.ENOBUFS: _no_memory,
    **dict.fromkeys(UNREACHABLE, _unreachable),
}

_BY_CODE: dict[str, Callable[[Case], Verdict]] = {
    "peer-closed": _peer_closed,
    "truncated-frame": _truncated,
    "bad-frame": _bad_frame,
    "frame-too-large": _bad_frame,
    "bad-proxy-header": _bad_frame,
    **{code: _tls for code in CODES if code.startswith("tls-")},
    "handler-error": _handler,
    "handler-cancelled": _handler,
    "first-message-timeout": _silent,
    "idle-timeout": _silent,
    "read-timeout": _silent,
    "heartbeat-timeout": _silent,
    "write-timeout": _stalled,
    "write-stalled": _stalled,
    "linger-timeout": _stalled,
    "slow-consumer": _stalled,
}


# --- a connection that lives ---------------------------------------------------------------------------------------


def bottleneck(info: TcpInfo | bytes | None, queued: int, backlog: int, busy: bool) -> str:
    """What holds a connection up now: a sentence that begins with the culprit.

    :param info: `TCP_INFO`, read or raw; None for what is not TCP.
    :param queued: bytes that handlers sent and the kernel has not taken.
    :param backlog: bytes that came and were not handled.
    :param busy: whether a handler of it is suspended.
    :return: "our handler: …", "peer window: …", "network: …", "our queue: …" or "nothing: …".
    """
    tcp = TcpInfo.parse(info) if isinstance(info, bytes) else info
    if backlog and busy:
        return f"our handler: it has not finished a message, and {size(backlog)} that came wait for it"
    waiting = queued + ((tcp.notsent or 0) if tcp else 0)
    flying = (tcp.unacked or 0) if tcp else 0
    if tcp is not None and (waiting or flying):
        if tcp.retransmits or (tcp.lost or 0) > 0:
            rtt = "" if tcp.rtt is None else f", round trip {tcp.rtt * 1000:.1f} ms"
            return (
                f"network: {tcp.lost or 0} segments lost of {flying} on the way, the oldest sent again "
                f"{tcp.retransmits or 0} times{rtt}; {size(waiting)} wait"
            )
        window, mss = tcp.snd_wnd, tcp.snd_mss or 1
        if waiting and window is not None and window < mss:
            return f"peer window: it is full ({size(window)}): the peer's program does not read; {size(waiting)} wait"
        if waiting and (tcp.rwnd_limited or 0) > 0.5 * (tcp.busy or 1):
            return f"peer window: it held us up for {tcp.rwnd_limited:.1f} s of {tcp.busy:.1f} s; {size(waiting)} wait"
        if waiting and flying >= (tcp.snd_cwnd or 1):
            return (
                f"network: the congestion window of {tcp.snd_cwnd} segments is used up at "
                f"{size(tcp.delivery_rate or 0)}/s; {size(waiting)} wait"
            )
    if queued:
        return f"our queue: {size(queued)} wait here and the kernel takes them as the peer acknowledges"
    if busy:
        return "our handler: it has not finished a message, and nothing waits for it"
    if backlog:
        return f"our queue: {size(backlog)} that came wait until what we sent has left"
    return "nothing: neither side waits for the other"
