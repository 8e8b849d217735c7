"""What every `wireway serve X` has in common: its options, and how it is run.

Owns what a person sees of a running server. Knows no service.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import wireway
from wireway.cli import logs
from wireway.cli.accompanying import Company
from wireway.cli.announcing import Listens, announce, stopped
from wireway.cli.failing import Exit, Failure, for_people
from wireway.cli.logs import LogStyle
from wireway.cli.reloading import run_again_and_again
from wireway.serve.spawning import VARIABLE

__all__ = [
    "Backend",
    "Cert",
    "Host",
    "Key",
    "Log",
    "LogStyle",
    "Metrics",
    "Port",
    "Reload",
    "Running",
    "Unix",
    "Workers",
    "address",
    "near",
    "readable",
    "tls_of",
]

Host = Annotated[str, typer.Option(help="Address or name to listen on; 0.0.0.0 for all, * for IPv6 as well.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Unix = Annotated[Path | None, typer.Option(help="Listen on this socket file instead of host and port.")]
Backend = Annotated[str, typer.Option(help="auto, io_uring, epoll, poll, select or sigio.", metavar="NAME")]
Workers = Annotated[str, typer.Option(help="Processes that share the port: a number, or auto for one on each core.")]
Cert = Annotated[
    Path | None, typer.Option(readable=False, help="Serve TLS with this certificate (PEM, with its chain).")
]
Key = Annotated[Path | None, typer.Option(readable=False, help="The certificate's key, if it is not in the same file.")]
Metrics = Annotated[
    str | None,
    typer.Option(help="Metrics and health at this address, or port: tcp://127.0.0.1:9100.", metavar="ADDRESS"),
]
Reload = Annotated[bool, typer.Option("--reload", help="Start anew when a .py or .toml file changes. For development.")]


_WORKER: dict[str, int] | None = json.loads(os.environ.get(VARIABLE, "null"))
"""Which worker this process is, if it is one. Read here, since the worker removes it at its start."""


Log = Annotated[LogStyle, typer.Option(help="Log lines for people, or one JSON object each.")]


def address(host: str, port: int, unix: Path | None, cert: Path | None = None) -> str:
    """The URL to listen on."""
    if unix is not None:
        return f"unix://{unix.absolute()}"
    return f"{'tcp' if cert is None else 'tls'}://{f'[{host}]' if ':' in host else host}:{port}"


def tls_of(cert: Path | None, key: Path | None) -> wireway.Tls | None:
    """What `--cert` and `--key` say."""
    for file in (cert, key):
        if file is not None:
            readable(file, "the file of the certificate, or of its key")
    if cert is None:
        if key is not None:
            raise Failure("--key is of no use without --cert: give the certificate too", Exit.USAGE)
        return None
    tls = wireway.Tls(cert=cert, key=cert if key is None else key)
    try:
        tls.make_server()
    except wireway.ConfigError as error:
        files = f"{cert}" if key is None else f"{cert}, {key}"
        raise Failure(f"{files}: {str(error).removeprefix('Tls: ')}", Exit.USAGE) from None
    return tls


def readable(path: Path, what: str) -> None:
    """Refuse what is not there, or can not be read.

    :raises Failure: that is so.
    """
    # Not `Path.exists`, which calls what may not be looked at an error, and not there what is behind a file.
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Failure(f"{path} is not there: give {what}", Exit.MISSING) from None
    except PermissionError:
        pass
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise Failure(f"{path} may not be read by this user: change its mode, or run as its owner", Exit.PERMISSION)


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """How a server is run, and what is said of it."""

    what: str
    """Which service, in a few words."""
    backend: str = "auto"
    workers: str = "1"
    log: LogStyle = LogStyle.HUMAN
    reload: bool = False
    metrics: str | None = None
    """Where metrics and health are told; None: nowhere."""
    registry: Any = None
    """Metrics of the service: a registry of prometheus_client."""
    watched: Sequence[Path] = ()
    """Folders and files that `reload` looks at; the current folder if there are none."""

    def begin(self) -> None:
        """Set the log up; under `--reload` run the command in a child, and never return."""
        logs.set_up(self.log)
        if self.reload:
            raise typer.Exit(run_again_and_again(list(self.watched) or [Path.cwd()]))

    def serve(
        self,
        server: wireway.Server,
        try_it: str | Callable[[str], str],
        more: Callable[[], dict[str, str]] = dict,
        others: Callable[[], Sequence[wireway.Server]] = tuple,
    ) -> None:
        """Serve until Ctrl-C or SIGTERM.

        :param try_it: a shell line that shows that it works; ``{address}``, ``{host}`` and ``{port}`` are filled in. Or
            what makes one of the first address.
        :param others: servers that run with it, asked for once it listens: the control socket tells of them too.
        :param more: further lines of the start, asked for once it listens.
        """
        workers = _workers(self.workers)
        tasks: list[asyncio.Task[None]] = []
        company = Company(self.what, self.metrics, registry=self.registry, is_worker=_WORKER is not None)

        def started(running: wireway.Server) -> None:
            self._announce(running, try_it, more(), company.lines)
            tasks.append(asyncio.ensure_future(company.run([running, *others()])))

        with for_people():
            try:
                company.open()
                server.run(backend=self.backend, workers=workers, on_started=started)
            finally:
                company.close()
        if _WORKER is None:
            stopped()

    def _announce(
        self,
        server: wireway.Server,
        try_it: str | Callable[[str], str],
        more: Mapping[str, str],
        beside: Mapping[str, str],
    ) -> None:
        """Say what runs. Of several workers the first does."""
        if _WORKER is not None and (_WORKER["number"], _WORKER["generation"]) != (1, 1):
            return
        place = near(server.addresses[0])
        host, _, port = place.partition("://")[2].rpartition(":")
        line = try_it(place) if callable(try_it) else try_it.format(address=place, host=host, port=port)
        lines = {**more, **({"try it": line} if line else {})}
        listens = Listens(what=self.what, server=server, workers=_workers(self.workers) or 1, more=lines)
        announce(self.what, [listens], beside)


def near(address: str) -> str:
    """An address of this machine by which one that stands for all of them is reached."""
    scheme, _, place = address.partition("://")
    host, colon, port = place.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    return f"{scheme}://{host}{colon}{port}"


def _workers(text: str) -> int | Literal["auto"] | None:
    if text == "auto":
        return "auto"
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is neither a number from 1 up nor auto", param_hint="--workers")
    return int(text) if int(text) > 1 else None
