"""`wireway serve`: run one of the services until Ctrl-C or SIGTERM.

Owns what a person sees of a running server. What goes wrong is one line on stderr and exit status 1; a command line
that cannot be read is exit status 2, as everywhere in click.
"""

from __future__ import annotations

import ipaddress
import json
import shlex
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import click

import wireway
from wireway.net.descriptors import budget
from wireway.services.echo import echo_server

__all__ = ["serve"]

FRAMINGS: dict[str, wireway.Framing] = {"raw": wireway.Raw(), "length": wireway.LengthPrefix(4)}
GREETINGS = {"raw": r'b"hello\n"', "length": r'b"\0\0\0\5hello"'}
"""For each framing the Python literal of one message, as the line to try it sends it."""


@click.group()
def serve() -> None:
    """Run a server until Ctrl-C or SIGTERM; open connections are drained."""


@serve.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address or name to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=9000, show_default=True, help="0 takes a free one.")
@click.option("--unix", type=click.Path(path_type=Path), help="Listen on this socket file instead of host and port.")
@click.option(
    "--backend", default="auto", show_default=True, help="auto, io_uring, epoll, poll, select or sigio.", metavar="NAME"
)
@click.option(
    "--framing",
    type=click.Choice(sorted(FRAMINGS)),
    default="raw",
    show_default=True,
    help="raw: bytes as they come; length: messages after a length of 4 bytes, big-endian.",
)
def echo(host: str, port: int, unix: Path | None, backend: str, framing: str) -> None:
    """Send every message back."""
    address = f"unix://{unix.absolute()}" if unix else f"tcp://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        server = echo_server(address, framing=FRAMINGS[framing])
        server.run(backend=backend, on_started=partial(_announce, f"echo, {framing} framing", GREETINGS[framing]))
    except (wireway.WirewayError, OSError) as error:
        raise click.ClickException(_one_line(error)) from None
    click.echo("stopped")


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
    click.echo(f"wireway {wireway.__version__}: {what}")
    for name, text in lines.items():
        click.echo(f"  {name:<12} {text}")


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


def _one_line(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())
