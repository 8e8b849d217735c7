"""Why a connection ended, from evidence that was recorded: verdicts, figures of the kernel, the log of ends.

The evidence is real: it was taken from the causes that tests/faults/test_causes.py makes.
"""

from __future__ import annotations

import errno
import gc
import re
import select
import socket
import struct
import weakref
from typing import Any

import pytest

from support.tree import ROOT
from wireway.net.closing import ClosedLog, CloseReason
from wireway.net.diagnosis import bottleneck, verdict
from wireway.net.evidence import CODES, Evidence, size
from wireway.net.tcp_info import TcpInfo

RECORDED = bytes.fromhex(
    "010000000007aa01e01c030000000000008a000018020000000000000000000000000000000000000000000000000000"
    "000000000000000000000000ffff0000d7ff00001a0000000e000000ffffff7f0b000000cbff00000300000000000000"
    "d7ff000000000000c4f3268307000000ffffffffffffffffe90300000000000000000000000000000300000002000000"
    "0000000006000000000000000100000000c0f35e01000000000000000000000000000000000000000000000000000000"
    "0200000000000000e803000000000000000000000000000000000000000000000000000000140100000001000000000000"
    "000000000000000000"
)
"""Linux 6.18, loopback: a thousand bytes were sent and acknowledged, nothing came."""

# Where each figure stands in struct tcp_info, and how (linux/tcp.h); times in the kernel's unit.
PLACES = {
    "retransmits": (2, "=B"), "probes": (3, "=B"), "rto": (8, "=I"), "snd_mss": (16, "=I"), "unacked": (24, "=I"),
    "lost": (32, "=I"), "last_data_sent": (44, "=I"), "last_data_recv": (52, "=I"), "last_ack_recv": (56, "=I"),
    "rtt": (68, "=I"), "snd_cwnd": (80, "=I"), "total_retrans": (100, "=I"), "notsent": (144, "=I"),
    "delivery_rate": (160, "=Q"), "busy": (168, "=Q"), "rwnd_limited": (176, "=Q"), "snd_wnd": (228, "=I"),
}  # fmt: skip
STATES = {"ESTABLISHED": 1, "SYN_SENT": 2, "CLOSE": 7}


def raw(state: str = "CLOSE", /, **figures: int) -> bytes:
    """`struct tcp_info` with these figures, and a window of 64 KiB."""
    data = bytearray(248)
    data[0] = STATES[state]
    for name, value in {"snd_wnd": 65536, "snd_mss": 1448, **figures}.items():
        place, code = PLACES[name]
        struct.pack_into(code, data, place, value)
    return bytes(data)


def reset(**more: Any) -> Evidence:
    return Evidence(code="peer-reset", errno=errno.ECONNRESET, bytes_in=5, bytes_out=30, messages_out=3, **more)


def timed_out(**more: Any) -> Evidence:
    return Evidence(code="timed-out", errno=errno.ETIMEDOUT, bytes_in=5, **more)


# --- struct tcp_info --------------------------------------------------------------------------------------------------


def test_the_kernels_figures_are_read_with_their_units() -> None:
    info = TcpInfo.parse(RECORDED)
    assert (info.state, info.retransmits, info.total_retrans) == ("ESTABLISHED", 0, 0)
    assert (info.bytes_acked, info.bytes_sent, info.snd_cwnd, info.pmtu) == (1001, 1000, 11, 65535)
    assert info.rtt == pytest.approx(26e-6)
    assert info.rto == pytest.approx(0.204)
    assert info.snd_wnd == 70656


@pytest.mark.parametrize(("length", "known"), [(8, 1), (104, 15), (192, 26), (232, 29), (248, 30), (len(RECORDED), 30)])
def test_an_older_kernel_knows_less_and_none_says_so(length: int, known: int) -> None:
    info = TcpInfo.parse(RECORDED[:length])
    assert info.state == "ESTABLISHED"
    assert info.probes == 0
    assert (info.rto is None) == (length < 12)
    assert (info.total_retrans is None) == (length < 104)
    assert (info.rwnd_limited is None) == (length < 184)
    assert (info.snd_wnd is None) == (length < 232)
    # Never a figure that was not there: every field that ends within the bytes, and no other.
    assert sum(getattr(info, name) is not None for name in PLACES) == sum(
        place + struct.calcsize(code) <= length for place, code in PLACES.values()
    )
    assert known


def test_what_is_no_tcp_info_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 bytes, got 7"):
        TcpInfo.parse(b"\1" * 7)


def test_a_round_trip_that_was_not_measured_is_none() -> None:
    assert TcpInfo.parse(raw(rtt=0)).rtt is None
    assert TcpInfo.parse(raw(rtt=1500)).rtt == pytest.approx(0.0015)


def test_a_live_socket_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        info = TcpInfo.parse(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256))
        assert info.state == "ESTABLISHED"
        assert info.snd_mss
        assert TcpInfo.parse(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)).state == "LISTEN"


class Known:
    """What a connection says of itself."""

    id, peer, local = 7, ("2001:db8::1", 4000, 0, 0), ("2001:db8::2", 9000, 0, 0)


# --- verdicts ---------------------------------------------------------------------------------------------------------

CASES: dict[str, tuple[Evidence, str, float]] = {
    "clean end": (Evidence(code="peer-closed", bytes_in=5), "in order", 0.9),
    "end with our data on the way": (
        Evidence(code="peer-closed", bytes_in=5, unsent=100, queued=20), "while 120 bytes of ours had no acknow", 0.8
    ),
    "came and left": (Evidence(code="peer-closed"), "left without a byte", 0.6),
    "zero linger": (
        Evidence(code="peer-reset", errno=errno.ECONNRESET, bytes_in=5, tcp_info=raw()), "SO_LINGER", 0.8
    ),
    "reset of a scan": (Evidence(code="peer-reset", errno=errno.ECONNRESET, tcp_info=raw()), "port scan", 0.7),
    "reset with all acknowledged": (
        reset(tcp_info=raw(last_data_sent=8, last_data_recv=2000)), "all 3 messages (30 bytes): it closed with", 0.6
    ),
    "reset after the peer spoke": (reset(tcp_info=raw(last_data_sent=2000, last_data_recv=8)), "it spoke last", 0.4),
    "reset with a shut window": (
        reset(unsent=9000, queued=1000, tcp_info=raw(snd_wnd=0, last_ack_recv=800)),
        "while 9.8 KiB", 0.85
    ),
    "half-open, found by sending": (
        reset(unsent=14, tcp_info=raw(last_data_sent=0, last_ack_recv=408)), "half-open: after 0.4 s", 0.8
    ),
    "half-open, found by a probe": (
        reset(tcp_info=raw(probes=1, last_ack_recv=7_200_000)), "answered a keepalive probe with a reset", 0.85
    ),
    "reset out of silence": (
        reset(idle_in=900.0, idle_out=901.0, tcp_info=raw(last_data_sent=901_000, last_data_recv=900_000)),
        "firewall", 0.4
    ),
    "reset after the peer's end": (
        Evidence(code="peer-reset", errno=errno.EPIPE, bytes_out=9, unsent=9), "already ended its stream", 0.8
    ),
    "blackhole while sending": (
        timed_out(unsent=5000, tcp_info=raw(retransmits=2, total_retrans=2, last_ack_recv=1030)),
        "blackhole while sending: 5000 bytes were sent again 2 times", 0.85
    ),
    "blackhole while idle": (
        timed_out(tcp_info=raw(probes=2, last_ack_recv=3100)), "blackhole while idle: 2 keepalive probes", 0.85
    ),
    "zero window": (
        timed_out(unsent=2_800_000, tcp_info=raw(snd_wnd=0, probes=1, notsent=2_800_000, last_ack_recv=816)),
        "zero window: the peer's host answers but its program does not read; 2.7 MiB", 0.85
    ),
    "zero window, then silence": (
        timed_out(unsent=2000, tcp_info=raw(snd_wnd=0, probes=6, last_ack_recv=60_000)), "then it fell silent", 0.7
    ),
    "our cable is out": (
        timed_out(unsent=5000, tcp_info=raw(probes=2, notsent=5000, last_ack_recv=1032)),
        "this machine could not send", 0.75
    ),
    "no route": (Evidence(code="io-error", errno=errno.EHOSTUNREACH), "no route to the peer (EHOSTUNREACH)", 0.8),
    "killed by ss": (Evidence(code="io-error", errno=errno.ECONNABORTED), "`ss -K`", 0.85),
    "no memory": (Evidence(code="io-error", errno=errno.ENOBUFS), "short of memory", 0.7),
    "an unknown error": (Evidence(code="io-error", errno=errno.EPROTO, why="odd"), "(EPROTO): odd", 0.3),
    "half a message": (Evidence(code="truncated-frame", partial=3), "within a message (3 bytes of it came)", 0.7),
    "another protocol": (Evidence(code="bad-frame"), "speaks another protocol", 0.8),
    "a broken encoder": (Evidence(code="frame-too-large", messages_in=7), "after 7 good messages", 0.6),
    "never spoke": (Evidence(code="first-message-timeout", phase="first-message"), "never sent a byte", 0.7),
    "slow to speak": (
        Evidence(code="first-message-timeout", phase="first-message", bytes_in=2), "did not end it in time", 0.6
    ),
    "idle": (Evidence(code="idle-timeout", idle_in=30.0, bytes_in=1), "said nothing for 30.0 s", 0.6),
    "idle, for the network is gone": (
        Evidence(code="heartbeat-timeout", unsent=4, bytes_in=1, tcp_info=raw("ESTABLISHED", retransmits=4)),
        "the network: 4 bytes of ours were sent again 4 times", 0.8
    ),
    "does not read": (
        Evidence(code="write-stalled", queued=100, tcp_info=raw("ESTABLISHED", snd_wnd=0)), "does not read fast", 0.8
    ),
    "handler": (Evidence(code="handler-error", why="KeyError: 'x'"), "our own handler failed: KeyError: 'x'", 1.0),
    "abort": (Evidence(code="aborted", why="enough", queued=5, unread=7), "5 bytes of ours were not ack", 1.0),
    "limit": (Evidence(code="limit-address", why="the 11th of 192.0.2.7"), "the 11th of 192.0.2.7", 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_verdict(name: str) -> None:
    evidence, words, least = CASES[name]
    found = verdict(evidence)
    assert words in found.text
    assert least <= found.confidence <= 1.0
    assert found.alternatives or found.confidence == 1.0 or name == "no memory", "a guess names what else it may be"


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_verdict_without_any_evidence(code: str) -> None:
    """A Unix socket has no TCP_INFO; evidence may be missing, an answer not."""
    found = verdict(Evidence(code=code, why="so it is"))
    assert found.text
    assert 0.0 < found.confidence <= 1.0
    assert str(found).endswith(f"({found.confidence:.0%})")


@pytest.mark.parametrize(
    ("number", "side"),
    [
        (errno.ECONNRESET, "peer"), (errno.EPIPE, "peer"), (errno.ETIMEDOUT, "network"), (errno.ENETUNREACH, "network"),
        (errno.ECONNABORTED, "kernel"), (errno.ENOMEM, "kernel"), (errno.EPROTO, "kernel"),
    ],
)  # fmt: skip
def test_an_error_of_the_kernel_has_the_side_of_its_errno(number: int, side: str) -> None:
    assert CloseReason.of(Known(), Evidence(code="io-error", errno=number)).side == side


def test_what_the_errno_lacks_the_exception_or_so_error_tells() -> None:
    of = CloseReason.of
    assert of(Known(), Evidence(code="io-error", error=OSError(errno.EPIPE, "x"))).errno == errno.EPIPE
    assert of(Known(), Evidence(code="io-error", errno=None, so_error=errno.ENOMEM)).errno == errno.ENOMEM
    assert of(Known(), Evidence(code="handler-error", error=ValueError("x"))).errno == 0


# --- connecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "closed port"),
        (TimeoutError(), "no answer to 1 SYN"),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), "accept queue is full"),
        (OSError(errno.EHOSTUNREACH, "no route"), "no route to the peer"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "before it took us"),
    ],
)
def test_a_connection_that_was_never_made(error: OSError, words: str) -> None:
    reason = CloseReason.of_connect(error, ("192.0.2.1", 9), age=1.5)
    assert words in reason.verdict.text
    assert (reason.phase, reason.age, reason.connection) == ("connect", 1.5, 0)
    assert "192.0.2.1:9" in str(reason)


def test_the_syns_are_counted() -> None:
    info = raw("SYN_SENT", total_retrans=2)
    assert "no answer to 3 SYN in 4.0 s" in CloseReason.of_connect(TimeoutError(), age=4.0, tcp_info=info).verdict.text


# --- how it is told ---------------------------------------------------------------------------------------------------


def test_a_reason_tells_everything() -> None:
    error = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    flags = select.POLLIN | select.POLLRDHUP | select.POLLERR | select.POLLHUP
    evidence = reset(
        why=str(error), error=error, phase="open", so_error=errno.ECONNRESET, poll_flags=flags, unread=3, backlog=4,
        partial=2, unsent=14, queued=1, age=12.5, idle_in=2.0, idle_out=1.0, messages_in=1,
        tcp_info=raw(rtt=1500, last_ack_recv=408),
    )  # fmt: skip
    reason = CloseReason.of(Known(), evidence)
    assert (reason.code, reason.why, reason.error) == ("peer-reset", str(error), error)
    assert (reason.connection, reason.peer, reason.local) == (7, Known.peer, Known.local)
    assert reason.poll_flags == ("IN", "RDHUP", "ERR", "HUP")
    assert (reason.idle, reason.idle_in, reason.idle_out) == (1.0, 2.0, 1.0)
    assert reason.opened_at == pytest.approx(reason.closed_at - 12.5)
    assert reason.tcp_info is not None
    assert str(reason).startswith("peer-reset (peer) after 12.5 s to [2001:db8::1]:4000: half-open")
    text = reason.explain()
    for part in ("sure)", "  or: ", "ECONNRESET", "IN|RDHUP|ERR|HUP", "3 bytes unread", "14 bytes not ack", "1.5 ms"):
        assert part in text
    assert reason.verdict is reason.verdict, "found once"


def test_a_reason_can_not_be_changed() -> None:
    reason = CloseReason("closed", "done")
    with pytest.raises(AttributeError):
        reason.code = "other"  # type: ignore[misc]
    assert "this side ended it (closed): done" in str(reason)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1, "1 byte"), (9999, "9999 bytes"), (65536, "64.0 KiB"), (1 << 31, "2.0 GiB")]
)
def test_sizes_are_told_for_people(count: int, text: str) -> None:
    assert size(count) == text


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> ClosedLog:
    """Three ends, at 10, 20 and 30."""
    log = ClosedLog()
    log.add(CloseReason("peer-closed", "", connection=1, peer=("192.0.2.7", 1), closed_at=10.0))
    destroyed = Evidence(code="io-error", errno=errno.ECONNABORTED)
    log.add(CloseReason("io-error", "", connection=2, peer=("192.0.2.8", 2), closed_at=20.0, evidence=destroyed))
    log.add(CloseReason("peer-closed", "", connection=3, peer=("2001:db8::9", 3, 0, 0), closed_at=30.0))
    return log


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [1, 2, 3]),
        ({"code": "peer-closed"}, [1, 3]),
        ({"side": "kernel"}, [2]),
        ({"peer": "192.0.2.7"}, [1]),
        ({"peer": "192.0.2.0/24"}, [1, 2]),
        ({"peer": "2001:db8::/32"}, [3]),
        ({"peer": ("192.0.2.8", 2)}, [2]),
        ({"peer": "nobody/here"}, []),
        ({"since": 20.0}, [2, 3]),
        ({"code": "peer-closed", "peer": "192.0.2.0/24"}, [1]),
    ],
)
def test_ends_are_found(log: ClosedLog, wanted: dict[str, Any], found: list[int]) -> None:
    assert [reason.connection for reason in log.filter(**wanted)] == found


def test_a_log_keeps_the_last_and_counts_all() -> None:
    log = ClosedLog(2)
    for number, code in enumerate(("closed", "aborted", "closed", "closed")):
        log.add(CloseReason(code, "", connection=number))
    assert [reason.connection for reason in log] == [2, 3]
    assert (len(log), log.total, log.counts) == (2, 4, {"closed": 3, "aborted": 1})


def test_a_log_keeps_no_object_of_a_handler_alive() -> None:
    class Large:
        pass

    def fail() -> None:
        large = Large()
        refs.append(weakref.ref(large))
        raise OSError(errno.EPIPE, "no more")

    refs: list[weakref.ref[Large]] = []
    log = ClosedLog()
    try:
        fail()
    except OSError as error:
        log.add(CloseReason.of(Known(), Evidence(code="handler-error", why=str(error), error=error)))
    gc.collect()
    assert refs[0]() is None
    (kept,) = log
    assert (kept.error, kept.errno) == (None, errno.EPIPE)
    assert "in fail" in kept.detail
    assert "in fail" in kept.explain()


def test_an_error_of_the_kernel_stays_in_the_log() -> None:
    error = ConnectionResetError(errno.ECONNRESET, "reset")
    log = ClosedLog()
    log.add(CloseReason("peer-reset", "reset", error))
    assert next(iter(log)).error is error


# --- a connection that lives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "queued", "backlog", "busy", "words"),
    [
        (raw("ESTABLISHED"), 0, 0, False, "nothing: "),
        (None, 0, 0, False, "nothing: "),
        (raw("ESTABLISHED"), 0, 70_000, True, "our handler: it has not finished a message, and 68.4 KiB"),
        (raw("ESTABLISHED"), 0, 0, True, "our handler: "),
        (raw("ESTABLISHED", snd_wnd=0, notsent=5000), 100, 0, False, "peer window: it is full"),
        (raw("ESTABLISHED", notsent=5000, busy=1000000, rwnd_limited=800000), 0, 0, False, "peer window: it held"),
        (raw("ESTABLISHED", unacked=10, lost=3, retransmits=1, rtt=40_000), 0, 0, False, "network: 3 segments lost of"),
        (raw("ESTABLISHED", unacked=10, snd_cwnd=10, notsent=99), 0, 0, False, "network: the congestion window of 10"),
        (raw("ESTABLISHED", snd_cwnd=10), 5000, 0, False, "our queue: 5000 bytes wait"),
        (None, 0, 9, False, "our queue: 9 bytes that came"),
    ],
)  # fmt: skip
def test_the_bottleneck_is_named(info: bytes | None, queued: int, backlog: int, busy: bool, words: str) -> None:
    assert bottleneck(info, queued, backlog, busy).startswith(words)
    if info is not None:
        assert bottleneck(TcpInfo.parse(info), queued, backlog, busy).startswith(words)


# --- its page ---------------------------------------------------------------------------------------------------------


def test_the_reference_lists_exactly_the_codes_and_their_sides() -> None:
    page = (ROOT / "docs/reference/close-reasons.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", page, re.MULTILINE)
    assert dict(rows) == dict(CODES)
    assert len(rows) == len(CODES)
