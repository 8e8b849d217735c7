"""Owns what a server counted, as a value. The counting is native."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["ServerStats"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerStats:
    """Counts of a server since its start, all of one moment: ``accepted == open + sum(closed.values())`` holds."""

    accepted: int = 0
    """Connections accepted."""
    open: int = 0
    """Connections open now."""
    closed: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Connections closed, by code: see `CloseReason`."""
    would_close: Mapping[str, int] = field(default_factory=dict, hash=False)
    """For each limit on trial, how often it would have acted: see `Limits.dry_run`."""
    messages_in: int = 0
    """Messages received."""
    messages_out: int = 0
    """Messages sent, or queued to be sent."""
    bytes_in: int = 0
    """Bytes received."""
    bytes_out: int = 0
    """Bytes that the kernel took."""
    queued: int = 0
    """Bytes that wait to be sent, on all connections together."""
    adopted: int = 0
    """Of those accepted, the ones that another process of this server had before."""
    dropped: int = 0
    """Messages that slow peers lost: dropped, or replaced by newer ones of the same key."""
    paused: int = 0
    """Connections that are not read from now: their handlers are behind, or a limit holds them."""
    handlers: int = 0
    """Handlers that are suspended now."""
    stalls: int = 0
    """Stalls of its loop that are over: see `Server.stalls`."""
    stall_seconds: float = 0.0
    """What they lasted, together."""
    turn_seconds: Mapping[str, float] = field(default_factory=dict, hash=False)
    """How long turns of its loop took: how many, by the upper bound of a bucket in seconds, and their ``sum``."""
    handler_seconds: Mapping[str, float] = field(default_factory=dict, hash=False)
    """The same of its handlers, a message each. Empty unless they are timed, as `wireway.observe.endpoint.Metrics` has
    it."""
    requests: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Of a web server: requests answered, by method and status, as ``GET 200``. Counted when handlers are timed."""
    request_seconds: Mapping[str, float] = field(default_factory=dict, hash=False)
    """How long its application took for them."""

    @classmethod
    def of(cls, counts: Mapping[str, Any]) -> ServerStats:
        """The counts of a `ServerCore`; what it does not count is 0."""
        return cls(**{each.name: counts[each.name] for each in fields(cls) if each.name in counts})

    @classmethod
    def total(cls, many: Iterable[ServerStats]) -> ServerStats:
        """The sum: each count, and each code by itself. If ``accepted == open + sum(closed)`` held, it holds."""
        sums: dict[str, Any] = {}
        for stats in many:
            for each in fields(cls):
                value = getattr(stats, each.name)
                if isinstance(value, Mapping):
                    codes = sums.setdefault(each.name, {})
                    for code, count in value.items():
                        codes[code] = codes.get(code, 0) + count
                else:
                    sums[each.name] = sums.get(each.name, 0) + value
        return cls(**sums)
