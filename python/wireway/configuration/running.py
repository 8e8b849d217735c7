"""`serve_file`: what `wireway serve --config` does: a supervisor of the file's plan, or one of its workers.

Owns the way from a file to a plan and to the servers of a worker. What people see of it is the command's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import wireway
from wireway.configuration.document import Document
from wireway.configuration.making import listener_of, make_servers
from wireway.configuration.reading import ReadConfiguration, read_configuration
from wireway.configuration.shape import ListenerTable
from wireway.net.runnable import Follower, Runnable
from wireway.serve.halls import Place, Plan
from wireway.serve.running import run_plan
from wireway.serve.spawning import Assignment
from wireway.serve.worker import run_worker

__all__ = ["Made", "plan_of", "serve_file", "workers_of"]


@dataclass(frozen=True, slots=True)
class Made:
    """One listener in this process."""

    number: int
    """Its place in the file, from 0."""
    table: ListenerTable
    servers: Sequence[wireway.Server]
    """That of its addresses, then those of what its service has more."""


def workers_of(table: ListenerTable) -> int:
    """How many processes serve it."""
    return len(os.sched_getaffinity(0)) if table.workers == "auto" else int(table.workers)


def plan_of(read: ReadConfiguration, text: bytes) -> Plan:
    """What a supervisor must know of a configuration.

    :raises ConfigurationError: its certificates can not be used, or what a service has more is wrong.
    """
    places = []
    for number, (table, service) in enumerate(zip(read.configuration.listeners, read.services, strict=True)):
        listener = listener_of(read, number)
        kind = f"{table.service} {table.framing!r}"
        workers = workers_of(table)
        places.append(Place(name=table.name, addresses=table.address, socket=table.socket, workers=workers, kind=kind))
        for name, address in ({} if service.more is None else service.more(listener, table.options)).items():
            more = f"{table.name}/{name}"
            places.append(Place(name=more, addresses=(address,), socket=table.socket, workers=workers, kind=kind))
    return Plan(places=tuple(places), drain_timeout=read.configuration.drain_timeout, text=text)


def serve_file(
    path: Path,
    *,
    begun: Callable[[ReadConfiguration, Assignment | None], None],
    started: Callable[[ReadConfiguration, Sequence[Made]], None],
    status_of: Callable[[BaseException], int],
    backend: str | None = None,
) -> None:
    """Serve what a file says until SIGINT or SIGTERM. SIGHUP reads it again, and replaces the workers one by one.

    :param begun: called once it was read, in the supervisor and in each worker, before anything is opened.
    :param started: called in each worker once it serves.
    :param status_of: the exit status of an error with which a worker does not start.
    :param backend: another than that of the file.
    :raises ConfigurationError: the file is wrong.
    :raises StartError: the workers do not start.
    :raises OSError: an address can not be listened on, or the file not be read.
    """
    assignment = Assignment.of_environment()
    if assignment is not None:
        _work(path, assignment, begun, started, status_of, backend)
        return
    first = path.read_bytes()
    begun(_read(first, path), None)

    def plan() -> Plan:
        text = path.read_bytes()
        return plan_of(_read(text, path), text)

    run_plan(plan)


def _read(text: bytes, path: Path) -> ReadConfiguration:
    return read_configuration(Document.of(text, str(path), path.absolute().parent))


def _work(
    path: Path,
    assignment: Assignment,
    begun: Callable[[ReadConfiguration, Assignment | None], None],
    started: Callable[[ReadConfiguration, Sequence[Made]], None],
    status_of: Callable[[BaseException], int],
    backend: str | None,
) -> None:
    try:
        read = _read(assignment.read_text(), path)
        begun(read, assignment)
        made = [
            Made(number, table, make_servers(read, number))
            for number, table in enumerate(read.configuration.listeners)
            if workers_of(table) >= assignment.number
        ]
        seats = iter(assignment.seats)
        servers: dict[str, Runnable] = {}
        for each in made:
            first, *others = each.servers
            for one in (Runnable(first), *map(Follower, others)):
                servers[next(seats).name] = one
    except (wireway.WirewayError, OSError) as error:
        assignment.fail(str(error), status_of(error))
        raise SystemExit(1) from None
    name = read.configuration.backend if backend is None else backend
    run_worker(assignment, servers, name, None, lambda: started(read, made), status_of)
