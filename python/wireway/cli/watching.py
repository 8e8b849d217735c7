"""What `wireway top` shows: one look at the servers, and the rates between two looks. Knows no terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wireway.cli.looking import connections, quantity, span
from wireway.errors import WirewayError
from wireway.observe.asking import ask

__all__ = ["RATES", "Look", "look", "summary"]

RATES = ("accepted", "messages_in", "messages_out", "bytes_in", "bytes_out")
"""Counts whose growth is a rate."""


@dataclass(slots=True)
class Look:
    """All servers at one moment."""

    at: float = 0.0
    servers: list[dict[str, Any]] = field(default_factory=list)
    """What each process says of itself."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    """Connections that match, shown or not."""
    closed: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Closed connections by code."""
    sums: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    """Of `RATES`, a second."""
    silent: list[str] = field(default_factory=list)
    """Those that did not answer, and why."""

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "at": self.at,
            "servers": self.servers,
            "connections": self.rows,
            "total": self.total,
            "closed": self.counts,
            "sums": self.sums,
            "rates": self.rates,
            "silent": self.silent,
        }


def look(paths: list[Path], before: Look | None, *, sort: str, largest: bool, limit: int, matching: str) -> Look:
    """Ask all servers. One that does not answer is named, and the others are shown."""
    now = Look()
    alive = []
    for path in paths:
        try:
            about = ask(path, "about")
            ended = ask(path, "closed", last=100)
        except (WirewayError, OSError) as error:
            now.silent.append(f"{path.stem}: {error}")
            continue
        alive.append(path)
        now.servers.append(about)
        now.at = max(now.at, about["now"])
        now.closed += [{"pid": path.stem, **row} for row in ended["closed"]]
        for code, count in ended["counts"].items():
            now.counts[code] = now.counts.get(code, 0) + count
        for server in about["servers"]:
            for name, value in server["stats"].items():
                if isinstance(value, int | float):
                    now.sums[name] = now.sums.get(name, 0) + value
    now.closed.sort(key=lambda row: row["at"], reverse=True)
    now.rows, now.total = connections(alive, sort=sort, largest=largest, limit=limit, matching=matching)
    if before is not None and now.at > before.at and len(before.servers) == len(now.servers):
        passed = now.at - before.at
        now.rates = {name: max(0.0, (now.sums.get(name, 0) - before.sums.get(name, 0)) / passed) for name in RATES}
    return now


def summary(now: Look) -> list[str]:
    """The lines at the top."""
    if not now.servers:
        return ["no server answers", *now.silent]
    places = ", ".join(address for each in now.servers for server in each["servers"] for address in server["addresses"])
    backends = sorted({server["backend"] for each in now.servers for server in each["servers"]})
    up = span(now.at - min(each["since"] for each in now.servers))
    what = sorted({each["what"] for each in now.servers})
    sums, rates = now.sums, now.rates

    def rate(name: str) -> str:
        return f"{quantity(rates[name])}/s" if name in rates else "-"

    lines = [
        f"{', '.join(what)} on {places}  ({', '.join(backends)}, {len(now.servers)} "
        f"process{'es' if len(now.servers) > 1 else ''}, up {up})",
        f"open {sums['open']:,}  accepted {sums['accepted']:,} ({rate('accepted')})  "
        f"queued {quantity(sums['queued'])}B  paused {sums['paused']:,}  handlers waiting {sums['handlers']:,}  "
        f"stalls {sums['stalls']:,}",
        f"in {rate('messages_in')} messages, {rate('bytes_in')} bytes   "
        f"out {rate('messages_out')} messages, {rate('bytes_out')} bytes",
    ]
    return [*lines, *(f"silent: {each}" for each in now.silent)]
