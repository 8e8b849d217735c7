"""The command itself: its name, its version, and the list of its subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

import wireway
from wireway.cli.bench import bench
from wireway.cli.config import config
from wireway.cli.connect import connect
from wireway.cli.doctor import doctor
from wireway.cli.ending import closed, kick
from wireway.cli.failing import PlainGroup
from wireway.cli.ls import capture, ls
from wireway.cli.serve import serve
from wireway.cli.top import top
from wireway.cli.trace import trace

__all__ = ["app", "main"]

# Rich's boxes are left out: an error is one line, also in a log.
app = typer.Typer(
    name="wireway",
    cls=PlainGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wireway {wireway.__version__}")
        raise typer.Exit


@app.callback()
def wireway_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Asynchronous TCP for Python on Linux."""


app.add_typer(serve)
app.add_typer(config)
app.command()(connect)
app.command()(bench)
app.command()(top)
app.command()(ls)
app.command()(kick)
app.command()(closed)
app.command()(trace)
app.command()(capture)
app.command()(doctor)


def main() -> None:
    """Run the command, as `wireway` and `python -m wireway` do."""
    app(prog_name="wireway")
