"""`wireway ls`, `kick` and `closed`: the connections of a running server, for people and for scripts."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wireway.cli.failing import Exit, Failure, for_people
from wireway.cli.looking import Json, Pid, Socket, chosen, connections, quantity, span
from wireway.observe.asking import AskedError, ask
from wireway.observe.table import COLUMNS

__all__ = ["closed", "kick", "ls"]


def ls(
    sort: Annotated[str, typer.Option(help=f"One of {', '.join(COLUMNS)}.", metavar="COLUMN")] = "id",
    reverse: Annotated[bool, typer.Option("--reverse", help="The smallest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 50,
    matching: Annotated[str, typer.Option("--filter", help="Part of the peer, the user or a group.")] = "",
    pid: Pid = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """List the connections of the running servers of this user."""
    if sort not in COLUMNS:
        raise typer.BadParameter(f"there is no column {sort!r}: {', '.join(COLUMNS)}", param_hint="--sort")
    with for_people():
        paths = chosen(pid, socket)
        found, total = connections(paths, sort=sort, largest=not reverse, limit=limit, matching=matching)
    if as_json:
        typer.echo(json.dumps({"connections": found, "total": total}))
        return
    table = _table(
        "pid", "id", "peer", "user", "age", "idle", "in", "out", "msg in", "msg out", "queued", "rtt", "retr", "state"
    )
    for row in found:
        table.add_row(*(Text(cell) for cell in cells(row)))
    console = Console(highlight=False)
    if console.width < _WIDE:  # the rest stands in --json
        for name in ("user", "msg in", "msg out", "retr"):
            table.columns = [column for column in table.columns if column.header != name]
    console.print(table)
    if total > len(found):
        console.print(f"{len(found)} of {total:,}: --limit shows more")


def cells(row: dict[str, Any]) -> list[str]:
    """A row for people."""
    return [
        str(row["pid"]),
        str(row["id"]),
        row["peer"],
        row["user"],
        span(row["age"]),
        span(row["idle"]),
        quantity(row["in"]),
        quantity(row["out"]),
        quantity(row["messages_in"]),
        quantity(row["messages_out"]),
        quantity(row["queued"]),
        span(row["rtt"]),
        "" if row["retransmits"] is None else str(row["retransmits"]),
        row["state"],
    ]


def kick(
    number: Annotated[int, typer.Argument(metavar="ID", help="The connection's id, from `wireway ls`.")],
    why: Annotated[str, typer.Option(help="Told in its close reason.")] = "kicked by the operator",
    abort: Annotated[bool, typer.Option("--abort", help="At once; what is queued is lost.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    pid: Pid = None,
    socket: Socket = None,
) -> None:
    """Close a connection of a running server."""
    with for_people():
        paths = chosen(pid, socket)
        having = []
        for path in paths:
            try:
                having.append((path, ask(path, "describe", id=number)["connection"]))
            except AskedError:
                continue
        if not having:
            raise Failure(f"there is no connection {number}: see `wireway ls`", Exit.NO)
        if len(having) > 1:
            pids = ", ".join(path.stem for path, _ in having)
            raise Failure(f"several servers have a connection {number}: name one with --pid ({pids})", Exit.USAGE)
        [(path, row)] = having
        if not yes:
            if not sys.stdin.isatty():
                raise Failure("there is no terminal to ask on: add --yes", Exit.NO_TERMINAL)
            typer.confirm(f"Close connection {number} from {row['peer']}, {span(row['age'])} old?", abort=True)
        ask(path, "kick", id=number, why=why, abort=abort)
    typer.echo(f"connection {number} from {row['peer']} is closed")


def closed(
    reason: Annotated[str | None, typer.Option(help="Only with this code (docs: why a connection closed).")] = None,
    last: Annotated[int, typer.Option(min=1, max=100_000, help="How many, the newest first.")] = 20,
    pid: Pid = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """List the connections that ended, and why."""
    with for_people():
        rows: list[dict[str, Any]] = []
        counts: dict[str, int] = {}
        for path in chosen(pid, socket):
            answer = ask(path, "closed", reason=reason, last=last)
            rows += [{"pid": path.stem, **row} for row in answer["closed"]]
            for code, count in answer["counts"].items():
                counts[code] = counts.get(code, 0) + count
    rows.sort(key=lambda row: row["at"], reverse=True)
    rows = rows[:last]
    if as_json:
        typer.echo(json.dumps({"closed": rows, "counts": counts}))
        return
    table = _table("at", "id", "peer", "code", "age", "in", "out", "why")
    for row in rows:
        at = time.strftime("%H:%M:%S", time.localtime(row["at"]))
        peer = row["peer"]
        where = f"{peer[0]}:{peer[1]}" if isinstance(peer, list) else str(peer or "unix")
        figures = (span(row["age"]), quantity(row["in"]), quantity(row["out"]))
        table.add_row(*(Text(cell) for cell in (at, str(row["id"]), where, row["code"], *figures, row["why"])))
    console = Console(highlight=False)
    console.print(table)
    console.print(", ".join(f"{code} {count:,}" for code, count in sorted(counts.items(), key=lambda each: -each[1])))


_WIDE = 120
"""Columns of a terminal that has room for all."""


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        right = name in ("pid", "id", "age", "idle", "in", "out", "msg in", "msg out", "queued", "rtt", "retr")
        table.add_column(name, justify="right" if right else "left", overflow="fold" if name == "why" else "ellipsis")
    return table
