"""What every `wireway serve X` has in common: options, logs, the lines at the start, `--reload`.

Owns what a person sees of a running server. Knows no service.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

import wireway
from wireway.cli.failing import Exit, Failure, for_people
from wireway.net.descriptors import budget
from wireway.observe.control import Control
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
    "tls_of",
]

Host = Annotated[str, typer.Option(help="Address or name to listen on; 0.0.0.0 for all, * for IPv6 as well.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Unix = Annotated[Path | None, typer.Option(help="Listen on this socket file instead of host and port.")]
Backend = Annotated[str, typer.Option(help="auto, io_uring, epoll, poll, select or sigio.", metavar="NAME")]
Workers = Annotated[str, typer.Option(help="Processes that share the port: a number, or auto for one on each core.")]
Cert = Annotated[Path | None, typer.Option(help="Serve TLS with this certificate (PEM, with its chain).")]
Key = Annotated[Path | None, typer.Option(help="The certificate's key, if it is not in the same file.")]
Metrics = Annotated[
    str | None,
    typer.Option(help="Metrics and health at this address, as tcp://127.0.0.1:9100.", metavar="ADDRESS"),
]
Reload = Annotated[bool, typer.Option("--reload", help="Start anew when a .py or .toml file changes. For development.")]


_PATIENCE = 30
"""Seconds that a worker tries to tell metrics where its predecessor still does."""
_WORKER: dict[str, int] | None = json.loads(os.environ.get(VARIABLE, "null"))
"""Which worker this process is, if it is one. Read here, since the worker removes it at its start."""


class LogStyle(StrEnum):
    """How log lines look."""

    HUMAN = "human"
    JSON = "json"


Log = Annotated[LogStyle, typer.Option(help="Log lines for people, or one JSON object each.")]


def address(host: str, port: int, unix: Path | None, cert: Path | None = None) -> str:
    """The URL to listen on."""
    if unix is not None:
        return f"unix://{unix.absolute()}"
    return f"{'tcp' if cert is None else 'tls'}://{f'[{host}]' if ':' in host else host}:{port}"


def tls_of(cert: Path | None, key: Path | None) -> wireway.Tls | None:
    """What `--cert` and `--key` say."""
    for file in (cert, key):
        if file is not None and not file.exists():
            raise Failure(f"{file} is not there: give the file of the certificate, or of its key", Exit.MISSING)
    if cert is None:
        if key is not None:
            raise Failure("--key is of no use without --cert: give the certificate too", Exit.USAGE)
        return None
    return wireway.Tls(cert=cert, key=cert if key is None else key)


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
    watched: Sequence[Path] = ()
    """Folders and files that `reload` looks at; the current folder if there are none."""

    def begin(self) -> None:
        """Set the log up; under `--reload` run the command in a child, and never return."""
        _log(self.log)
        if self.reload:
            _run_again_and_again(list(self.watched) or [Path.cwd()])
            raise typer.Exit(Exit.OK)

    def serve(
        self,
        server: wireway.Server,
        try_it: str,
        more: Callable[[], dict[str, str]] = dict,
        others: Callable[[], Sequence[wireway.Server]] = tuple,
    ) -> None:
        """Serve until Ctrl-C or SIGTERM.

        :param try_it: a shell line that shows that it works; ``{address}``, ``{host}`` and ``{port}`` are filled in.
        :param others: servers that run with it, asked for once it listens: the control socket tells of them too.
        :param more: further lines of the start, asked for once it listens.
        """
        workers = _workers(self.workers)
        company: list[asyncio.Task[None]] = []

        def started(running: wireway.Server) -> None:
            self._announce(running, try_it, more())
            company.append(asyncio.ensure_future(self._accompany([running, *others()])))

        with for_people():
            server.run(backend=self.backend, workers=workers, on_started=started)
        if _WORKER is None:
            typer.echo("stopped")

    async def _accompany(self, servers: Sequence[wireway.Server]) -> None:
        """What runs beside the servers until the loop ends and cancels it."""
        async with contextlib.AsyncExitStack() as company:
            try:
                await company.enter_async_context(Control(servers, self.what))
            except (wireway.WirewayError, OSError) as error:
                logging.getLogger("wireway.control").warning("no control socket: %s", error)
            # Of several workers the first tells of all.
            if self.metrics is not None and (_WORKER is None or _WORKER["number"] == 1):
                await self._measure(company, servers)
            await asyncio.Event().wait()

    async def _measure(self, company: contextlib.AsyncExitStack, servers: Sequence[wireway.Server]) -> None:
        from wireway.observe.endpoint import Metrics

        log = logging.getLogger("wireway.metrics")
        for attempt in range(_PATIENCE):
            try:
                metrics = await company.enter_async_context(Metrics(servers, str(self.metrics)))
            except wireway.AddressInUseError as error:
                # A worker that takes another's place waits until that one has let go.
                if _WORKER is None or attempt == _PATIENCE - 1:
                    log.error("no metrics: %s", error)
                    return
                await asyncio.sleep(1)
            except (wireway.WirewayError, OSError) as error:
                log.error("no metrics: %s", error)
                return
            else:
                where = metrics.addresses[0].replace("tcp://", "http://", 1)
                log.info("metrics on %s/metrics, health on /livez and /readyz", where)
                return

    def _announce(self, server: wireway.Server, try_it: str, more: dict[str, str]) -> None:
        """Say what runs, where, on what, within which limits, and how to try it. Of several workers the first does."""
        if _WORKER is not None and (_WORKER["number"], _WORKER["generation"]) != (1, 1):
            return
        place = server.addresses[0]
        host, _, port = place.partition("://")[2].rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
        found = budget(server.backend)
        lines = {
            "address": ", ".join(server.addresses),
            "back end": f"{server.backend} ({server.backend_reason})",
            **({} if self.workers == "1" else {"workers": self.workers}),
            "descriptors": f"limit {found.usable:,}, in use {found.in_use:,}: "
            f"room for about {found.room:,} connections ({found.remedy})",
            **more,
            "try it": try_it.format(address=place, host=host, port=port),
            "stop it": "Ctrl-C",
        }
        typer.echo(f"wireway {wireway.__version__}: {self.what}")
        for name, text in lines.items():
            typer.echo(f"  {name:<12} {text}")
        sys.stdout.flush()


def _workers(text: str) -> int | Literal["auto"] | None:
    if text == "auto":
        return "auto"
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is neither a number from 1 up nor auto", param_hint="--workers")
    return int(text) if int(text) > 1 else None


# --- logs -------------------------------------------------------------------------------------------------------


class _JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message; error with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _log(style: LogStyle) -> None:
    handler = logging.StreamHandler()
    human = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(_JsonLines() if style is LogStyle.JSON else human)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


# --- reload -----------------------------------------------------------------------------------------------------


def _run_again_and_again(watched: list[Path]) -> None:
    import watchfiles

    command = [sys.executable, "-m", "wireway", *(word for word in sys.argv[1:] if word != "--reload")]

    def said(changes: set[tuple[watchfiles.Change, str]]) -> None:
        names = sorted({Path(path).name for _, path in changes})
        typer.echo(f"changed: {', '.join(names[:5])}; starting anew")

    watchfiles.run_process(
        *watched,
        target=shlex.join(command),
        target_type="command",
        callback=said,
        watch_filter=watchfiles.PythonFilter(extra_extensions=(".toml",)),
    )
