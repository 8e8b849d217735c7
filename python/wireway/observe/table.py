"""What is told of connections: one as a row, all as the rows that somebody wants to see.

Owns the columns. Looking at very many is native (`Survey`), a piece at a time. Knows no socket of its own, and no
terminal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from wireway._native import Connection, Survey
from wireway.net.server import Server

__all__ = ["COLUMNS", "Row", "Wanted", "describe", "look", "orderable", "row_of", "text_of"]

Row = dict[str, Any]

COLUMNS: dict[str, str] = {
    "id": "its number at its server",
    "peer": "the other side's address",
    "server": "which of the servers of the process, from 0",
    "user": "whose it is",
    "groups": "its groups, at most 50",
    "age": "seconds since it was accepted",
    "idle": "seconds since a byte came or went",
    "in": "bytes received",
    "out": "bytes that the kernel took",
    "messages_in": "messages received",
    "messages_out": "messages sent",
    "in_rate": "bytes received a second, since the look before",
    "out_rate": "bytes sent a second",
    "messages_in_rate": "messages received a second",
    "messages_out_rate": "messages sent a second",
    "queued": "bytes that wait to be sent",
    "rtt": "round trip, seconds",
    "retransmits": "segments sent again",
    "state": "of TCP",
    "handler": "seconds that its handlers took, waiting included",
    "handling": "seconds that the present handler has waited; none runs: null",
}
_KERNEL = ("rtt", "retransmits", "state")
"""Columns that cost a system call for each connection."""
_PLACES = 5000
"""Connections looked at before the loop turns: about 1 ms."""
_ASKED = 500
"""The same where the kernel is asked about each."""
_ROWS = 100
"""Rows that are made before the loop turns: about 1 ms."""
_NAME = 200
"""Characters of a user's or a group's name that are told."""
_GROUPS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which rows.

    :raises ValueError: there is no such column.
    """

    sort: str = "id"
    largest: bool = True
    limit: int = 200
    matching: str = ""
    """Part of the peer, the user or a group."""
    server: int | None = None
    """Of this one only."""

    def __post_init__(self) -> None:
        if self.sort not in COLUMNS:
            raise ValueError(f"there is no column {self.sort!r}: {', '.join(COLUMNS)}")


@dataclass(slots=True)
class Seen:
    """What somebody has seen at a look, by server: with it the next look knows the rates."""

    surveys: dict[int, Survey] = field(default_factory=dict)


async def look(
    servers: Sequence[Server], wanted: Wanted, before: Seen | None = None
) -> tuple[AsyncIterator[Row], int, Seen]:
    """The rows that come first, in their order, as they are made; how many match; and what the next look is told.

    The loop turns in between: with very many connections the rows are not of one moment.

    :param before: what the look before gave; with None nothing is remembered, and there are no rates.
    """
    seen, found, total = Seen(), [], 0
    for number, server in enumerate(servers):
        core = server._core
        if core is None or wanted.server not in (None, number):
            continue
        survey = Survey(
            core,
            wanted.sort,
            largest=wanted.largest,
            limit=wanted.limit,
            matching=wanted.matching,
            remember=before is not None,
            before=None if before is None else before.surveys.get(number),
        )
        places = _ASKED if wanted.sort in _KERNEL else _PLACES
        while True:
            if not survey.step(places):
                break
            await asyncio.sleep(0)
        seen.surveys[number] = survey
        total += survey.matched
        found += [(number, *row) for row in survey.rows()]
    if len(servers) == 1 and len(found) > wanted.limit:
        found = found[: wanted.limit]
    return _made(found, wanted), total, seen


async def _made(
    found: list[tuple[int, Connection, tuple[float, float, float, float] | None]], wanted: Wanted
) -> AsyncIterator[Row]:
    several = len({number for number, *_ in found}) > 1
    rows: list[Row] = []
    for index, (number, connection, rates) in enumerate(found):
        if index % _ROWS == _ROWS - 1:
            await asyncio.sleep(0)
        row = row_of(connection, number, rates)
        if row is None:
            continue  # closed meanwhile
        if several:
            rows.append(row)
        else:
            yield row
    rows.sort(key=lambda row: orderable(row[wanted.sort]), reverse=wanted.largest)
    for row in rows[: wanted.limit]:
        yield row


def row_of(connection: Connection, server: int, rates: tuple[float, float, float, float] | None = None) -> Row | None:
    """A connection as a row; None if it is closed."""
    peer = connection.peer
    if peer is None:
        return None
    stats = connection.stats
    now = asyncio.get_running_loop().time()
    row = {
        "id": connection.id,
        "peer": text_of(peer),
        "server": server,
        "user": (connection.user or "")[:_NAME],
        "groups": [name[:_NAME] for name in sorted(connection.groups)[:_GROUPS]],
        "age": round(now - stats["opened"], 3),
        "idle": round(max(0.0, now - max(stats["last_received"], stats["last_sent"])), 3),
        "in": stats["bytes_in"],
        "out": stats["bytes_out"],
        "messages_in": stats["messages_in"],
        "messages_out": stats["messages_out"],
        **dict.fromkeys(("in_rate", "out_rate", "messages_in_rate", "messages_out_rate")),
        "queued": connection.queued,
        "rtt": None,
        "retransmits": None,
        "state": "",
        "handler": round(stats["handlers"], 6),
        "handling": None if stats["handling"] is None else round(stats["handling"], 6),
    }
    if rates is not None:
        for name, rate in zip(("in_rate", "out_rate", "messages_in_rate", "messages_out_rate"), rates, strict=True):
            row[name] = round(rate, 1)
    try:
        info = connection.tcp_info()
    except OSError:  # a Unix socket
        return row
    row["rtt"], row["retransmits"], row["state"] = info.rtt, info.total_retrans, info.state
    return row


def describe(connection: Connection, server: int = 0, rates: Any = None) -> dict[str, Any]:
    """All that is known of one connection: its row, what holds it up, TCP_INFO, its memory."""
    row = row_of(connection, server, rates) or {}
    try:
        info = connection.tcp_info()
        kernel = {name: getattr(info, name) for name in ("state", *info.__dataclass_fields__) if name != "raw"}
    except OSError:
        kernel = {}
    tls = connection.tls
    return {
        **row,
        "explain": str(connection.explain()),
        "local": text_of(connection.local),
        "tls": "" if tls is None else f"{tls.version} {tls.cipher}",
        "tcp_info": kernel,
    }


def text_of(address: object) -> str:
    """An address as people write it."""
    if isinstance(address, tuple | list):
        return f"[{address[0]}]:{address[1]}" if ":" in str(address[0]) else f"{address[0]}:{address[1]}"
    if isinstance(address, bytes):  # an abstract name
        return f"unix:@{address[1:].decode(errors='replace')}"
    return f"unix:{address}" if address else "unix"


def orderable(value: Any) -> tuple[int, Any]:
    """None before all else; lists by their text."""
    if value is None:
        return (0, 0)
    return (1, ",".join(value) if isinstance(value, list) else value)
