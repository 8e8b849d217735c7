"""`wireway config`: check, show, describe and begin a configuration file."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from wireway.cli.failing import Exit, Failure, for_people

__all__ = ["config"]

config = typer.Typer(name="config", no_args_is_help=True, help="Check, show and describe a configuration file.")

File = Annotated[Path, typer.Argument(help="The file, in TOML.", metavar="[FILE]", show_default="wireway.toml")]
_DEFAULT = Path("wireway.toml")


@config.callback()
def every() -> None:
    """Check, show and describe the file that `wireway serve --config` takes."""


@config.command()
def check(file: File = _DEFAULT) -> None:
    """Say what is wrong in a file, each mistake with its line; or that all is well. Nothing is served."""
    from wireway.configuration import load
    from wireway.configuration.making import check_all

    with for_people():
        read = load(_there(file))
        check_all(read)
    listeners = read.configuration.listeners
    typer.echo(f"{file}: OK, {len(listeners)} listener{'s' if len(listeners) > 1 else ''}")
    for each in listeners:
        workers = f", {each.workers} workers" if each.workers != 1 else ""
        what = each.service if each.name == each.service else f"{each.name} ({each.service})"
        typer.echo(f"  {what}: {', '.join(each.address)}{workers}")


@config.command()
def show(
    file: File = _DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Print the effective configuration, with every default, as a file that can be given back. Passwords are hidden."""
    from wireway.configuration import load
    from wireway.configuration.showing import as_tables, as_toml

    with for_people():
        read = load(_there(file))
    text = json.dumps(as_tables(read), indent=2, ensure_ascii=False) if as_json else as_toml(read).rstrip("\n")
    typer.echo(text)


@config.command()
def schema() -> None:
    """Print the JSON Schema of a file, for editors: every option, with its text, its unit, its default."""
    from wireway.configuration import schema as make

    with for_people():
        typer.echo(json.dumps(make(), indent=2, ensure_ascii=False))


@config.command()
def init(file: File = _DEFAULT) -> None:
    """Write a file to begin with, if there is none."""
    text = files("wireway.configuration").joinpath("example.toml").read_text()
    with for_people():
        try:
            with file.open("x") as new:
                new.write(text)
        except FileExistsError:
            raise Failure(f"{file} is there already: nothing was written", Exit.NO) from None
    typer.echo(f"{file} was written; start it with: wireway serve --config {file}")


def _there(file: Path) -> Path:
    if not file.exists():
        raise Failure(f"{file} is not there: give a file, or write one with: wireway config init {file}", Exit.MISSING)
    if file.is_dir():
        raise Failure(f"{file} is a folder: give the file", Exit.USAGE)
    return file
