"""What of the machine is used up now, and what has overflowed since it started: the second half of `wireway doctor`.

Owns the rules that read counters; what limits by its setting is `machine.py`'s. The counters are those of the network
namespace that this process is in: /proc/net/netstat and /proc/net/sockstat (proc(5), networking/snmp_counter.rst of
the kernel's documentation). They count since the namespace was made, which is the start of the machine or of the
container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wireway.observe.machine import Finding, Machine, sysctl

__all__ = ["strain"]

_MOST_LINES = 200_000
"""Lines of /proc/net/tcp that are read: beyond it the count is at least that."""

_OVERFLOWS: tuple[tuple[str, str, str, str, str], ...] = (
    # what, the counter, what one is, what it means, the setting that changes it
    (
        "listen queue overflows",
        "ListenOverflows",
        "connections that found a full listen queue",
        "a server did not accept fast enough, or its backlog is small: those clients tried again after 1 s, 3 s, 7 s",
        "",
    ),
    (
        "handshakes dropped",
        "TCPReqQFullDrop",
        "SYNs dropped, with a full queue and no cookies",
        "those clients tried again after 1 s, 3 s, 7 s",
        "net.ipv4.tcp_syncookies",
    ),
    (
        "SYN cookies",
        "TCPReqQFullDoCookies",
        "SYNs answered with cookies, since their queue was full",
        "all came back at once, or it is a flood: connections by cookie may lack window scaling",
        "net.ipv4.tcp_max_syn_backlog",
    ),
    (
        "closed for memory",
        "TCPAbortOnMemory",
        "connections closed by the kernel, for want of memory or with too many orphans",
        "tcp_mem or tcp_max_orphans was reached",
        "",
    ),
    (
        "buffers pruned",
        "PruneCalled",
        "times that a receive buffer had to be squeezed",
        "data came faster than it was read, or tcp_mem is tight",
        "",
    ),
    (
        "TIME_WAIT overflows",
        "TCPTimeWaitOverflow",
        "connections that got no TIME_WAIT, since there were too many",
        "late packets of theirs may reach their successors",
        "net.ipv4.tcp_max_tw_buckets",
    ),
)


def strain(machine: Machine, connections: int) -> list[Finding]:
    """Look at what is used now. Nothing of it says that so many connections do not fit: it is never a limit, but for
    ports that are used up. Takes milliseconds, and some more for each thousand open connections."""
    return [finding for rule in _RULES for finding in rule(machine, connections)]


def _overflows(machine: Machine, _connections: int) -> Iterator[Finding]:
    counters = _netstat(machine)
    if not counters:
        return
    clean = True
    for name, counter, what, effect, setting in _OVERFLOWS:
        if count := counters.get(counter, 0):
            clean = False
            yield Finding(
                name, "note", f"{counter} {count:,}", f"{what}, since the start: {effect}", _more(machine, setting)
            )
    dropped = counters.get("ListenDrops", 0) - counters.get("ListenOverflows", 0)
    if dropped > 0:
        clean = False
        effect = "connections that a listening socket lost for another reason than its queue: memory, or a filter"
        yield Finding("listen drops", "note", f"ListenDrops {dropped:,}", effect)
    if clean:
        effect = "no listen queue overflowed, no connection was dropped or closed for want of memory, since the start"
        yield Finding("overflows", "ok", "none", effect)


def _more(machine: Machine, setting: str) -> str:
    """Twice what it is now, or what it should be at least."""
    if not setting:
        return ""
    now = machine.number(f"proc/sys/{setting.replace('.', '/')}") or 0
    return sysctl(setting, 1 if setting == "net.ipv4.tcp_syncookies" else max(8192, 2 * now))


def _netstat(machine: Machine) -> dict[str, int]:
    """The counters of `TcpExt`: a line of names, then one of numbers."""
    lines = [line.split() for line in (machine.text("proc/net/netstat") or "").splitlines() if line[:7] == "TcpExt:"]
    if len(lines) != 2:
        return {}
    return {name: int(number) for name, number in zip(lines[0][1:], lines[1][1:], strict=False) if number.isdigit()}


def _sockets(machine: Machine) -> dict[str, int]:
    """The figures of TCP in sockstat: ``inuse``, ``orphan``, ``tw``, ``alloc``, ``mem`` (pages)."""
    words = machine.fields("proc/net/sockstat").get("TCP", "").split()
    return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=False) if number.isdigit()}


def _waiting(machine: Machine, _connections: int) -> Iterator[Finding]:
    now = _sockets(machine)
    if "tw" not in now:
        return
    most = machine.number("proc/sys/net/ipv4/tcp_max_tw_buckets")
    full = most is not None and now["tw"] >= 0.8 * most
    value = f"{now['tw']:,} in TIME_WAIT" + ("" if most is None else f", tcp_max_tw_buckets {most:,}")
    effect = "each keeps its port and addresses taken for a minute, on the side that closed first; a few hundred bytes"
    if full:
        effect = "beyond that there is no TIME_WAIT: late packets may reach the next connection of that port"
    remedy = sysctl("net.ipv4.tcp_max_tw_buckets", 2 * most) if full and most is not None else ""
    yield Finding("TIME_WAIT now", "note" if full else "ok", value, effect, remedy)


def _ports_in_use(machine: Machine, _connections: int) -> Iterator[Finding]:
    span = machine.numbers("proc/sys/net/ipv4/ip_local_port_range")
    if len(span) != 2:
        return
    first, last = span
    used: set[int] = set()
    lines = 0
    for name in ("proc/net/tcp", "proc/net/tcp6"):
        for line in machine.lines(name, _MOST_LINES - lines):
            lines += 1
            port = line.split(None, 2)[1].rpartition(":")[2] if line.count(":") > 2 else ""
            if port and first <= (number := int(port, 16)) <= last:
                used.add(number)
    if not lines:
        return
    count = last - first + 1
    share = len(used) / count
    least = "at least " if lines >= _MOST_LINES else ""
    effect = "ports that clients and servers here have now, TIME_WAIT among them"
    if share >= 0.8:
        effect += ": clients will soon fail with EADDRNOTAVAIL (Cannot assign requested address)"
    yield Finding(
        "ports in use",
        "note" if share >= 0.8 else "ok",
        f"{least}{len(used):,} of {count:,} ({share:.0%})",
        effect,
        sysctl("net.ipv4.ip_local_port_range", "1024 65535") if share >= 0.8 and first > 1024 else "",
    )


def _buffers_now(machine: Machine, _connections: int) -> Iterator[Finding]:
    now, limits = _sockets(machine), machine.numbers("proc/sys/net/ipv4/tcp_mem")
    if "mem" not in now or len(limits) != 3:
        return
    pressed = now["mem"] >= limits[1]
    effect = f"{now.get('inuse', 0):,} sockets; under pressure from {limits[1]:,} pages on"
    if pressed:
        effect = "under pressure: the kernel shrinks windows and drops what is out of order"
    remedy = sysctl("net.ipv4.tcp_mem", " ".join(str(2 * each) for each in limits)) if pressed else ""
    yield Finding("TCP buffers now", "note" if pressed else "ok", f"{now['mem']:,} pages", effect, remedy)


_RULES: tuple[Callable[[Machine, int], Iterator[Finding]], ...] = (_overflows, _waiting, _ports_in_use, _buffers_now)
