"""The command's reference, read from the Typer app itself: what `--help` knows, as Markdown.

Owns how a command looks on the page. `docs/reference/command.md` holds the headings and the remarks of people, and a
place `<!-- command: serve echo -->` for each command. What has no place comes last, so nothing is left out.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer
from places import filled, place
from typer.main import get_command

from wireway.cli import failing
from wireway.cli.command import app

__all__ = ["Command", "commands", "exit_statuses", "fill"]

EXTRA = re.compile(r"(?s)(.*?)\s*\[([^\[\]]*(?:\[[^\]]*\][^\[\]]*)*)\]")
"""What Typer's help of an option ends with: `[default: 9000; 0<=x<=65535]`."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command, by the words that follow `wireway`; none is the command itself."""

    words: str
    command: Any
    context: Any

    @property
    def title(self) -> str:
        """What is typed."""
        return f"wireway {self.words}".strip()


def commands() -> Iterator[Command]:
    """Every command that is not hidden, each group before what is in it."""

    def below(words: str, command: Any, parent: Any) -> Iterator[Command]:
        context = typer.Context(command, info_name=words.rpartition(" ")[2] or "wireway", parent=parent)
        yield Command(words, command, context)
        for name, child in getattr(command, "commands", {}).items():
            if not child.hidden:
                yield from below(f"{words} {name}".strip(), child, context)

    yield from below("", get_command(app), None)


def fill(page: str) -> str:
    """The page, with every command in its place."""
    found = {each.words: each for each in commands()}
    for words, each in found.items():
        if place("command", words) not in page:
            page = f"{page.rstrip()}\n\n## {each.title}\n\n{place('command', words)}\n<!-- end -->\n"

    def written(words: str) -> str:
        if words not in found:
            raise ValueError(f"there is a place for `wireway {words}`, and no such command: remove it")
        return describe(found[words])

    return filled(filled(page, "command", written), "exit statuses", lambda _: exit_statuses())


def describe(shown: Command) -> str:
    """Synopsis, help, arguments, options and what is below it."""
    synopsis = " ".join([shown.title, *shown.command.collect_usage_pieces(shown.context)])
    parts = [inspect.cleandoc(shown.command.help or "").partition("\f")[0].strip(), f"```text\n{synopsis}\n```"]
    children = [(name, child) for name, child in getattr(shown.command, "commands", {}).items() if not child.hidden]
    if children:
        rows = [
            f"| [`{title}`](#{title.replace(' ', '-')}) | {child.get_short_help_str(200)} |"
            for title, child in ((f"{shown.title} {name}", child) for name, child in children)
        ]
        parts.append("\n".join(["| command | |", "|---|---|", *rows]))
    arguments, options = [], []
    for parameter in shown.command.params:
        record = parameter.get_help_record(shown.context)
        if record is None:
            continue
        (arguments if parameter.param_type_name == "argument" else options).append(row(*record))
    if arguments:
        parts.append("\n".join(["| argument | unless told | |", "|---|---|---|", *arguments]))
    if options:
        parts.append("\n".join(["| option | unless told | |", "|---|---|---|", *options]))
    return "\n\n".join(part for part in parts if part)


def row(names: str, help_text: str) -> str:
    """One line of the table: names, what holds unless told, what it does and what is allowed."""
    default, notes = "", []
    if extra := EXTRA.fullmatch(help_text):
        help_text = extra[1]
        for note in extra[2].split("; "):
            key, colon, value = note.partition(": ")
            if colon and key == "default":
                default = f"`{value}`"
            elif note == "required":
                default = "required"
            else:
                notes.append(allowed(note))
    words = " ".join(help_text.split())
    said = " ".join([words, *(f"({note})" for note in notes)]).strip()
    shown = ", ".join(f"`{cell(name)}`" for name in names.replace(" range>", ">").split(", "))
    return f"| {shown} | {cell(default)} | {cell(said).replace('*', '&#42;')} |"


def allowed(note: str) -> str:
    """`1<=x<=10`, as people say it."""
    if found := re.fullmatch(r"(\S+)<=x<=(\S+)", note):
        return f"{number(found[1])} to {number(found[2])}"
    if found := re.fullmatch(r"x(>=|<=)(\S+)", note):
        return f"at {'least' if found[1] == '>=' else 'most'} {number(found[2])}"
    return f"`{note}`"


def number(text: str) -> str:
    """A number with its thousands."""
    return f"{int(text):,}" if text.isdigit() else text


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("|", "\\|")


def exit_statuses() -> str:
    """The exit statuses of all commands, each with the words beside it in `failing.py`."""
    (statuses,) = (
        node
        for node in ast.parse(inspect.getsource(failing)).body
        if isinstance(node, ast.ClassDef) and node.name == "Exit"
    )
    rows = ["| exit status | |", "|---|---|"]
    for status, said in zip(statuses.body, statuses.body[1:], strict=False):
        if isinstance(status, ast.Assign) and isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant):
            rows.append(f"| {ast.literal_eval(status.value)} | {said.value.value} |")
    rows += ["| 130 | Ctrl-C. |", "| 141 | Nobody reads any more what it prints, as before `head`. |"]
    return "\n".join(rows)
