"""`wireway serve`: run a service, or what a configuration file says, until Ctrl-C or SIGTERM.

Owns the list of services, which are found by entry points. `chat` and `web` have commands of their own making, others
have one made of what they tell of themselves (`offering.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from wireway.cli.failing import Exit, Failure, for_people, one_line
from wireway.cli.logs import LogStyle
from wireway.cli.offering import command_of
from wireway.cli.serve_chat import chat
from wireway.cli.serve_web import web
from wireway.configuration.mistakes import guess
from wireway.services import BrokenServiceError, find_services

__all__ = ["serve"]


class _Commands(MutableMapping[str, Any]):
    """The commands by name: those that were given, and one for each service, which is loaded when it is asked for."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._made = given
        self._found = find_services()

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _command(self._found[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._found, *self._made]))

    def __len__(self) -> int:
        return len(list(iter(self)))


class Services(TyperGroup):
    """The group of services."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.commands = _Commands(dict(self.commands))

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of `find_services`."""
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Which service is meant; of none, what is near."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            names = list(self.commands)
            ctx.fail(f"there is no service {args[0]!r}, there are {', '.join(names)}{guess(args[0], names)}")
        return super().resolve_command(ctx, args)


def _command(found: Any) -> Any:
    """The command of a service; of one that can not be loaded a command that says so."""
    try:
        return typer.main.get_command(command_of(found))
    except BrokenServiceError as error:
        text = one_line(error)
        app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
        settings = {"allow_extra_args": True, "ignore_unknown_options": True}

        @app.command(found.name, help=f"Broken: {text}", context_settings=settings)
        def broken() -> None:
            with for_people():
                raise Failure(text, Exit.CONFIG)

        return typer.main.get_command(app)


serve = typer.Typer(
    name="serve",
    cls=Services,
    no_args_is_help=True,
    help="Run a server until Ctrl-C or SIGTERM; drain at the end.",
)
Config = Annotated[
    Path | None, typer.Option(help="Serve what this file says: any number of listeners.", metavar="FILE")
]
Reload = Annotated[bool, typer.Option("--reload", help="With --config: start anew when a file changes.")]
Log = Annotated[LogStyle | None, typer.Option(help="With --config: another style than that of the file.")]
Backend = Annotated[
    str | None, typer.Option(help="With --config: another back end than that of the file.", metavar="NAME")
]


@serve.callback(invoke_without_command=True)
def every(
    context: typer.Context, config: Config = None, log: Log = None, backend: Backend = None, reload: Reload = False
) -> None:
    """Run a server until Ctrl-C or SIGTERM; open connections are drained."""
    service = context.invoked_subcommand
    with for_people():
        if config is not None and service is not None:
            raise Failure(f"--config and the service {service}: give one of them", Exit.USAGE)
        if config is None and (log is not None or backend is not None or reload):
            raise Failure(
                f"write the options behind the service: wireway serve {service or 'echo'} --log json", Exit.USAGE
            )
        if config is None and service is None:
            raise Failure("give a service, or --config FILE: wireway serve --help lists them", Exit.USAGE)
    if config is not None:
        from wireway.cli.serve_config import serve_config

        serve_config(config, log, backend, reload)


serve.command()(chat)
serve.command()(web)
