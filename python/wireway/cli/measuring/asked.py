"""What is wanted of one run. Owns the options and their form in JSON; opens nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import wireway
from wireway.cli.failing import Exit, Failure
from wireway.cli.measuring.targets import Target
from wireway.framing.names import framing_name
from wireway.units import duration

__all__ = ["Wanted", "seconds_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """One measurement. Times in seconds, rates a second."""

    target: Target
    message: bytes
    framing: wireway.Framing
    verify: str
    connections: int
    connect_timeout: float
    in_flight: int
    rate: float | None
    duration: float | None
    count: int | None
    warm_up: float
    timeout: float
    threads: int = 1
    connect_rate: float | None = None
    sources: list[str] = field(default_factory=list)

    def native(self) -> dict[str, Any]:
        """For `LoadRun`."""
        same = ("verify", "connections", "connect_timeout", "in_flight", "rate", "duration", "count", "warm_up")
        return {
            **{name: getattr(self, name) for name in (*same, "timeout", "threads", "connect_rate", "sources")},
            "addresses": self.target.addresses,
            "tls": self.target.tls,
            "message": self.message,
            "framing": self.framing._native(),
        }

    def as_dict(self) -> dict[str, Any]:
        """For programs: what makes two runs alike."""
        request = {"request": self.target.request} if self.target.http else {"framing": framing_name(self.framing)}
        return {
            "url": self.target.url,
            "mode": "closed" if self.rate is None else "open",
            "rate": self.rate,
            "connections": self.connections,
            "in_flight": self.in_flight if self.rate is None else None,
            "size": len(self.message),
            **request,
            "verify": self.verify,
            "threads": self.threads,
            "duration": self.duration,
            "count": self.count,
            "warm_up": self.warm_up,
            "timeout": self.timeout,
            "connect_rate": self.connect_rate,
            "sources": self.sources,
        }


def seconds_of(text: str, option: str, *, zero: bool = False) -> float:
    """``10``, ``10s``, ``250ms``, ``2m``.

    :param zero: it may be none at all.
    :raises Failure: it is no time.
    """
    try:
        found = duration(text)
    except wireway.ConfigError as error:
        raise Failure(f"{option}: {error}", Exit.USAGE) from None
    if found == 0 and not zero:
        raise Failure(f"{option} must be more than 0", Exit.USAGE)
    return found
