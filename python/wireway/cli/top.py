"""`wireway top`: a running server, live; or one look at it, for scripts.

Owns the options. What is shown comes from `watching.py`; the view is in `topping/`, which alone imports Textual.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer

from wireway.cli.failing import Exit, Failure, for_people
from wireway.cli.looking import HEADS, Json, Pid, Socket, cells, chosen, columns_for
from wireway.cli.watching import Look, Looking, summary
from wireway.observe.table import COLUMNS

__all__ = ["top"]


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one look, and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    sort: Annotated[str, typer.Option(help=f"One of {', '.join(COLUMNS)}.", metavar="COLUMN")] = "in",
    reverse: Annotated[bool, typer.Option("--reverse", help="The smallest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Rows.")] = 50,
    matching: Annotated[str, typer.Option("--filter", help="Part of the peer, the user or a group.")] = "",
    pid: Pid = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """Watch the running servers of this user."""
    if sort not in COLUMNS:
        raise typer.BadParameter(f"there is no column {sort!r}: {', '.join(COLUMNS)}", param_hint="--sort")
    with for_people():
        paths = chosen(pid, socket)
        if once or as_json:
            looking = Looking()
            looking.look(paths, sort=sort, largest=not reverse, limit=1, matching=matching)
            time.sleep(min(interval, 1.0))  # rates need two looks
            _print(looking.look(paths, sort=sort, largest=not reverse, limit=limit, matching=matching), sort, as_json)
            looking.close()
            return
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise Failure("there is no terminal to draw on: add --once, or --json", Exit.NO_TERMINAL)
        from wireway.cli.topping.app import Asked, Top  # not for those who only want help

        asked = Asked(pid=pid, socket=socket, interval=interval, sort=sort, limit=limit, matching=matching)
        Top(paths, asked, largest=not reverse).run()


def _print(seen: Look, sort: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(seen.as_dict()))
        return
    for line in summary(seen):
        typer.echo(line)
    typer.echo("")
    columns = columns_for(seen.rows, sort)
    rows = [[HEADS[name][0] for name in columns], *(cells(row, columns) for row in seen.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
