"""`wireway serve`: run one of the services until Ctrl-C or SIGTERM; here: echo. What they share is in `serving.py`."""

from __future__ import annotations

import json
import shlex
from enum import StrEnum
from typing import Annotated

import typer

import wireway
from wireway.cli import serving
from wireway.cli.failing import for_people
from wireway.cli.serve_chat import chat
from wireway.cli.serve_web import web
from wireway.services.echo import echo_server

__all__ = ["serve"]

FRAMINGS: dict[str, wireway.Framing] = {"raw": wireway.Raw(), "length": wireway.LengthPrefix(4)}
GREETINGS = {"raw": r'b"hello\n"', "length": r'b"\0\0\0\5hello"'}
"""For each framing the Python literal of one message, as the line to try it sends it."""

serve = typer.Typer(name="serve", no_args_is_help=True, help="Run a server until Ctrl-C or SIGTERM; drain at the end.")


class FramingName(StrEnum):
    """The framings that the command knows by name."""

    RAW = "raw"
    LENGTH = "length"


@serve.callback()
def every() -> None:
    """Run a server until Ctrl-C or SIGTERM; open connections are drained."""


@serve.command()
def echo(
    host: serving.Host = "127.0.0.1",
    port: serving.Port = 9000,
    unix: serving.Unix = None,
    backend: serving.Backend = "auto",
    framing: Annotated[
        FramingName,
        typer.Option(help="raw: bytes as they come; length: messages after a length of 4 bytes, big-endian."),
    ] = FramingName.RAW,
    workers: serving.Workers = "1",
    log: serving.Log = serving.LogStyle.HUMAN,
    metrics: serving.Metrics = None,
) -> None:
    """Send every message back."""
    running = serving.Running(
        what=f"echo, {framing} framing", backend=backend, workers=workers, log=log, metrics=metrics
    )
    running.begin()
    with for_people():
        server = echo_server(serving.address(host, port, unix), framing=FRAMINGS[framing])
    if unix is not None:
        connect = f"s = socket.socket(socket.AF_UNIX); s.connect({json.dumps(str(unix.absolute()))})"
    else:
        connect = 's = socket.create_connection(("{host}", {port}))'
    # A line that needs Python only: `nc` differs from one system to the next.
    line = f"import socket; {connect}; s.sendall({GREETINGS[framing]}); print(s.recv(99))"
    running.serve(server, "python3 -c " + shlex.quote(line))


serve.command()(chat)
serve.command()(web)
