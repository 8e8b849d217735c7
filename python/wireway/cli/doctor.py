"""`wireway doctor`: what of this machine will limit a server, and the command that changes it.

Owns how the findings are shown. Exit status 0: nothing is in the way; 1: something is; 2: the command line is wrong.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wireway.cli.failing import Exit
from wireway.observe.machine import Finding, Machine, examine, summary
from wireway.observe.strain import strain

__all__ = ["doctor"]

_WIDE = 110
"""Columns of a terminal in which a table is read better than a list."""
_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "limit": ("LIMIT", "bold red")}


def doctor(
    connections: Annotated[
        int, typer.Option("--for", min=1, max=100_000_000, metavar="N", help="Plan for so many connections.")
    ] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Say what of this machine will limit a server, and how to change it. Changes nothing."""
    machine = Machine()
    findings = [*examine(machine, connections), *strain(machine, connections)]
    limits = [each for each in findings if each.state == "limit"]
    if as_json:
        typer.echo(json.dumps({"connections": connections, **summary(findings)}, indent=2))
    else:
        _print(findings, connections)
    raise typer.Exit(Exit.NO if limits else Exit.OK)


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "what", "now", "what that means"):
        table.add_column(name, overflow="fold")
    for each in findings:
        mark, style = _MARKS[each.state]
        table.add_row(Text(mark, style=style), each.name, each.value, each.effect)
    return table


def _list(findings: list[Finding]) -> Table:
    """The same for a narrow terminal: what it means stands below what it is."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for each in findings:
        mark, style = _MARKS[each.state]
        table.add_row(Text(mark, style=style), Text.assemble((each.name, "bold"), f": {each.value}\n{each.effect}"))
    return table


def _print(findings: list[Finding], connections: int) -> None:
    console = Console(highlight=False, soft_wrap=False)
    console.print(f"For {connections:,} connections on this machine:\n")
    console.print(_table(findings) if console.width >= _WIDE else _list(findings))
    changes = [each for each in findings if each.remedy]
    if changes:
        console.print("\nWhat changes it (those of sysctl as root; write them to /etc/sysctl.d/ to keep them):\n")
        for each in changes:
            console.print(Text(f"  {each.remedy}"), soft_wrap=True)
    limits = sum(each.state == "limit" for each in findings)
    verdict = "Nothing is in the way." if not limits else f"{limits} of these will be in the way."
    console.print(f"\n{verdict}")
