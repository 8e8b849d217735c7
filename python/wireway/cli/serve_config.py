"""`wireway serve --config`: any number of listeners from a file, under one supervisor.

Owns what people and programs see of it. Running it is `configuration/running.py`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import typer

import wireway
from wireway.cli import logs
from wireway.cli.accompanying import Company
from wireway.cli.announcing import Listens, announce, stopped
from wireway.cli.failing import Exit, Failure, for_people, status_of
from wireway.cli.logs import LogStyle
from wireway.cli.reloading import run_again_and_again
from wireway.cli.serving import near
from wireway.configuration import ReadConfiguration, load
from wireway.configuration.making import listener_of
from wireway.configuration.running import Made, serve_file, workers_of
from wireway.serve.spawning import Assignment

__all__ = ["serve_config"]


def serve_config(path: Path, log: LogStyle | None, backend: str | None, reload: bool) -> None:
    """Serve what the file says until Ctrl-C or SIGTERM."""
    logs.set_up(log or _style_of(path))
    with for_people():
        if not path.exists():
            raise Failure(
                f"{path} is not there: give a file, or write one with: wireway config init {path}", Exit.MISSING
            )
        if path.is_dir():
            raise Failure(f"{path} is a folder: give the file", Exit.USAGE)
    if reload:
        raise typer.Exit(run_again_and_again(_watched(path)))
    seat = _Seat(log)
    with for_people():
        try:
            serve_file(path, begun=seat.begun, started=seat.started, status_of=status_of, backend=backend)
        finally:
            seat.close()
    if seat.assignment is None:
        stopped()


def _style_of(path: Path) -> LogStyle:
    """How the file asks for logs, also where all else in it is wrong: its mistakes are told so."""
    with contextlib.suppress(OSError, ValueError):
        table = tomllib.loads(path.read_text()).get("log")
        if isinstance(table, dict):
            return LogStyle(table.get("style", "human"))
    return LogStyle.HUMAN


class _Seat:
    """This process: the supervisor, or one of its workers."""

    def __init__(self, log: LogStyle | None) -> None:
        self._log = log
        self.assignment: Assignment | None = None
        self._company: Company | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def begun(self, read: ReadConfiguration, assignment: Assignment | None) -> None:
        """The file was read, and nothing is open yet."""
        self.assignment = assignment
        log, control = read.configuration.log, read.configuration.control
        logs.set_up(self._log or LogStyle(log.style), log.level)
        path: Path | Literal[False] | None = control.path if control.enabled else False
        if isinstance(path, Path) and assignment is not None and assignment.number > 1:
            path = path.with_name(f"{path.name}.{assignment.number}")
        address = read.configuration.metrics.address
        # A process that lacks a listener, since that has fewer workers, could not tell of it.
        whole = assignment is None or all(
            workers_of(table) >= assignment.number for table in read.configuration.listeners
        )
        self._company = Company(_title(read), address, is_worker=assignment is not None, is_whole=whole, control=path)
        self._company.open()

    def started(self, read: ReadConfiguration, made: Sequence[Made]) -> None:
        """A worker serves."""
        assert self.assignment is not None
        assert self._company is not None
        if (self.assignment.number, self.assignment.generation) == (1, 1):
            announce(_title(read), [_listens(read, each) for each in made], self._company.lines)
        servers = [server for each in made for server in each.servers]
        self._tasks.append(asyncio.ensure_future(self._company.run(servers)))

    def close(self) -> None:
        """It has ended."""
        if self._company is not None:
            self._company.close()


def _title(read: ReadConfiguration) -> str:
    names = [each.name for each in read.configuration.listeners]
    return f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''} ({Path(read.document.file).name})"


def _listens(read: ReadConfiguration, made: Made) -> Listens:
    table, service = made.table, read.services[made.number]
    more: dict[str, Any] = {}
    if service.more is not None:
        names = service.more(listener_of(read, made.number), table.options)
        more = {name: ", ".join(server.addresses) for name, server in zip(names, made.servers[1:], strict=True)}
    if service.try_it is not None:
        more["try it"] = service.try_it(listener_of(read, made.number), near(made.servers[0].addresses[0]))
    what = table.service if table.name == table.service else f"{table.name}, {table.service}"
    return Listens(what=what, server=made.servers[0], workers=workers_of(table), more=more)


def _watched(path: Path) -> list[Path]:
    """The file, the folder where it is run, and what its services look at; of a wrong file those are unknown."""
    found = [path, Path.cwd()]
    with contextlib.suppress(wireway.WirewayError, OSError):
        read = load(path)
        for number, service in enumerate(read.services):
            if service.watched is not None:
                found += service.watched(listener_of(read, number), read.configuration.listeners[number].options)
    return found
