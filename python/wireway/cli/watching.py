"""What `wireway top` shows: one look at the servers after the other, and the rates between two. Knows no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wireway.cli.looking import printable, quantity, span
from wireway.errors import WirewayError
from wireway.observe.asking import Asker, pid_of
from wireway.observe.table import orderable

__all__ = ["RATES", "Look", "Looking", "summary"]

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
    """The connections that ended last; of a look that asked for them."""
    counts: dict[str, int] = field(default_factory=dict)
    """Closed connections by code."""
    sums: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    """Of `RATES`, a second. Empty at the first look, and when a server came or went."""
    silent: list[str] = field(default_factory=list)
    """Those that did not answer, and why."""

    def as_dict(self) -> dict[str, Any]:
        """For programs: docs/reference/control.md."""
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


class Looking:
    """Looks at servers, again and again. Keeps a connection to each, by which it knows the rates of connections.

    One thread at a time.
    """

    def __init__(self) -> None:
        self._askers: dict[Path, Asker] = {}
        self._before: Look | None = None

    def close(self) -> None:
        """Look no more."""
        for asker in self._askers.values():
            asker.close()
        self._askers.clear()

    def look(
        self,
        paths: Sequence[Path],
        *,
        sort: str,
        largest: bool,
        limit: int,
        matching: str = "",
        ended: int = 1,
    ) -> Look:
        """Ask all servers. One that does not answer is named, and the others are shown.

        :param ended: how many of the connections that ended are asked for.
        """
        now, found = Look(), []
        for gone in self._askers.keys() - set(paths):
            self._askers.pop(gone).close()
        for path in paths:
            try:
                asker = self._askers.get(path)
                if asker is None:
                    asker = self._askers[path] = Asker(path)
                about = asker.ask("about")
                closed = asker.ask("closed", last=ended)
                listed = asker.ask(
                    "connections", sort=sort, largest=largest, limit=limit, matching=matching, rates=True
                )
            except (WirewayError, OSError, ValueError) as error:
                now.silent.append(f"{path.stem}: {error}")
                former = self._askers.pop(path, None)
                if former is not None:
                    former.close()
                continue
            pid = pid_of(path)
            places = [", ".join(server["addresses"][:2]) for server in about["servers"]]
            found += [{"pid": pid, **row, "listens": places[row["server"]]} for row in listed["connections"]]
            now.total += listed["total"]
            self._add(now, about, closed, pid)
        now.closed.sort(key=lambda row: row["at"], reverse=True)
        found.sort(key=lambda row: orderable(row[sort]), reverse=largest)
        now.rows = found[:limit]
        before, self._before = self._before, now
        if before is not None and now.at > before.at and _same(before, now):
            passed = now.at - before.at
            now.rates = {name: max(0.0, (now.sums.get(name, 0) - before.sums.get(name, 0)) / passed) for name in RATES}
        return now

    def _add(self, now: Look, about: dict[str, Any], closed: dict[str, Any], pid: int) -> None:
        now.servers.append(about)
        now.at = max(now.at, about["now"])
        now.closed += [{"pid": pid, **row} for row in closed["closed"]]
        for code, count in closed["counts"].items():
            now.counts[code] = now.counts.get(code, 0) + count
        for server in about["servers"]:
            for name, value in server["stats"].items():
                if isinstance(value, int | float):
                    now.sums[name] = now.sums.get(name, 0) + value


def _same(before: Look, now: Look) -> bool:
    return [each["pid"] for each in before.servers] == [each["pid"] for each in now.servers]


def summary(now: Look) -> list[str]:
    """The lines at the top."""
    if not now.servers:
        return ["no server answers; waiting for one", *(printable(f"silent: {each}") for each in now.silent)]
    places = ", ".join(
        dict.fromkeys(address for each in now.servers for server in each["servers"] for address in server["addresses"])
    )
    backends = sorted({server["backend"] for each in now.servers for server in each["servers"]})
    up = span(now.at - min(each["since"] for each in now.servers))
    what = sorted({each["what"] for each in now.servers})
    sums, rates = now.sums, now.rates

    def rate(name: str) -> str:
        return f"{quantity(rates[name])}/s" if name in rates else "-"

    lines = [
        f"{', '.join(what)} on {places}  ({', '.join(backends)}, {len(now.servers)} "
        f"process{'es' if len(now.servers) > 1 else ''}, up {up})",
        f"open {sums.get('open', 0):,}  accepted {sums.get('accepted', 0):,} ({rate('accepted')})  "
        f"queued {quantity(sums.get('queued', 0))}B  paused {sums.get('paused', 0):,}  "
        f"handlers waiting {sums.get('handlers', 0):,}  stalls {sums.get('stalls', 0):,}",
        f"in {rate('messages_in')} messages, {rate('bytes_in')} bytes   "
        f"out {rate('messages_out')} messages, {rate('bytes_out')} bytes",
    ]
    return [printable(line) for line in (*lines, *(f"silent: {each}" for each in now.silent))]
