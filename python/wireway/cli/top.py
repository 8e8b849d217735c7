"""`wireway top`: a running server, live. Keys as in k9s and nats-top.

Owns the terminal. What is shown comes from `watching.py`, as asked of the control socket, in a thread.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wireway.cli.failing import Exit, Failure, for_people
from wireway.cli.looking import Json, Pid, Socket, chosen, quantity, span
from wireway.cli.ls import cells
from wireway.cli.watching import Look, look, summary
from wireway.observe.table import COLUMNS

if TYPE_CHECKING:
    from textual.app import App

__all__ = ["top"]

HEADS = ("pid", "id", "peer", "user", "age", "idle", "in", "out", "msg in", "msg out", "queued", "rtt", "retr", "state")
SORTED = {"messages_in": "msg in", "messages_out": "msg out", "retransmits": "retr"}
"""Heads that are called otherwise than their column."""
VIEWS = ("connections", "closed", "stalls")
HELP = """\
  q          leave
  /          show only what has this in peer, user or group; empty: all
  :          sort by a column: :queued, :rtt, :age …; :kick ID; :q
  o          sort by the next column
  r          the other way round
  n          how many rows: 20, 50, 200, 1000
  s          connections, closed connections, stalls
  d, enter   describe the connection: TCP_INFO, what holds it up
  ctrl-k     close the connection, after asking
  space      stand still, go on
  ?          this"""


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one look, and end.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    sort: Annotated[str, typer.Option(help=f"One of {', '.join(COLUMNS)}.", metavar="COLUMN")] = "in",
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
            first = look(paths, None, sort=sort, largest=True, limit=limit, matching=matching)
            time.sleep(min(interval, 1.0))  # rates need two looks
            second = look(paths, first, sort=sort, largest=True, limit=limit, matching=matching)
            _print(second, as_json)
            return
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise Failure("there is no terminal to draw on: add --once, or --json", Exit.NO_TERMINAL)
        _app(paths, interval, sort, limit, matching, pid, socket).run()


def _print(seen: Look, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(seen.as_dict()))
        return
    for line in summary(seen):
        typer.echo(line)
    typer.echo("")
    rows = [HEADS, *(tuple(cells(row)) for row in seen.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _in_two(facts: dict[str, Any]) -> list[str]:
    """Names and values in two columns."""
    cells = [f"{name:<15} {value}" for name, value in facts.items()]
    half = (len(cells) + 1) // 2
    right = [*cells[half:], ""]
    return [f"{left:<44} {right[number]}".rstrip() for number, left in enumerate(cells[:half])]


def _app(
    paths: list[Path], interval: float, sort: str, limit: int, matching: str, pid: int | None, socket: Path | None
) -> App[None]:
    """The terminal view. Made here, so that only `top` waits for Textual to be imported."""
    from rich.text import Text
    from textual import work
    from textual.app import App, ComposeResult
    from textual.binding import Binding
    from textual.containers import VerticalScroll
    from textual.screen import ModalScreen
    from textual.widgets import DataTable, Input, Static

    from wireway.observe.asking import NoServerError, ask, find

    class Sheet(ModalScreen[bool]):
        """Text over the table; with a question, y answers it."""

        DEFAULT_CSS = """
        Sheet { align: center middle; }
        Sheet VerticalScroll {
            width: 90%; max-width: 110; height: auto; max-height: 90%;
            border: round $accent; padding: 0 2; background: $surface;
        }
        """

        def __init__(self, text: str, question: bool = False) -> None:
            super().__init__()
            self.text, self.question = text, question

        def compose(self) -> ComposeResult:
            with VerticalScroll():
                yield Static(Text(self.text))

        def on_key(self, event: Any) -> None:
            if self.question:
                self.dismiss(event.key == "y")
            elif event.key in ("escape", "q", "d", "enter", "question_mark", "space"):
                self.dismiss(False)
            elif event.key in ("up", "down", "pageup", "pagedown", "home", "end"):
                return  # they scroll it
            event.stop()

    class Top(App[None]):
        """The view."""

        ENABLE_COMMAND_PALETTE = False
        CSS = """
        #head { height: auto; padding: 0 1; color: $text; background: $boost; }
        #table { height: 1fr; }
        #line { display: none; height: 3; }
        #foot { height: 1; padding: 0 1; color: $text-muted; }
        """
        BINDINGS = [  # noqa: RUF012 - Textual reads it so
            Binding("q", "quit", "leave"),
            Binding("slash", "ask_filter", "filter"),
            Binding("colon", "ask_command", "command"),
            Binding("question_mark", "help", "help"),
            Binding("d,enter", "describe", "describe", priority=False),
            Binding("ctrl+k", "kick", "kick", priority=True),
            Binding("o", "order", "order"),
            Binding("r", "reverse", "reverse"),
            Binding("n", "number", "number"),
            Binding("s", "view", "view"),
            Binding("space", "pause", "pause"),
            Binding("escape", "leave_line", "back", show=False, priority=True),
        ]

        def __init__(self) -> None:
            super().__init__()
            self.paths, self.column, self.limit, self.matching = paths, sort, limit, matching
            self.largest, self.shown, self.halted = True, 0, False
            self.seen: Look | None = None
            self.asked = ""

        def compose(self) -> ComposeResult:
            yield Static(id="head")
            yield DataTable(id="table", cursor_type="row", zebra_stripes=True)
            yield Input(id="line")
            yield Static(id="foot")

        def on_mount(self) -> None:
            self.query_one(DataTable).focus()
            self.set_interval(interval, self.again)
            self.again()

        # --- looking ------------------------------------------------------------------------------------------

        def again(self) -> None:
            if not self.halted:
                self.ask_servers()

        @work(thread=True, exclusive=True)
        def ask_servers(self) -> None:
            with contextlib.suppress(NoServerError):  # they are named as silent
                self.paths = find(pid, socket)
            seen = look(
                self.paths, self.seen, sort=self.column, largest=self.largest, limit=self.limit, matching=self.matching
            )
            self.call_from_thread(self.show, seen)

        def show(self, seen: Look) -> None:
            self.seen = seen
            self.query_one("#head", Static).update(Text("\n".join(summary(seen))))
            table: DataTable[Text] = self.query_one(DataTable)
            kept, scrolled = self.chosen_key(), table.scroll_y
            table.clear(columns=True)
            getattr(self, f"fill_{VIEWS[self.shown]}")(table, seen)
            if kept is not None:
                for number, key in enumerate(table.rows):
                    if key.value == kept:
                        table.move_cursor(row=number, animate=False, scroll=False)
                        break
            table.scroll_to(y=scrolled, animate=False)
            self.tell()

        def fill_connections(self, table: DataTable[Text], seen: Look) -> None:
            sorted_by = SORTED.get(self.column, self.column)
            for name in HEADS:
                mark = ("↓" if self.largest else "↑") if name == sorted_by else ""
                table.add_column(Text(name + mark, style="bold" if mark else ""))
            for row in seen.rows:
                key = f"{row['pid']} {row['server']} {row['id']}"
                table.add_row(*(Text(cell) for cell in cells(row)), key=key)

        def fill_closed(self, table: DataTable[Text], seen: Look) -> None:
            table.add_columns("at", "id", "peer", "code", "age", "in", "out", "why")
            for row in seen.closed[: self.limit]:
                peer = row["peer"]
                where = f"{peer[0]}:{peer[1]}" if isinstance(peer, list) else str(peer or "unix")
                at = time.strftime("%H:%M:%S", time.localtime(row["at"]))
                figures = (span(row["age"]), quantity(row["in"]), quantity(row["out"]))
                table.add_row(*(Text(cell) for cell in (at, str(row["id"]), where, row["code"], *figures, row["why"])))

        def fill_stalls(self, table: DataTable[Text], seen: Look) -> None:
            table.add_columns("pid", "stall")
            for each in seen.servers:
                for server in each["servers"]:
                    for stall in reversed(server["stalls"]):
                        table.add_row(Text(str(each["pid"])), Text(stall))

        def tell(self, text: str = "") -> None:
            seen = self.seen
            if not text and seen is not None:
                matching = f" with {self.matching!r}" if self.matching else ""
                text = f"{VIEWS[self.shown]}: {len(seen.rows)} of {seen.total:,}{matching}, by {self.column}"
                if VIEWS[self.shown] == "closed":
                    codes = sorted(seen.counts.items(), key=lambda each: -each[1])
                    text = "closed: " + (", ".join(f"{code} {count:,}" for code, count in codes) or "none")
                text += "  (standing still)" if self.halted else ""
            self.query_one("#foot", Static).update(Text(f"{text}   ? help  q leave"))

        def chosen_key(self) -> str | None:
            table = self.query_one(DataTable)
            if VIEWS[self.shown] != "connections" or not table.row_count:
                return None
            return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

        # --- keys ---------------------------------------------------------------------------------------------

        def action_help(self) -> None:
            self.push_screen(Sheet(HELP))

        def action_order(self) -> None:
            names = [name for name in COLUMNS if name not in ("server", "groups")]
            self.column = names[(names.index(self.column) + 1) % len(names)] if self.column in names else names[0]
            self.again()

        def action_reverse(self) -> None:
            self.largest = not self.largest
            self.again()

        def action_number(self) -> None:
            steps = (20, 50, 200, 1000)
            self.limit = next((step for step in steps if step > self.limit), steps[0])
            self.again()

        def action_view(self) -> None:
            self.shown = (self.shown + 1) % len(VIEWS)
            if self.seen is not None:
                self.show(self.seen)

        def action_pause(self) -> None:
            self.halted = not self.halted
            self.tell()
            self.again()

        def action_describe(self) -> None:
            if (key := self.chosen_key()) is not None:
                self.push_screen(Sheet(self.described(key)))

        def on_data_table_row_selected(self) -> None:
            self.action_describe()

        def described(self, key: str) -> str:
            path, server, number = self.whose(key)
            try:
                found = ask(path, "describe", id=number, server=server)["connection"]
            except Exception as error:  # noqa: BLE001 - it may have gone, with its server
                return str(error)
            kernel = found.pop("tcp_info")
            explained = found.pop("explain")
            return "\n".join([explained, "", *_in_two(found), "", "TCP_INFO, times in seconds", *_in_two(kernel)])

        def whose(self, key: str) -> tuple[Path, int, int]:
            process, server, number = key.split(" ")
            path = next((each for each in self.paths if each.stem == process), self.paths[0])
            return path, int(server), int(number)

        def action_kick(self) -> None:
            if (key := self.chosen_key()) is not None:
                self.confirm_kick(key)

        def confirm_kick(self, key: str) -> None:
            path, server, number = self.whose(key)

            def answered(yes: bool | None) -> None:
                if not yes:
                    return self.tell("nobody was kicked")
                try:
                    ask(path, "kick", id=number, server=server)
                except Exception as error:  # noqa: BLE001 - as above
                    return self.tell(str(error))
                self.again()
                return self.tell(f"connection {number} is closed")

            self.push_screen(Sheet(f"Close connection {number}?  y: yes, any other key: no", question=True), answered)

        # --- the line ---------------------------------------------------------------------------------------------

        def action_ask_filter(self) -> None:
            self.open_line("/", self.matching, "part of the peer, the user or a group")

        def action_ask_command(self) -> None:
            self.open_line(":", "", f"a column ({', '.join(COLUMNS)}), kick ID, or q")

        def open_line(self, asked: str, value: str, hint: str) -> None:
            self.asked = asked
            line = self.query_one(Input)
            line.value, line.placeholder, line.border_title = value, hint, asked
            line.display = True
            line.focus()

        def action_leave_line(self) -> None:
            line = self.query_one(Input)
            if line.display:
                line.display = False
                self.query_one(DataTable).focus()
            elif len(self.screen_stack) > 1:
                self.pop_screen()

        def on_input_submitted(self, event: Any) -> None:
            value = event.value.strip()
            self.action_leave_line()
            if self.asked == "/":
                self.matching = value
                self.again()
                return
            match value.split():
                case ["q" | "quit"]:
                    self.exit()
                case ["kick", number] if number.isdigit() and self.seen is not None:
                    rows = [row for row in self.seen.rows if row["id"] == int(number)]
                    if rows:
                        self.confirm_kick(f"{rows[0]['pid']} {rows[0]['server']} {number}")
                    else:
                        self.tell(f"there is no connection {number} here")
                case [name] if name in COLUMNS:
                    self.column = name
                    self.again()
                case []:
                    pass
                case _:
                    self.tell(f"{value!r} is no column and no command")

    return Top()
