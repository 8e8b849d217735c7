"""`wireway ls` and `capture`: the connections of a running server, for people and for scripts."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from wireway.cli.failing import for_people
from wireway.cli.looking import (
    HEADS,
    Json,
    Pid,
    Socket,
    cells,
    chosen,
    columns_for,
    connections,
    described,
    having,
    wide_console,
)
from wireway.observe.asking import ask, pid_of
from wireway.observe.table import COLUMNS

__all__ = ["capture", "ls"]

_NARROW = ("user", "messages_in", "messages_out", "retransmits", "server", "handling", "handler", "rtt")
"""Columns that go first where the terminal has no room for all; they stand in --json."""


def ls(
    number: Annotated[
        int | None,
        typer.Argument(metavar="ID", min=0, help="All that is known of this connection.", show_default=False),
    ] = None,
    sort: Annotated[str, typer.Option(help=f"One of {', '.join(COLUMNS)}.", metavar="COLUMN")] = "id",
    reverse: Annotated[bool, typer.Option("--reverse", help="The smallest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 50,
    matching: Annotated[str, typer.Option("--filter", help="Part of the peer, the user or a group.")] = "",
    pid: Pid = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """List the connections of the running servers of this user, or describe one of them."""
    if sort not in COLUMNS:
        raise typer.BadParameter(f"there is no column {sort!r}: {', '.join(COLUMNS)}", param_hint="--sort")
    with for_people():
        paths = chosen(pid, socket)
        if number is not None:
            path, answer = having(paths, number)
            typer.echo(json.dumps({"pid": pid_of(path), **answer}) if as_json else described(answer, pid_of(path)))
            return
        found, total = connections(paths, sort=sort, largest=not reverse, limit=limit, matching=matching)
    if as_json:
        typer.echo(json.dumps({"connections": found, "total": total}))
        return
    columns = columns_for(found, sort)
    console = wide_console()
    rows = [cells(row, columns) for row in found]
    for name in _NARROW:
        if _width(columns, rows) <= console.width or name == sort:
            continue
        if name in columns:
            place = columns.index(name)
            columns.remove(name)
            for row in rows:
                del row[place]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        left = name in ("peer", "user", "groups", "state", "server")
        table.add_column(HEADS[name][0], justify="left" if left else "right", overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
    if total > len(found):
        console.print(f"{len(found)} of {total:,}: --limit shows more")


def _width(columns: list[str], rows: list[list[str]]) -> int:
    heads = [HEADS[name][0] for name in columns]
    return sum(2 + max(len(row[place]) for row in [heads, *rows]) for place in range(len(columns)))


def capture(
    number: Annotated[
        int | None, typer.Argument(metavar="ID", min=0, help="This connection; all, and those to come, without it.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="No longer, and forget what was kept.")] = False,
    messages: Annotated[int, typer.Option(min=1, max=1000, help="Messages that are kept of each, both ways.")] = 20,
    shown: Annotated[int, typer.Option(min=1, max=65536, help="Bytes that are kept of each message.")] = 1024,
    pid: Pid = None,
    socket: Socket = None,
) -> None:
    """Keep the last messages of connections, for `wireway ls ID` and `wireway top`."""
    with for_people():
        paths = chosen(pid, socket)
        if number is not None:
            paths = [having(paths, number)[0]]
        room = min(messages * (shown + 128), 1024 * 1024)
        count = sum(
            ask(path, "capture", id=number, on=not off, messages=messages, shown=shown, room=room)["capturing"]
            for path in paths
        )
    typer.echo(f"{count:,} connection{'' if count == 1 else 's'} captured")
