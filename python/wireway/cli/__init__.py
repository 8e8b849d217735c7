"""The command `wireway`: one file for each subcommand. Stands on the public API."""

from wireway.cli.command import main

__all__ = ["main"]
