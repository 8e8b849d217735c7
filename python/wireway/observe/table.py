"""What is told of connections: one as a row, all as the rows that somebody wants to see.

Owns the columns. Knows no socket of its own and no terminal.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable
from typing import Any

from wireway._native import Connection
from wireway.net.server import Server

__all__ = ["COLUMNS", "Row", "describe", "rows", "text_of"]

Row = dict[str, Any]

COLUMNS: dict[str, str] = {
    "id": "its number at its server",
    "peer": "the other side's address",
    "server": "which of the servers of the process, from 0",
    "user": "whose it is",
    "groups": "its groups",
    "age": "seconds since it was accepted",
    "idle": "seconds since a byte came or went",
    "in": "bytes received",
    "out": "bytes that the kernel took",
    "messages_in": "messages received",
    "messages_out": "messages sent",
    "queued": "bytes that wait to be sent",
    "rtt": "round trip, seconds",
    "retransmits": "segments sent again",
    "state": "of TCP",
}
_KERNEL = ("rtt", "retransmits", "state")
"""Columns that cost a system call for each connection."""
_SLICE = 500
"""Connections looked at before the loop turns: about 2 ms."""


async def rows(
    servers: Iterable[Server], *, sort: str = "id", largest: bool = True, limit: int = 200, matching: str = ""
) -> tuple[list[Row], int]:
    """The rows that come first, and how many connections there are that match.

    The loop turns in between: with very many connections the rows are not of one moment.

    :param sort: one of `COLUMNS`.
    :param largest: the largest value first.
    :param limit: how many rows; the others are only counted.
    :param matching: part of the peer, the user or a group.
    :raises ValueError: there is no such column.
    """
    if sort not in COLUMNS:
        raise ValueError(f"there is no column {sort!r}: {', '.join(COLUMNS)}")
    kept: list[tuple[Row, Connection]] = []
    now = asyncio.get_running_loop().time()
    for number, server in enumerate(servers):
        for index, connection in enumerate(server.connections):
            if index % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            row = _row(connection, number, now)
            if row is None or (matching and not _matches(row, matching)):
                continue
            if sort in _KERNEL:
                _ask_kernel(row, connection)
            kept.append((row, connection))
    choose = heapq.nlargest if largest else heapq.nsmallest
    first = choose(limit, kept, key=lambda pair: _orderable(pair[0][sort]))
    for row, connection in first:
        if sort not in _KERNEL:
            _ask_kernel(row, connection)
    return [row for row, _ in first], len(kept)


def describe(connection: Connection) -> dict[str, Any]:
    """All that is known of one connection: its row, what holds it up, TCP_INFO, its memory."""
    row = _row(connection, 0, asyncio.get_running_loop().time()) or {}
    _ask_kernel(row, connection)
    try:
        info = connection.tcp_info()
        kernel = {name: getattr(info, name) for name in ("state", *info.__dataclass_fields__) if name != "raw"}
    except OSError:
        kernel = {}
    return {**row, "explain": connection.explain(), "local": text_of(connection.local), "tcp_info": kernel}


def text_of(address: object) -> str:
    """An address as people write it."""
    if isinstance(address, tuple):
        return f"[{address[0]}]:{address[1]}" if ":" in str(address[0]) else f"{address[0]}:{address[1]}"
    return str(address or "unix")


def _row(connection: Connection, server: int, now: float) -> Row | None:
    peer = connection.peer
    if peer is None:
        return None  # closed meanwhile
    stats = connection.stats
    return {
        "id": connection.id,
        "peer": text_of(peer),
        "server": server,
        "user": connection.user or "",
        "groups": sorted(connection.groups),
        "age": round(now - stats["opened"], 3),
        "idle": round(now - max(stats["last_received"], stats["last_sent"]), 3),
        "in": stats["bytes_in"],
        "out": stats["bytes_out"],
        "messages_in": stats["messages_in"],
        "messages_out": stats["messages_out"],
        "queued": connection.queued,
        "rtt": None,
        "retransmits": None,
        "state": "",
    }


def _ask_kernel(row: Row, connection: Connection) -> None:
    try:
        info = connection.tcp_info()
    except OSError:
        return
    row["rtt"], row["retransmits"], row["state"] = info.rtt, info.total_retrans, info.state


def _matches(row: Row, matching: str) -> bool:
    return matching in row["peer"] or matching in row["user"] or any(matching in group for group in row["groups"])


def _orderable(value: Any) -> tuple[int, Any]:
    """None before all else; lists by their text."""
    if value is None:
        return (0, 0)
    return (1, ",".join(value) if isinstance(value, list) else value)
