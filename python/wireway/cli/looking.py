"""What the commands that look at a running server have in common: which one is asked, how things are written.

Owns the columns as people see them. What peers and users say is shown with control characters escaped: a name can do
nothing to the terminal.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from wireway.cli.failing import Exit, Failure
from wireway.observe.asking import AskedError, NoServerError, ask, find, pid_of
from wireway.observe.table import orderable

__all__ = [
    "HEADS",
    "Json",
    "Pid",
    "Socket",
    "cells",
    "chosen",
    "columns_for",
    "connections",
    "described",
    "ended_cells",
    "having",
    "printable",
    "quantity",
    "span",
    "wide_console",
]

Pid = Annotated[int | None, typer.Option(help="Of the server in this process only.")]
Socket = Annotated[Path | None, typer.Option(help="The control socket, if it is not where they usually are.")]
_LONGEST = 24
"""Characters of a name in a table."""
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
        found += [{"pid": pid_of(path), **row} for row in answer["connections"]]
        total += answer["total"]
    found.sort(key=lambda row: orderable(row[sort]), reverse=largest)
    return found[:limit], total


def having(paths: list[Path], number: int) -> tuple[Path, dict[str, Any]]:
    """The one server that has a connection of that number, and its description of it.

    :raises Failure: none has, or several.
    """
    found: list[tuple[Path, dict[str, Any]]] = []
    for path in paths:
        try:
            found.append((path, ask(path, "describe", id=number)))
        except AskedError as error:
            if "several servers" in str(error):
                raise Failure(str(error), Exit.USAGE) from None
    if not found:
        raise Failure(f"there is no connection {number}: see `wireway ls`", Exit.NO)
    if len(found) > 1:
        pids = ", ".join(str(pid_of(path)) for path, _ in found)
        raise Failure(f"several servers have a connection {number}: name one with --pid ({pids})", Exit.USAGE)
    return found[0]


def wide_console() -> Console:
    """Where tables go: as wide as the terminal; a file or a pipe is as wide as it has to be."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=1000)


# --- how things are written -------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """A text without what a terminal would obey: control characters are escaped, and what it can not show."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def quantity(value: float | None) -> str:
    """A count for people: 12.3k, 4.0M."""
    if value is None:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def span(seconds: float | None) -> str:
    """A time for people: 230 µs, 1.2 ms, 12 s, 3m04, 2h05, 4d03h."""
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
    if seconds < 86400:
        return f"{seconds // 3600:.0f}h{seconds % 3600 // 60:02.0f}"
    return f"{seconds // 86400:.0f}d{seconds % 86400 // 3600:02.0f}h"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _handler(row: dict[str, Any]) -> str:
    return span(row["handler"]) if row["handler"] else "0"


HEADS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "pid": ("pid", lambda row: str(row["pid"])),
    "server": ("server", lambda row: row.get("listens") or str(row["server"])),
    "id": ("id", lambda row: str(row["id"])),
    "peer": ("peer", lambda row: printable(row["peer"])),
    "user": ("user", lambda row: _short(printable(row["user"]))),
    "groups": ("group", lambda row: _short(printable(",".join(row["groups"])))),
    "age": ("age", lambda row: span(row["age"])),
    "idle": ("idle", lambda row: span(row["idle"])),
    "in": ("in", lambda row: quantity(row["in"])),
    "out": ("out", lambda row: quantity(row["out"])),
    "messages_in": ("msg in", lambda row: quantity(row["messages_in"])),
    "messages_out": ("msg out", lambda row: quantity(row["messages_out"])),
    "queued": ("queue", lambda row: quantity(row["queued"])),
    "rtt": ("rtt", lambda row: span(row["rtt"])),
    "retransmits": ("retr", lambda row: "" if row["retransmits"] is None else str(row["retransmits"])),
    "state": ("state", lambda row: row["state"]),
    "handler": ("handler", _handler),
    "handling": ("now", lambda row: span(row["handling"])),
    "in_rate": ("in/s", lambda row: quantity(row["in_rate"])),
    "out_rate": ("out/s", lambda row: quantity(row["out_rate"])),
    "messages_in_rate": ("msg in/s", lambda row: quantity(row["messages_in_rate"])),
    "messages_out_rate": ("msg out/s", lambda row: quantity(row["messages_out_rate"])),
}
"""Each column of `wireway.observe.table.COLUMNS`: what it is called in a table, and what it shows of a row."""


def columns_for(rows: Sequence[dict[str, Any]], sort: str = "") -> list[str]:
    """The columns that say something of these rows, and the one that they are sorted by."""
    several = {
        "pid": len({row["pid"] for row in rows}) > 1,
        "server": len({(row["pid"], row["server"]) for row in rows}) > 1,
        "user": any(row["user"] for row in rows),
        "groups": any(row["groups"] for row in rows),
        "handling": any(row["handling"] is not None for row in rows),
        "retransmits": any(row["retransmits"] for row in rows),
        **{name: any(row[name] is not None for row in rows) for name in HEADS if name.endswith("_rate")},
    }
    return [name for name in HEADS if several.get(name, True) or name == sort]


def cells(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """A row for people."""
    return [HEADS[name][1](row) for name in columns]


def ended_cells(row: dict[str, Any]) -> list[str]:
    """An ended connection for people: at, id, peer, code, age, in, out, why."""
    at = time.strftime("%H:%M:%S", time.localtime(row["at"]))
    figures = (span(row["age"]), quantity(row["in"]), quantity(row["out"]))
    return [at, str(row["id"]), printable(row["peer"]), row["code"], *figures, printable(row["why"])]


def described(answer: dict[str, Any], pid: int) -> str:
    """All that is known of one connection, for people: several lines."""
    found = answer["connection"]
    lines = [
        f"connection {found['id']} of process {pid}, at {', '.join(found['listens'])}",
        f"{printable(found['peer'])} -> {printable(found['local'])}" + (f", {found['tls']}" if found["tls"] else ""),
        "",
        found["explain"],
        "",
    ]
    told = [name for name in HEADS if name not in ("pid", "server", "id", "peer") and found[name] not in (None, "", [])]
    lines += _in_two({HEADS[name][0]: HEADS[name][1](found) for name in told})
    if found["tcp_info"]:
        lines += ["", "TCP_INFO", *_in_two({name: _fact(value) for name, value in found["tcp_info"].items()})]
    lines.append("")
    if found["messages"] is None:
        lines.append(f"Its messages are not captured: `wireway capture {found['id']}`, or the key c in `wireway top`.")
    else:
        lines.append("last messages" if found["messages"] else "no message since it is captured")
        lines += [_message(each) for each in found["messages"]]
    return "\n".join(lines)


def _fact(value: object) -> str:
    return "-" if value is None else f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _message(told: dict[str, Any]) -> str:
    data = base64.b64decode(told["data"])
    at = time.strftime("%H:%M:%S", time.localtime(told["at"])) + f".{int(told['at'] % 1 * 1000):03}"
    more = f" … {told['length'] - len(data):,} more" if told["length"] > len(data) else ""
    return f"{at} {told['way']:<3} {told['length']:>6,}  {printable(data.decode(errors='backslashreplace'))}{more}"


def _in_two(facts: dict[str, str]) -> list[str]:
    """Names and values in two columns."""
    told = [f"{name:<15} {value}" for name, value in facts.items()]
    half = (len(told) + 1) // 2
    right = [*told[half:], ""]
    return [f"{left:<40} {right[number]}".rstrip() for number, left in enumerate(told[:half])]
