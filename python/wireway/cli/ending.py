"""`wireway kick` and `closed`: ending connections, and what is known of those that ended."""

from __future__ import annotations

import difflib
import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from wireway.cli.failing import Exit, Failure, for_people
from wireway.cli.looking import (
    Json,
    Pid,
    Socket,
    chosen,
    connections,
    ended_cells,
    having,
    printable,
    span,
    wide_console,
)
from wireway.errors import WirewayError
from wireway.net.evidence import CODES
from wireway.observe.asking import AskedError, Asker, ask, pid_of

__all__ = ["closed", "kick"]

_MOST = 100_000


def kick(
    number: Annotated[
        int | None, typer.Argument(metavar="ID", min=0, help="The connection's id, from `wireway ls`.")
    ] = None,
    peer: Annotated[str, typer.Option(help="All connections of this peer: an address, or address:port.")] = "",
    user: Annotated[str, typer.Option(help="All connections of this user.")] = "",
    matching: Annotated[str, typer.Option("--filter", help="All with this in their peer, user or group.")] = "",
    why: Annotated[str, typer.Option(help="Told in its close reason.")] = "kicked by the operator",
    abort: Annotated[bool, typer.Option("--abort", help="At once, with RST; what is queued is lost.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    pid: Pid = None,
    socket: Socket = None,
) -> None:
    """Close a connection of a running server, or all of a peer, a user, or a filter."""
    if sum((number is not None, bool(peer), bool(user), bool(matching))) != 1:
        raise typer.BadParameter("name one of ID, --peer, --user and --filter", param_hint="ID")
    with for_people():
        paths = chosen(pid, socket)
        if number is not None:
            path, answer = having(paths, number)
            row = answer["connection"]
            found = [(path, row)]
            question = f"Close connection {number} from {printable(row['peer'])}, {span(row['age'])} old?"
        else:
            found = _matching(paths, peer, user, matching)
            if not found:
                raise Failure(f"no connection matches {peer or user or matching!r}: see `wireway ls`", Exit.NO)
            question = f"Close {_connections(len(found))}: {_some([row for _, row in found])}?"
        if not yes:
            if not sys.stdin.isatty():
                raise Failure("there is no terminal to ask on: add --yes", Exit.NO_TERMINAL)
            typer.confirm(question, abort=True)
        gone = 0
        for path, row in found:
            try:
                ask(path, "kick", id=row["id"], server=row["server"], why=why, abort=abort)
            except AskedError:
                if number is not None:
                    raise
                continue  # it ended by itself
            gone += 1
    if number is not None:
        typer.echo(f"connection {number} from {printable(found[0][1]['peer'])} is closed")
    else:
        typer.echo(f"{_connections(gone)} closed")


def _matching(paths: list[Path], peer: str, user: str, matching: str) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in paths:
        rows, _ = connections([path], sort="id", largest=False, limit=_MOST, matching=matching or user or peer)
        for row in rows:
            if peer and peer not in (row["peer"], row["peer"].rpartition(":")[0], row["peer"].rpartition(":")[0][1:-1]):
                continue
            if user and row["user"] != user:
                continue
            found.append((path, row))
    return found


def _some(rows: list[dict[str, Any]]) -> str:
    shown = ", ".join(printable(row["peer"]) for row in rows[:5])
    return f"{shown}{' …' if len(rows) > 5 else ''}"


def _connections(count: int) -> str:
    return f"{count:,} connection{'' if count == 1 else 's'}"


def closed(
    reason: Annotated[str | None, typer.Option(help="Only with this code (docs: why a connection closed).")] = None,
    last: Annotated[int, typer.Option(min=1, max=_MOST, help="How many, the newest first.")] = 20,
    since: Annotated[
        str | None, typer.Option(help="Only those of the last 90s, 5m, 2h, or since 14:30, or 2026-11-27T14:30.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on, and tell each that ends, until Ctrl-C.")
    ] = False,
    pid: Pid = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """List the connections that ended, and why."""
    if reason is not None and reason not in CODES:
        near = difflib.get_close_matches(reason, CODES, 1)
        guess = f"did you mean {near[0]}?" if near else "they are " + ", ".join(sorted(CODES))
        raise typer.BadParameter(f"no connection closes with {reason!r}; {guess}", param_hint="--reason")
    with for_people():
        start = None if since is None else _moment(since)
        rows: list[dict[str, Any]] = []
        counts: dict[str, int] = {}
        marks: dict[Path, dict[str, float]] = {}
        for path in chosen(pid, socket):
            answer = ask(path, "closed", reason=reason, last=last, since=start)
            marks[path] = answer["after"]
            rows += [{"pid": pid_of(path), **row} for row in answer["closed"]]
            for code, count in answer["counts"].items():
                counts[code] = counts.get(code, 0) + count
        rows.sort(key=lambda row: row["at"], reverse=True)
        rows = rows[:last]
        if follow:
            _follow(rows, marks, reason, as_json)
            return
    if as_json:
        typer.echo(json.dumps({"closed": rows, "counts": counts}))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("at", "id", "peer", "code", "age", "in", "out", "why"):
        right = name in ("id", "age", "in", "out")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in ended_cells(row)))
    console = wide_console()
    console.print(table)
    console.print(", ".join(f"{code} {count:,}" for code, count in sorted(counts.items(), key=lambda each: -each[1])))


def _follow(rows: list[dict[str, Any]], marks: dict[Path, dict[str, float]], reason: str | None, as_json: bool) -> None:
    """Tell those, the oldest first, and then each that ends; until the servers do, or Ctrl-C."""
    askers = {path: Asker(path) for path in marks}
    try:
        while True:
            for row in sorted(rows, key=lambda row: row["at"]):
                typer.echo(json.dumps(row) if as_json else "  ".join(ended_cells(row)))
            sys.stdout.flush()
            if not askers:
                return
            time.sleep(0.5)
            rows = []
            for path, asker in list(askers.items()):
                try:
                    answer = asker.ask("closed", reason=reason, last=10_000, after=marks[path])
                except AskedError:
                    raise
                except WirewayError:
                    askers.pop(path).close()
                    typer.echo(f"the server of process {pid_of(path)} ended", err=True)
                    continue
                marks[path] |= answer["after"]
                rows += [{"pid": pid_of(path), **row} for row in answer["closed"]]
    except KeyboardInterrupt:
        return
    finally:
        for asker in askers.values():
            asker.close()


def _moment(text: str) -> float:
    """When that was, seconds since 1970."""
    span_of = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?", text.strip())
    if span_of is not None:
        return time.time() - float(span_of[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[span_of[2] or "s"]
    try:
        if re.fullmatch(r"\d\d:\d\d(:\d\d)?", text):
            return datetime.fromisoformat(f"{datetime.now().date()}T{text}").timestamp()
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise Failure(
            f"--since {text!r} is no time: write 90s, 5m, 2h, 14:30 or 2026-11-27T14:30", Exit.USAGE
        ) from None
