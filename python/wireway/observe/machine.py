"""What of this machine will limit a server, by how much, and how to change it: `wireway doctor`.

Owns the rules. It reads `/proc`, `/sys` and the limits of this process, changes nothing, and opens no socket. What it
knows of each file is in proc(5), tcp(7), ip-sysctl and cgroup-v2 of the kernel's documentation.

Long because: one rule for each thing that limits, and they are read beside each other.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import resource
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from wireway._native import probe

__all__ = ["Finding", "Machine", "State", "examine", "summary", "sysctl"]

State = Literal["ok", "note", "limit"]
"""In nobody's way; worth knowing; will be in the way."""

RESERVE = 100
"""Descriptors of a process that are not for connections: the interpreter's, the loop's, listening sockets, logs."""
UNEVEN = 0.95
"""How full workers may be on the average: the kernel deals connections by a hash."""
BACKLOG = 4096
"""What `SocketOptions.backlog` asks for unless told."""
USER, KERNEL = 700, 5500
"""Bytes for an idle connection: ours and Python's, and the kernel's without data (docs/how-to/many-processes.md)."""
IN_FLIGHT = 8192
"""Bytes of buffers for a connection that speaks now and then: a page each way."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """What, in a word or two."""
    state: State
    """Whether it will be in the way."""
    value: str
    """What it is now."""
    effect: str
    """What that means for a server here."""
    remedy: str = ""
    """The command, or the line of a file, that changes it; empty where there is nothing to change."""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def _io_uring() -> OSError | None:
    return probe("io_uring")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it looks. Everything can be another's, for tests."""

    root: Path = Path("/")
    descriptors: tuple[int, int] = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE))
    """The soft and the hard limit of this process."""
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Those that this process may use."""
    all_cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    page: int = field(default_factory=lambda: os.sysconf("SC_PAGE_SIZE"))
    """Bytes of a page."""
    io_uring: Callable[[], OSError | None] = _io_uring
    """Why the kernel does not allow it, or None."""

    def text(self, path: str) -> str | None:
        """A file, without space at its ends; None if it is not there or not for us."""
        try:
            return (self.root / path).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None

    def lines(self, path: str, most: int) -> Iterator[str]:
        """Up to so many lines of a file that may be long, without the first, which has the headings."""
        try:
            with (self.root / path).open() as file:
                yield from itertools.islice(file, 1, most + 1)
        except (OSError, UnicodeDecodeError):
            return

    def numbers(self, path: str) -> list[int]:
        """The numbers of a file, none if it has none."""
        words = (self.text(path) or "").split()
        return [int(word) for word in words if word.lstrip("-").isdigit()]

    def number(self, path: str) -> int | None:
        """The first number of a file."""
        found = self.numbers(path)
        return found[0] if found else None

    def fields(self, path: str) -> dict[str, str]:
        """The lines ``name: value`` of a file."""
        lines = (self.text(path) or "").splitlines()
        return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def cgroup(self, name: str) -> str | None:
        """A file of this process's control group, version 2."""
        own = next((line[3:] for line in (self.text("proc/self/cgroup") or "").splitlines() if line[:3] == "0::"), "")
        return self.text(f"sys/fs/cgroup/{own.strip('/')}/{name}") or self.text(f"sys/fs/cgroup/{name}")


def examine(machine: Machine, connections: int) -> list[Finding]:
    """Look at everything that would limit so many connections. Takes milliseconds; never fails for what is missing."""
    return [finding for rule in _RULES for finding in rule(machine, connections)]


def sysctl(name: str, value: object) -> str:
    """The command that sets it."""
    return f"sysctl -w {name}='{value}'" if " " in str(value) else f"sysctl -w {name}={value}"


# --- descriptors --------------------------------------------------------------------------------------------------


def _descriptors(machine: Machine, connections: int) -> Iterator[Finding]:
    soft, hard = machine.descriptors
    need = connections + RESERVE
    most = machine.number("proc/sys/fs/nr_open") or 1 << 20
    room = hard - RESERVE
    value = f"soft {soft:,}, hard {hard:,}, fs.nr_open {most:,}"
    if need <= hard:
        raised = "" if need <= soft else "; a Server raises its soft limit to the hard one by itself"
        yield Finding("descriptors", "ok", value, f"room for about {room:,} connections in a process{raised}")
    else:
        workers = math.ceil(connections / max(1, int(room * UNEVEN)))
        yield Finding(
            "descriptors",
            "limit",
            value,
            f"a process holds about {max(0, room):,} connections; {connections:,} need {workers:,} workers, "
            f"or a hard limit of {need:,}",
            f"server.run(workers={workers})  # or LimitNOFILE={need} in the systemd unit, "
            f"or: prlimit --nofile={need}:{need} COMMAND",
        )
    if need > most:
        yield Finding(
            "descriptors of a process",
            "limit",
            f"fs.nr_open {most:,}",
            "no process may have a higher limit than that",
            sysctl("fs.nr_open", 1 << math.ceil(math.log2(need))),
        )
    yield from _services(machine, need)
    total = machine.number("proc/sys/fs/file-max")
    used = machine.number("proc/sys/fs/file-nr") or 0
    if total is not None and used + connections > total:
        effect = f"all processes together: {used:,} are open, {connections:,} more do not fit"
        yield Finding("open files", "limit", f"fs.file-max {total:,}", effect, sysctl("fs.file-max", used + 2 * need))


def _services(machine: Machine, need: int) -> Iterator[Finding]:
    """What systemd gives a service: not what this shell has (systemd-system.conf(5), DefaultLimitNOFILE)."""
    if not (machine.root / "run/systemd/system").is_dir():
        return
    soft, hard = "1024", "524288"
    files = [machine.root / "etc/systemd/system.conf", *sorted(machine.root.glob("etc/systemd/system.conf.d/*.conf"))]
    for file in files:
        for line in (machine.text(str(file.relative_to(machine.root))) or "").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "DefaultLimitNOFILE" and value.strip():
                soft, _, hard = value.strip().partition(":")
                hard = hard or soft
    enough = hard == "infinity" or (hard.isdigit() and int(hard) >= need)
    yield Finding(
        "descriptors of a service",
        "ok" if enough else "limit",
        f"DefaultLimitNOFILE {soft}:{hard}",
        "what systemd gives a service, whatever this shell has" + ("" if enough else f"; {need:,} are needed"),
        "" if enough else f"LimitNOFILE={need}  # in [Service] of its unit: systemctl edit NAME.service",
    )


# --- accepting ----------------------------------------------------------------------------------------------------


def _accepting(machine: Machine, connections: int) -> Iterator[Finding]:
    most = machine.number("proc/sys/net/core/somaxconn")
    if most is not None:
        wanted = min(BACKLOG, max(128, connections))
        state: State = "ok" if most >= wanted else "limit"
        yield Finding(
            "listen backlog",
            state,
            f"net.core.somaxconn {most:,}",
            f"so many connections may wait to be accepted; a Server asks for {BACKLOG:,}"
            + ("" if state == "ok" else ": when all come back at once, the rest retries after 1 s, 3 s, 7 s"),
            "" if state == "ok" else sysctl("net.core.somaxconn", BACKLOG),
        )
    half = machine.number("proc/sys/net/ipv4/tcp_max_syn_backlog")
    cookies = machine.number("proc/sys/net/ipv4/tcp_syncookies")
    if half is not None and cookies is not None:
        safe = cookies > 0 or half >= min(BACKLOG, connections)
        yield Finding(
            "SYN queue",
            "ok" if safe else "limit",
            f"tcp_max_syn_backlog {half:,}, tcp_syncookies {cookies}",
            "a full queue answers with cookies" if cookies else "handshakes beyond it are dropped, and nobody is told",
            "" if safe else sysctl("net.ipv4.tcp_syncookies", 1),
        )
    track, tracked = machine.number("proc/sys/net/netfilter/nf_conntrack_max"), "proc/sys/net/netfilter/"
    if track is not None:
        used = machine.number(tracked + "nf_conntrack_count") or 0
        fits = used + connections <= track
        yield Finding(
            "connection tracking",
            "ok" if fits else "limit",
            f"nf_conntrack_max {track:,}, in use {used:,}",
            "the firewall has room" if fits else "the firewall drops new connections when its table is full",
            "" if fits else sysctl("net.netfilter.nf_conntrack_max", 2 * (used + connections)),
        )


# --- connecting ---------------------------------------------------------------------------------------------------


def _ports(machine: Machine, connections: int) -> Iterator[Finding]:
    found = machine.numbers("proc/sys/net/ipv4/ip_local_port_range")
    if len(found) == 2:
        count = found[1] - found[0] + 1
        fits = connections <= count
        yield Finding(
            "ports of clients",
            "ok" if fits else "note",
            f"ip_local_port_range {found[0]} to {found[1]}",
            f"from one address of this machine {count:,} connections to one address and port"
            + ("" if fits else ": clients and load tests here need several source addresses; servers need no ports"),
            "" if fits else sysctl("net.ipv4.ip_local_port_range", "1024 65535"),
        )
    reuse = machine.number("proc/sys/net/ipv4/tcp_tw_reuse")
    if reuse is not None:
        effect = {
            0: "a client's port is free again a minute after it closed first",
            1: "a client reuses ports in TIME_WAIT where timestamps allow",
        }.get(reuse, "a client reuses ports in TIME_WAIT on the loopback only")
        yield Finding("TIME_WAIT", "ok" if reuse else "note", f"tcp_tw_reuse {reuse}", effect,
                      "" if reuse else sysctl("net.ipv4.tcp_tw_reuse", 1))  # fmt: skip


# --- memory -------------------------------------------------------------------------------------------------------


def _memory(machine: Machine, connections: int) -> Iterator[Finding]:
    need = connections * (USER + KERNEL)
    available = machine.fields("proc/meminfo").get("MemAvailable", "").removesuffix(" kB")
    if available.isdigit():
        free = int(available) * 1024
        fits = need < free * 0.8
        yield Finding(
            "memory",
            "ok" if fits else "limit",
            f"{_size(free)} available",
            f"{connections:,} idle connections take about {_size(need)}: {KERNEL + USER:,} bytes each, most of it the "
            "kernel's; yours, and data under way, come on top",
            "" if fits else "fewer connections on this machine, or more memory",
        )
    limit = machine.cgroup("memory.max")
    if limit is not None and limit.isdigit():
        fits = need < int(limit) * 0.8
        effect = (
            "the kernel's memory of its sockets counts, too" if fits else "the container would be killed for memory"
        )
        yield Finding(
            "memory of the container",
            "ok" if fits else "limit",
            _size(int(limit)),
            effect,
            "" if fits else f"docker run --memory={math.ceil(need * 1.5 / 2**20)}m, or resources.limits.memory",
        )
    pages = machine.numbers("proc/sys/net/ipv4/tcp_mem")
    if len(pages) == 3:
        most = pages[2] * machine.page
        wanted = connections * IN_FLIGHT
        fits = wanted <= most
        yield Finding(
            "TCP buffers, all together",
            "ok" if fits else "limit",
            f"tcp_mem {_size(most)}",
            "room for a page each way on every connection"
            if fits
            else f"with a page each way on every connection {_size(wanted)}: beyond it data is dropped and sent again",
            ""
            if fits
            else sysctl(
                "net.ipv4.tcp_mem", " ".join(str(2 * wanted // machine.page * part // 4) for part in (2, 3, 4))
            ),
        )
    for way in ("rmem", "wmem"):
        sizes = machine.numbers(f"proc/sys/net/ipv4/tcp_{way}")
        if len(sizes) == 3:
            what = "received and not read" if way == "rmem" else "sent and not acknowledged"
            effect = f"bytes {what} of one connection: at most {_size(sizes[2])}, which bounds its speed over long ways"
            yield Finding(f"tcp_{way}", "ok", " ".join(map(str, sizes)), effect)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


# --- the kernel and the processors --------------------------------------------------------------------------------


_SINCE = (
    ((5, 19), "multishot accept and rings of buffers"),
    ((6, 0), "multishot receive"),
    ((6, 1), "deferred task work"),
    ((6, 12), "incremental buffers"),
)
"""What makes io_uring fast, and the kernel that has it: io_uring_setup(2), io_uring_enter(2)."""


def _version(release: str) -> tuple[int, int]:
    """Of a kernel; one that can not be read is taken for a new one."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found is not None else (999, 0)


def _kernel(machine: Machine, connections: int) -> Iterator[Finding]:
    release = machine.text("proc/sys/kernel/osrelease") or "unknown"
    error = machine.io_uring()
    disabled = machine.number("proc/sys/kernel/io_uring_disabled")
    filtered = machine.fields("proc/self/status").get("Seccomp") == "2"
    value = f"kernel {release}" + ("" if disabled is None else f", io_uring_disabled {disabled}")
    if error is None:
        lacking = [f"{what} ({'.'.join(map(str, since))})" for since, what in _SINCE if _version(release) < since]
        effect = "allowed: the fastest back end runs"
        if lacking:
            effect = (
                f"allowed, but this kernel lacks {', '.join(lacking)}: it may be slower than epoll, which auto weighs"
            )
        yield Finding("io_uring", "note" if lacking else "ok", value, effect)
    else:
        remedy = ""
        if disabled:
            remedy = sysctl("kernel.io_uring_disabled", 0)
        elif filtered:
            remedy = "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile"
        effect = f"not allowed ({error.strerror or error}): epoll runs, a little slower"
        yield Finding("io_uring", "note", value, effect, remedy)
    if filtered:
        yield Finding("seccomp", "note", "a filter is on", "system calls may be refused: `auto` takes what is allowed")
    keep = machine.number("proc/sys/net/ipv4/tcp_keepalive_time")
    if keep is not None:
        every = machine.number("proc/sys/net/ipv4/tcp_keepalive_intvl") or 75
        probes = machine.number("proc/sys/net/ipv4/tcp_keepalive_probes") or 9
        effect = f"with SO_KEEPALIVE alone a dead peer is found after {_duration(keep + every * probes)}; "
        effect += "Heartbeat and SocketOptions.keepalive have their own times"
        value = f"tcp_keepalive_time {keep:,} s, intvl {every:,} s, probes {probes}"
        yield Finding("keepalive", "ok", value, effect)


def _duration(seconds: int) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"


def _processors(machine: Machine, connections: int) -> Iterator[Finding]:
    value = f"{machine.cores} of {machine.all_cores}"
    if machine.cores > 1:
        yield Finding("cores", "ok", value, 'one loop runs on one: server.run(workers="auto") uses all of them')
    else:
        yield Finding("cores", "note", value, "one loop and everything else share it")
    quota = (machine.cgroup("cpu.max") or "max").split()
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit():
        share = int(quota[0]) / int(quota[1])
        tight = share < machine.cores
        effect = f"beyond {share:.1f} cores the container stands still until the next {int(quota[1]) // 1000} ms"
        effect += ', also in the middle of a message; "auto" counts cores and not this' if tight else ""
        yield Finding("processor quota", "note" if tight else "ok", f"{share:.1f} cores", effect,
                      f"server.run(workers={max(1, int(share))})" if tight else "")  # fmt: skip
    governor = machine.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor is not None:
        slow = governor in ("powersave", "ondemand", "conservative")
        effect = "the clock follows the load, with a delay that shows in latencies" if slow else "no delay"
        yield Finding("clock", "note" if slow else "ok", governor, effect,
                      "cpupower frequency-set -g performance" if slow else "")  # fmt: skip


def _container(machine: Machine, connections: int) -> Iterator[Finding]:
    signs = ((".dockerenv", "Docker"), ("run/.containerenv", "Podman"))
    for path, name in signs:
        if (machine.root / path).exists():
            effect = "net.* settings are those of its network namespace; limits above may be the container's"
            yield Finding("container", "note", name, effect, "docker run --sysctl net.core.somaxconn=4096 …")
    tasks = machine.cgroup("pids.max")
    if tasks is not None and tasks.isdigit() and int(tasks) < 100:
        effect = "threads and processes together: workers, thread pools and name resolution may fail"
        yield Finding("tasks", "limit", f"pids.max {tasks}", effect, "docker run --pids-limit=1000, or TasksMax=1000")


def _unread(machine: Machine, connections: int) -> Iterator[Finding]:
    missing = [path.rpartition("/")[2] for path in _ESSENTIAL if machine.text(path) is None]
    if missing:
        effect = "not there, or not for this user: another network namespace, a hardened /proc, or no Linux of today"
        yield Finding("not read", "note", ", ".join(missing), f"{effect}; nothing is said of them")


_ESSENTIAL = (
    "proc/meminfo",
    "proc/sys/net/core/somaxconn",
    "proc/sys/net/ipv4/ip_local_port_range",
    "proc/sys/net/ipv4/tcp_mem",
)

_Rule = Callable[[Machine, int], Iterator[Finding]]
_RULES: tuple[_Rule, ...] = (
    _descriptors, _accepting, _ports, _memory, _kernel, _processors, _container, _unread,
)  # fmt: skip


def summary(findings: list[Finding]) -> dict[str, Any]:
    """For JSON."""
    return {
        "ok": not any(each.state == "limit" for each in findings),
        "findings": [each.as_dict() for each in findings],
    }
