"""Owns the words of the view: the help, and what can be typed after a colon. Knows no terminal."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from wireway.cli.looking import HEADS
from wireway.observe.table import COLUMNS

__all__ = ["HELP", "STEPS", "VIEWS", "Command", "hint", "next_column", "parse"]

VIEWS = ("connections", "closed", "stalls", "servers")
STEPS = (20, 50, 200, 1000)
"""Rows, by the key n."""
HELP = """\
  q          leave
  /          show only what has this in peer, user or group; empty: all
  :          a column to sort by (:queued, :rtt, :msg in), or
             :kick ID, :d ID, :capture on|off|ID, :n 200, a view, :q
  o, O       sort by the next column, by the one before
  r          the other way round
  n          how many rows: 20, 50, 200, 1000
  s          connections, closed connections, stalls, servers
  d, enter   describe the connection: TCP_INFO, what holds it up, its
             last messages if they are captured
  c          capture its last messages, or no more
  ctrl-k     close the connection, after asking
  space      stand still, go on
  ?          this"""


@dataclass(frozen=True, slots=True)
class Command:
    """What was typed: sort, kick, describe, capture, number, view, quit, or nothing, and then `error` may say why."""

    word: str
    value: str = ""
    error: str = ""


def parse(text: str) -> Command:
    """Read what was typed after a colon."""
    words = text.strip().lower().split()
    match words:
        case []:
            return Command("nothing")
        case ["q" | "quit" | "q!"]:
            return Command("quit")
        case ["kick" | "k", number] if number.isdigit():
            return Command("kick", number)
        case ["d" | "describe", number] if number.isdigit():
            return Command("describe", number)
        case ["capture" | "c", value] if value.isdigit() or value in ("on", "off"):
            return Command("capture", value)
        case ["n", number] if number.isdigit() and 1 <= int(number) <= STEPS[-1]:
            return Command("number", number)
        case [view] if view in VIEWS:
            return Command("view", view)
        case _:
            pass
    name = column_of(" ".join(words))
    if name is not None:
        return Command("sort", name)
    near = difflib.get_close_matches(words[0], [*COLUMNS, *VIEWS, "kick", "describe", "capture", "quit"], 1)
    guess = f"; did you mean {near[0]}?" if near else ": ? shows what there is"
    return Command("nothing", error=f"{text.strip()!r} is no column and no command{guess}")


def column_of(text: str) -> str | None:
    """The column of that name, or of that head."""
    if text in COLUMNS:
        return text
    return next((name for name, (head, _) in HEADS.items() if head == text and name in COLUMNS), None)


def next_column(now: str, step: int) -> str:
    """The column after this one, or before it."""
    names = [name for name in HEADS if name in COLUMNS]
    return names[(names.index(now) + step) % len(names)]


def hint() -> str:
    """What can be typed, in a line."""
    return "a column (" + ", ".join(name for name in HEADS if name in COLUMNS) + "), kick ID, capture on, n 200, q"
