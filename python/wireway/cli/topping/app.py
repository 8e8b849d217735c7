"""Owns the view: its keys, and the looks, which are taken in a thread. Keys as in k9s and nats-top."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import DataTable, Input, Static

from wireway.cli.looking import described
from wireway.cli.topping.sheets import Sheet
from wireway.cli.topping.tables import fill
from wireway.cli.topping.words import HELP, STEPS, VIEWS, hint, next_column, parse
from wireway.cli.watching import Look, Looking, summary
from wireway.errors import WirewayError
from wireway.observe.asking import NoServerError, ask, find, pid_of

__all__ = ["Asked", "Top"]

_SAID = 3.0
"""Seconds that what was said stays at the foot."""
_ENDED = 200
"""Ended connections that the view of them asks for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the command line said."""

    pid: int | None
    socket: Path | None
    interval: float
    sort: str
    limit: int
    matching: str


class Top(App[None]):
    """The view."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #foot { text-wrap: nowrap; text-overflow: ellipsis; }
    #head { height: auto; max-height: 5; padding: 0 1; color: $text; background: $boost; }
    #table { height: 1fr; }
    #line { display: none; height: 3; }
    #foot { height: 1; padding: 0 1; color: $text-muted; }
    """
    BINDINGS = [  # noqa: RUF012 - Textual reads it so
        Binding("q", "quit", "leave"),
        Binding("slash", "ask_filter", "filter"),
        Binding("colon", "ask_command", "command"),
        Binding("question_mark", "help", "help"),
        Binding("d", "describe", "describe"),
        Binding("c", "capture", "capture"),
        Binding("ctrl+k", "kick", "kick", priority=True),
        Binding("o", "order(1)", "order"),
        Binding("O", "order(-1)", "order back", key_display="O"),
        Binding("r", "reverse", "reverse"),
        Binding("n", "number", "number"),
        Binding("s", "view", "view"),
        Binding("space", "pause", "pause"),
        Binding("ctrl+c", "quit", "leave", show=False, priority=True),
        Binding("escape", "leave_line", "back", show=False, priority=True),
    ]

    def __init__(self, paths: list[Path], asked: Asked, *, largest: bool) -> None:
        super().__init__()
        self._paths, self._asked_for = paths, asked
        self._column, self._limit, self._matching = asked.sort, asked.limit, asked.matching
        self._largest, self._view, self._halted = largest, VIEWS[0], False
        self._looking, self._looks, self._look_again = Looking(), False, False
        self._seen: Look | None = None
        self._prompt = ""
        self._said_at = -_SAID

    def compose(self) -> ComposeResult:
        """Make the screen."""
        yield Static(id="head")
        yield DataTable(id="table", cursor_type="row", zebra_stripes=True)
        yield Input(id="line")
        yield Static(id="foot")

    def on_mount(self) -> None:
        """Begin."""
        self.query_one(DataTable).focus()
        self.set_interval(self._asked_for.interval, self._again)
        self._again()

    # --- looking ------------------------------------------------------------------------------------------------

    def _again(self, *, now: bool = False) -> None:
        """Look again: one look at a time, however long it takes.

        :param now: a key asks for it, also while it stands still.
        """
        if self._looks:
            self._look_again = self._look_again or now
        elif now or not self._halted:
            self._looks = True
            self._ask_servers()

    @work(thread=True)
    def _ask_servers(self) -> None:
        with contextlib.suppress(NoServerError):  # those that are gone are named as silent
            self._paths = find(self._asked_for.pid, self._asked_for.socket)
        seen = self._looking.look(
            self._paths,
            sort=self._column,
            largest=self._largest,
            limit=self._limit,
            matching=self._matching,
            ended=min(_ENDED, self._limit) if self._view == "closed" else 1,
        )
        with contextlib.suppress(RuntimeError):  # it was left meanwhile
            self.call_from_thread(self._looked, seen)

    def _looked(self, seen: Look) -> None:
        self._looks = False
        self._show(seen)
        if self._look_again:
            self._look_again = False
            self._again(now=True)

    def _show(self, seen: Look) -> None:
        self._seen = seen
        self.query_one("#head", Static).update(Text("\n".join(summary(seen))))
        table: DataTable[Text] = self.query_one(DataTable)
        kept, at, scrolled = self._chosen(), table.cursor_row, (table.scroll_x, table.scroll_y)
        table.clear(columns=True)
        fill(table, self._view, seen, self._column, self._largest, self._limit)
        rows = [key.value for key in table.rows]
        place = rows.index(kept) if kept is not None and kept in rows else min(at, len(rows) - 1)
        if place > 0:
            table.move_cursor(row=place, animate=False, scroll=False)
        table.scroll_to(x=scrolled[0], y=scrolled[1], animate=False)
        self._tell()

    def _tell(self, text: str = "") -> None:
        """Say something at the foot, for a while; nothing: what is shown."""
        if text:
            self._said_at = time.monotonic()
        elif time.monotonic() - self._said_at < _SAID:
            return
        seen = self._seen
        if not text and seen is not None:
            matching = f" with {self._matching!r}" if self._matching else ""
            text = f"{self._view}: {len(seen.rows)} of {seen.total:,}{matching}, by {self._column}"
            if self._view == "closed":
                codes = sorted(seen.counts.items(), key=lambda each: -each[1])
                text = "closed: " + (", ".join(f"{code} {count:,}" for code, count in codes) or "none")
            elif self._view != "connections":
                text = self._view
            text += "  (standing still)" if self._halted else ""
        self.query_one("#foot", Static).update(Text(f"{text}   ? help  q leave"))

    def _chosen(self) -> str | None:
        table = self.query_one(DataTable)
        if self._view != "connections" or not table.row_count:
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    # --- keys ---------------------------------------------------------------------------------------------------

    def action_help(self) -> None:
        """The key ?."""
        self.push_screen(Sheet(HELP))

    def action_order(self, step: int) -> None:
        """The keys o and O."""
        self._column = next_column(self._column, step)
        self._again(now=True)

    def action_reverse(self) -> None:
        """The key r."""
        self._largest = not self._largest
        self._again(now=True)

    def action_number(self) -> None:
        """The key n."""
        self._limit = next((step for step in STEPS if step > self._limit), STEPS[0])
        self._again(now=True)

    def action_view(self) -> None:
        """The key s."""
        self._turn_to(VIEWS[(VIEWS.index(self._view) + 1) % len(VIEWS)])

    def _turn_to(self, view: str) -> None:
        self._view = view
        if self._seen is not None:
            self._show(self._seen)
        self._again(now=True)

    def action_pause(self) -> None:
        """The space bar."""
        self._halted = not self._halted
        self._said_at = -_SAID
        self._tell()
        self._again()

    def action_describe(self) -> None:
        """The key d."""
        self._describe(self._chosen())

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click."""
        self.action_describe()

    def _describe(self, key: str | None) -> None:
        if key is None:
            return

        def text(capture: bool) -> str:
            if capture:
                self._capture(key)
            return self._described(key)

        self.push_screen(Sheet(self._described(key), again=text))

    def _described(self, key: str) -> str:
        path, server, number = self._whose(key)
        try:
            return described(ask(path, "describe", id=number, server=server), pid_of(path)) + "\n\nr again  c capture"
        except (WirewayError, OSError) as error:
            return str(error)

    def action_capture(self) -> None:
        """The key c."""
        key = self._chosen()
        if key is not None:
            self._tell(self._capture(key))

    def _capture(self, key: str) -> str:
        path, server, number = self._whose(key)
        try:
            now = ask(path, "describe", id=number, server=server)["connection"]["messages"]
            ask(path, "capture", id=number, server=server, on=now is None)
        except (WirewayError, OSError) as error:
            return str(error)
        return f"connection {number}: {'its last messages are kept: d' if now is None else 'no longer captured'}"

    def _capture_all(self, on: bool) -> str:
        count = 0
        for path in self._paths:
            with contextlib.suppress(WirewayError, OSError):
                count += ask(path, "capture", on=on)["capturing"]
        return (
            f"the last messages of {count:,} connections, and of those to come, are kept"
            if on
            else "nothing is captured"
        )

    def action_kick(self) -> None:
        """The key ctrl-k."""
        key = self._chosen()
        if key is not None and len(self.screen_stack) == 1:
            self._confirm_kick(key)

    def _confirm_kick(self, key: str) -> None:
        path, server, number = self._whose(key)
        rows = [] if self._seen is None else self._seen.rows
        peer = next((row["peer"] for row in rows if f"{row['pid']} {row['server']} {row['id']}" == key), "?")

        def answered(yes: bool | None) -> None:
            if not yes:
                return
            try:
                ask(path, "kick", id=number, server=server)
                self._tell(f"connection {number} is closed")
            except (WirewayError, OSError) as error:
                self._tell(str(error))
            self._again(now=True)

        self.push_screen(Sheet(f"Close connection {number} from {peer}?\n\ny: yes   any other key: no", True), answered)

    def _whose(self, key: str) -> tuple[Path, int, int]:
        pid, server, number = (int(word) for word in key.split())
        path = next((path for path in self._paths if pid_of(path) == pid), self._paths[0])
        return path, server, number

    # --- the line -----------------------------------------------------------------------------------------------

    def action_ask_filter(self) -> None:
        """The key /."""
        self._open_line("/", self._matching, "part of the peer, the user or a group")

    def action_ask_command(self) -> None:
        """The key :."""
        self._open_line(":", "", hint())

    def _open_line(self, prompt: str, value: str, text: str) -> None:
        self._prompt = prompt
        line = self.query_one(Input)
        line.value, line.placeholder, line.border_title = value, text, prompt
        line.display = True
        line.focus()

    def action_leave_line(self) -> None:
        """The escape key."""
        line = self.query_one(Input)
        if line.display:
            line.display = False
            self.query_one(DataTable).focus()
        elif len(self.screen_stack) > 1:
            self.pop_screen()

    def on_input_submitted(self, event: Any) -> None:
        """Something was typed into the line."""
        self.action_leave_line()
        if self._prompt == "/":
            self._matching = event.value.strip()
            self._again(now=True)
            return
        said = parse(event.value)
        self._said_at = -_SAID
        match said.word:
            case "quit":
                self.exit()
            case "sort":
                self._column = said.value
                self._again(now=True)
            case "number":
                self._limit = int(said.value)
                self._again(now=True)
            case "view":
                self._turn_to(said.value)
            case "capture" if said.value in ("on", "off"):
                self._tell(self._capture_all(said.value == "on"))
            case "kick" | "describe" | "capture":
                self._with_number(said.word, int(said.value))
        if said.error:
            self._tell(said.error)

    def _with_number(self, word: str, number: int) -> None:
        """Do something with the connection of that number, whether it is shown or not."""
        having = []
        for path in self._paths:
            with contextlib.suppress(WirewayError, OSError):
                found = ask(path, "describe", id=number)["connection"]
                having.append(f"{pid_of(path)} {found['server']} {number}")
        if len(having) != 1:
            what = "several servers have" if having else "there is no"
            self._tell(f"{what} connection {number}")
        elif word == "kick":
            self._confirm_kick(having[0])
        elif word == "describe":
            self._describe(having[0])
        else:
            self._tell(self._capture(having[0]))
