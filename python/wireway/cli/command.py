"""The command itself: its name, its version, and the list of its subcommands."""

from __future__ import annotations

import click

import wireway
from wireway.cli.doctor import doctor
from wireway.cli.serve import serve

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(wireway.__version__, prog_name="wireway", message="%(prog)s %(version)s")
def main() -> None:
    """Asynchronous TCP for Python on Linux."""


main.add_command(serve)
main.add_command(doctor)
