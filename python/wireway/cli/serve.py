"""`wireway serve`: run one of the services until Ctrl-C or SIGTERM.

Owns what a person sees of a running server. What goes wrong is one line on stderr: see `failing.py`.
"""

from __future__ import annotations

import ipaddress
import json
import shlex
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

import wireway
from wireway.cli.failing import for_people
from wireway.net.descriptors import budget
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
    host: Annotated[str, typer.Option(help="Address or name to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9000,
    unix: Annotated[Path | None, typer.Option(help="Listen on this socket file instead of host and port.")] = None,
    backend: Annotated[
        str, typer.Option(help="auto, io_uring, epoll, poll, select or sigio.", metavar="NAME")
    ] = "auto",
    framing: Annotated[
        FramingName,
        typer.Option(help="raw: bytes as they come; length: messages after a length of 4 bytes, big-endian."),
    ] = FramingName.RAW,
) -> None:
    """Send every message back."""
    address = f"unix://{unix.absolute()}" if unix else f"tcp://{f'[{host}]' if ':' in host else host}:{port}"
    with for_people():
        server = echo_server(address, framing=FRAMINGS[framing])
        server.run(backend=backend, on_started=partial(_announce, f"echo, {framing} framing", GREETINGS[framing]))
    typer.echo("stopped")


def _announce(what: str, greeting: str, server: wireway.Server) -> None:
    """Say what runs, where, on what, within which limits, and how to try it."""
    address = server.addresses[0]
    lines = {
        "address": ", ".join(server.addresses),
        "back end": f"{server.backend} ({server.backend_reason})",
        "descriptors": _descriptors(server.backend),
        "try it": _try_it(address, greeting),
        "stop it": "Ctrl-C",
    }
    typer.echo(f"wireway {wireway.__version__}: {what}")
    for name, text in lines.items():
        typer.echo(f"  {name:<12} {text}")


def _descriptors(backend: str) -> str:
    found = budget(backend)
    return (
        f"limit {found.usable:,}, in use {found.in_use:,}: room for about {found.room:,} connections ({found.remedy})"
    )


def _try_it(address: str, greeting: str) -> str:
    """A shell line that sends one message and prints what comes back. It needs Python only: `nc` differs."""
    parts = urlsplit(address)
    if parts.scheme == "unix":
        connect = f"s = socket.socket(socket.AF_UNIX); s.connect({json.dumps(parts.path)})"
    else:
        host = parts.hostname or ""
        if ipaddress.ip_address(host).is_unspecified:
            host = "::1" if ":" in host else "127.0.0.1"
        connect = f"s = socket.create_connection(({json.dumps(host)}, {parts.port}))"
    return "python3 -c " + shlex.quote(f"import socket; {connect}; s.sendall({greeting}); print(s.recv(99))")
