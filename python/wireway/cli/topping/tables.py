"""Owns what stands in the table, for each view. Knows Textual's table, and no server."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import DataTable

from wireway.cli.looking import HEADS, cells, columns_for, ended_cells, printable, quantity, span
from wireway.cli.watching import Look

__all__ = ["fill"]

_RIGHT = frozenset(HEADS) - {"peer", "user", "groups", "state", "server"}
"""Columns of figures."""


def fill(table: DataTable[Text], view: str, seen: Look, sort: str, largest: bool, limit: int) -> None:
    """Put a look into an empty table."""
    match view:
        case "connections":
            _connections(table, seen, sort, largest)
        case "closed":
            table.add_columns("at", "id", "peer", "code", "age", "in", "out", "why")
            for row in seen.closed[:limit]:
                table.add_row(*(Text(cell) for cell in ended_cells(row)))
        case "stalls":
            table.add_columns("pid", "stall")
            for each in seen.servers:
                for server in each["servers"]:
                    for stall in reversed(server["stalls"]):
                        table.add_row(Text(str(each["pid"])), Text(printable(stall)))
        case _:
            _servers(table, seen)


def _connections(table: DataTable[Text], seen: Look, sort: str, largest: bool) -> None:
    columns = columns_for(seen.rows, sort)
    for name in columns:
        mark = ("↓" if largest else "↑") if name == sort else ""
        table.add_column(_cell(name, HEADS[name][0] + mark, "bold" if mark else ""))
    for row in seen.rows:
        shown = zip(columns, cells(row, columns), strict=True)
        table.add_row(
            *(_cell(name, cell) for name, cell in shown),
            key=f"{row['pid']} {row['server']} {row['id']}",
        )


def _cell(column: str, text: str, style: str = "") -> Text:
    return Text(text, style=style, justify="right" if column in _RIGHT else "left")


def _servers(table: DataTable[Text], seen: Look) -> None:
    table.add_columns("pid", "what", "listens", "back end", "up", "open", "accepted", "in", "out", "queue", "stalls")
    for each in seen.servers:
        for server in each["servers"]:
            stats = server["stats"]
            facts = [str(each["pid"]), each["what"], ", ".join(server["addresses"]), server["backend"]]
            facts += [span(each["now"] - each["since"]), f"{stats['open']:,}", f"{stats['accepted']:,}"]
            facts += [quantity(stats[name]) for name in ("bytes_in", "bytes_out", "queued")] + [str(stats["stalls"])]
            table.add_row(*(Text(printable(fact)) for fact in facts))
