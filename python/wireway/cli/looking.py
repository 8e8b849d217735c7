"""What `ls`, `kick`, `closed` and `top` have in common: which server is asked, how figures are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wireway.cli.failing import Exit, Failure
from wireway.observe.asking import NoServerError, ask, find

__all__ = ["Json", "Pid", "Socket", "chosen", "connections", "quantity", "span"]

Pid = Annotated[int | None, typer.Option(help="Of the server in this process only.")]
Socket = Annotated[Path | None, typer.Option(help="The control socket, if it is not where they usually are.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def chosen(pid: int | None, path: Path | None) -> list[Path]:
    """The control sockets to ask.

    :raises Failure: there is none.
    """
    try:
        return find(pid, path)
    except NoServerError as error:
        raise Failure(str(error), Exit.NO_SERVER) from None


def connections(paths: list[Path], *, sort: str, largest: bool, limit: int, matching: str) -> tuple[list[Any], int]:
    """The rows of all servers together, and how many connections match. Each row has the process it is of, `pid`."""
    found: list[dict[str, Any]] = []
    total = 0
    for path in paths:
        answer = ask(path, "connections", sort=sort, largest=largest, limit=limit, matching=matching)
        pid = int(path.stem) if path.stem.isdigit() else 0
        found += [{"pid": pid, **row} for row in answer["connections"]]
        total += answer["total"]
    found.sort(key=lambda row: (row[sort] is not None, row[sort] if row[sort] is not None else 0), reverse=largest)
    return found[:limit], total


def quantity(value: float) -> str:
    """A count for people: 12.3k, 4.0M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def span(seconds: float | None) -> str:
    """A time for people: 230 µs, 1.2 ms, 12 s, 3m04, 2h05."""
    if seconds is None:
        return ""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f}ms"
    if seconds < 60:
        return f"{seconds:.0f}s"
    if seconds < 3600:
        return f"{seconds // 60:.0f}m{seconds % 60:02.0f}"
    return f"{seconds // 3600:.0f}h{seconds % 3600 // 60:02.0f}"
