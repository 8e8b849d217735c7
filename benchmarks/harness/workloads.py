"""What is measured, against whom, and the figures to reach.

The table of the project's goals as data. A *candidate* is ``peer/mode``: who serves, and how its
handler is written (see ``peers/echo.py`` for the modes). Knows nothing of measuring.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["echo", "churn", "idle", "exercise", "broadcast", "heartbeats", "tls", "handshakes", "http"]
Metric = Literal["value", "user_us", "p99_us"]

OURS = ("wireway-epoll", "wireway-io_uring")
LOOPS = ("asyncio", "uvloop", "uvloop-0.22.1", "rloop", "blazio")
LEVEL = 0.97
"""What counts as level: within the noise of a run."""


UNITS: dict[Kind, str] = {
    "echo": "messages/s",
    "churn": "connections/s",
    "idle": "B/connection",
    "exercise": "operations/s",
    "broadcast": "deliveries/s",
    "heartbeats": "µs of CPU a second",
    "tls": "messages/s",
    "handshakes": "handshakes/s",
    "http": "requests/s",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A figure to reach, relative to another candidate of the same run or absolute."""

    ours: str
    at: Literal["at least", "at most"]
    factor: float
    of: str = ""
    """The candidate that `factor` multiplies; empty: `factor` is the figure itself."""
    metric: Metric = "value"


@dataclass(frozen=True, slots=True)
class Workload:
    """One table of the report."""

    name: str
    title: str
    kind: Kind
    candidates: tuple[str, ...]
    reference: str
    targets: tuple[Target, ...] = ()
    connections: int = 64
    depth: int = 1
    size: int = 100
    path: str = "/"
    """What is asked for, over HTTP."""
    every: float = 10.0
    """Seconds between two heartbeats; they are measured for twice as long."""
    most_rounds: int | None = None
    """Rounds that are enough, where one takes long."""

    @property
    def unit(self) -> str:
        """What the main figure counts."""
        return UNITS[self.kind]

    @property
    def more_is_better(self) -> bool:
        """Whether a higher main figure is better."""
        return self.kind not in ("idle", "heartbeats")

    def for_a_first_look(self) -> Workload:
        """The same in small, if it takes long."""
        return replace(self, connections=2000, every=1.0) if self.kind == "heartbeats" else self


def _with(mode: str, *peers: str) -> tuple[str, ...]:
    return tuple(f"{peer}/{mode}" for peer in peers)


def _reach(mode: str, factor: float, *others: str) -> tuple[Target, ...]:
    return tuple(Target(f"{ours}/{mode}", "at least", factor, other) for other in others for ours in OURS)


def _framed_server() -> Workload:
    return Workload(
        "framed-server",
        "Framed echo through the framework: 64 connections, 16 in flight, 100 B, a Python handler for each message",
        "echo",
        (
            *_with("framed", "c-epoll", "c-io_uring"),
            *(f"{ours}/{mode}" for mode in ("server-plain", "server-async", "server-batch") for ours in OURS),
            "uvloop/streams-framed",
        ),
        "c-epoll/framed",
        (
            *_reach("server-plain", 0.85, "c-epoll/framed"),
            *_reach("server-async", 0.75, "c-epoll/framed"),
            *_reach("server-async", 14, "uvloop/streams-framed"),
        ),
        depth=16,
    )


def _framed_limits() -> Workload:
    return Workload(
        "framed-limits",
        "The framed echo with limits, rates, idle timeout, write stall, heartbeat and statistics on",
        "echo",
        ("c-epoll/framed", *_with("server-plain", *OURS), *_with("server-limits", *OURS)),
        "c-epoll/framed",
        tuple(Target(f"{ours}/server-limits", "at least", 0.9, f"{ours}/server-plain") for ours in OURS),
        depth=16,
    )


def _metrics() -> Workload:
    return Workload(
        "metrics",
        "The framed echo while metrics are read once a second; also with a hook for events and JSON logs",
        "echo",
        (*_with("server-plain", *OURS), *_with("server-metrics", *OURS), *_with("server-events", *OURS)),
        "wireway-epoll/server-plain",
        tuple(
            Target(f"{ours}/{mode}", "at least", 0.97, f"{ours}/server-plain")
            for mode in ("server-metrics", "server-events")
            for ours in OURS
        ),
        depth=16,
    )


def _broadcast(depth: int) -> Workload:
    rival = "uvloop/protocol-broadcast"
    spreads = tuple(Target(f"{ours}/server-broadcast", "at most", 100_000, metric="p99_us") for ours in OURS)
    return Workload(
        "broadcast" if depth == 1 else f"broadcast-{depth}",
        f"Broadcasts: 100 B from one connection to 10,000 others, {depth} under way at once",
        "broadcast",
        (
            "c-epoll-many/broadcast",
            *_with("protocol-broadcast", "asyncio", "uvloop"),
            *_with("server-broadcast", *OURS),
        ),
        rival,
        _reach("server-broadcast", 8, rival) + (spreads if depth == 1 else ()),
        connections=10_000,
        depth=depth,
    )


def _heartbeats() -> Workload:
    rival = "asyncio/protocol-heartbeat"
    ours = _with("server-heartbeat", *OURS)
    return Workload(
        "heartbeats",
        "18,000 idle connections, a heartbeat every 10 s: processor time of the server",
        "heartbeats",
        ("c-epoll-many/heartbeat", *_with("protocol-heartbeat", "asyncio", "uvloop"), *ours),
        rival,
        (
            *(Target(name, "at most", 0.1, rival) for name in ours),
            *(Target(name, "at most", 0.1, rival, "user_us") for name in ours),
        ),
        connections=18_000,
        most_rounds=2,
    )


def _framed_loop(mode: str, title: str) -> Workload:
    rivals = _with(mode, "uvloop", "uvloop-0.22.1", "blazio")
    return Workload(
        mode.replace("protocol", "framed-protocol").replace("streams-framed", "framed-streams").removesuffix("-framed"),
        f"The same through {title}, framing in Python",
        "echo",
        ("c-epoll/framed", *_with(mode, *LOOPS, *OURS)),
        "uvloop/" + mode,
        _reach(mode, 1.0, *rivals),
        depth=16,
    )


def _small(name: str, connections: int, size: int, factor: float) -> Workload:
    cheap = tuple(
        Target(f"{ours}/protocol-raw", "at most", 0.6, "uvloop/protocol-raw", "user_us")
        for ours in (OURS if connections == 64 else ())
    )
    return Workload(
        name,
        f"Echo: {connections} connections, 1 in flight, {size:,} B, asyncio.Protocol",
        "echo",
        (*_with("raw", "c-epoll", "c-io_uring"), *_with("protocol-raw", *LOOPS, *OURS)),
        "c-epoll/raw",
        _reach("protocol-raw", factor, "c-epoll/raw") + cheap,
        connections=connections,
        size=size,
    )


def _large(size: int, label: str, framed: bool) -> Workload:
    kind = "framed" if framed else "raw"
    ours = "server-plain" if framed else "server-raw"
    python = (
        ("asyncio/streams-framed", *_with("protocol-framed", *LOOPS), "uvloop/streams-framed")
        if framed
        else _with("protocol-raw", *LOOPS)
    )
    loops_ours = "protocol-framed" if framed else "protocol-raw"
    reference = f"c-epoll/{kind}"
    return Workload(
        f"large-{label.replace(' ', '')}-{kind}",
        f"{label} echo, {kind}: 8 connections, 1 in flight",
        "echo",
        (*_with(kind, "c-epoll", "c-io_uring"), *python, *_with(loops_ours, *OURS), *_with(ours, *OURS)),
        reference,
        _reach(ours, LEVEL, reference) + (() if framed else _reach(loops_ours, LEVEL, reference)),
        connections=8,
        size=size,
    )


def _exercise(name: str, title: str) -> Workload:
    return Workload(
        name, title, "exercise", _with(name, *LOOPS, *OURS), f"uvloop/{name}", _reach(name, LEVEL, f"uvloop/{name}")
    )


def _memory() -> Workload:
    return Workload(
        "memory",
        "User memory for each idle connection, after one message of 100 B",
        "idle",
        (
            "uvloop/streams-framed",
            *_with("protocol-raw", *LOOPS, *OURS),
            *_with("server-plain", *OURS),
            *_with("server-heartbeat", *OURS),
            "c-epoll/framed",
            "c-io_uring/framed",
        ),
        "uvloop/protocol-raw",
        tuple(
            Target(f"{ours}/{mode}", "at most", limit)
            for mode, limit in (("server-plain", 512), ("server-heartbeat", 512), ("protocol-raw", 1000))
            for ours in OURS
        ),
        connections=5000,
    )


def _accepts() -> Workload:
    return Workload(
        "accepts",
        "Connections accepted: connect, one message of 100 B, its reply, close",
        "churn",
        (
            *_with("raw", "c-epoll", "c-io_uring"),
            *_with("protocol-raw", *LOOPS, *OURS),
            *_with("server-raw", *OURS),
        ),
        "uvloop/protocol-raw",
        _reach("protocol-raw", 1.5, "uvloop/protocol-raw") + _reach("server-raw", 1.5, "uvloop/protocol-raw"),
    )


def _secured(name: Literal["tls", "handshakes"], title: str, factor: float) -> Workload:
    rivals = (*_with("streams-tls", "asyncio", "uvloop"), "uvloop/protocol-tls")
    rival = "uvloop/streams-tls"
    return Workload(
        name,
        title,
        name,
        (*rivals, *_with("server-tls", *OURS)),
        rival,
        _reach("server-tls", factor, rival),
        depth=16,
    )


def _web(name: str, title: str, path: str = "/", connections: int = 64, depth: int = 1) -> Workload:
    """An ASGI application under four servers: one process, one worker, no access log."""
    return Workload(
        f"web-{name}",
        f"ASGI: {title}",
        "http",
        _with("web", "uvicorn", "granian", "hypercorn", *OURS),
        "uvicorn/web",
        (*_reach("web", 1.5, "uvicorn/web"), *_reach("web", LEVEL, "granian/web")),
        connections=connections,
        depth=depth,
        path=path,
    )


def _backends() -> Workload:
    others = ("wireway-poll", "wireway-select", "wireway-sigio")
    return Workload(
        "backends",
        "All five back ends: framed echo, 64 connections, 16 in flight, 100 B, plain function",
        "echo",
        ("c-epoll/framed", *_with("server-plain", *OURS, *others)),
        "c-epoll/framed",
        depth=16,
    )


WORKLOADS: tuple[Workload, ...] = (
    _framed_server(),
    _framed_limits(),
    _metrics(),
    _framed_loop("protocol-framed", "asyncio.Protocol, one write for each frame"),
    _framed_loop("streams-framed", "StreamReader and StreamWriter"),
    _small("echo-64", 64, 100, 0.97),
    _small("echo-500", 500, 1000, 0.95),
    _large(100 << 10, "100 KiB", framed=False),
    _large(100 << 10, "100 KiB", framed=True),
    _large(1 << 20, "1 MiB", framed=False),
    _large(1 << 20, "1 MiB", framed=True),
    _exercise("call_soon", "call_soon: 100 chains of callbacks"),
    _exercise("call_later", "call_later: 10,000 timers set, nine in ten cancelled"),
    _exercise("switches", "Task switches: 100 Tasks that sleep(0)"),
    _exercise("tasks", "create_task and gather, 100 at a time"),
    _broadcast(1),
    _broadcast(16),
    _heartbeats(),
    _memory(),
    _accepts(),
    _secured("tls", "TLS 1.3, framed echo: 64 connections, 16 in flight, 100 B", 5),
    _secured("handshakes", "TLS 1.3, full handshakes with ECDSA P-256, one message of 100 B each", 1.5),
    _web("hello", "hello world, 64 keep-alive connections"),
    _web("json", "JSON, 64 keep-alive connections", "/json"),
    _web("100k", "an answer of 100 KB, 64 keep-alive connections", "/large"),
    _web("pipelined", "hello world, 64 connections, 16 requests in flight on each", depth=16),
    _web("10k", "hello world, 10,000 keep-alive connections", connections=10_000),
    _backends(),
)
