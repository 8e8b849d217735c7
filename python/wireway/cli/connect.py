"""`wireway connect`: talk to a server by hand, from a pipe or from a script, and see half a packet for what it is.

Owns the options and what they mean together. The talking is `talking/`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import wireway
from wireway.cli.failing import Exit, Failure, for_people
from wireway.cli.talking.line import Plan
from wireway.cli.talking.piping import Piping
from wireway.cli.talking.words import Input, View, unescape
from wireway.framing.names import FRAMING_NAMES, framing_of

__all__ = ["connect"]

_PATIENCE = 10.0
"""Seconds for `--expect` unless told."""


class Eol(StrEnum):
    """What follows each line that is sent without framing."""

    NONE = "none"
    LF = "lf"
    CRLF = "crlf"


_ENDS = {Eol.NONE: b"", Eol.LF: b"\n", Eol.CRLF: b"\r\n"}


def connect(
    url: Annotated[str, typer.Argument(help="tcp://host:port, tls://host:port, unix:///path, or host:port.")],
    framing: Annotated[str, typer.Option("--framing", "-f", metavar="NAME", help=f"{FRAMING_NAMES}.")] = "raw",
    max_size: Annotated[
        int | None, typer.Option(min=1, metavar="BYTES", help="The largest message; the framing's own unless told.")
    ] = None,
    send: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help=r"Send this first; \n and \x00 are bytes. May be repeated.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End with 0 when this, or /a regular expression/, came. May be repeated."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="For all of it; 10 with --expect.")
    ] = None,
    listen: Annotated[bool, typer.Option("--listen", "-l", help="Wait for one connection at the address.")] = False,
    input_: Annotated[
        Input | None,
        typer.Option("--input", help="How lines become messages: bytes, text, escaped or hex.", show_default=False),
    ] = None,
    view: Annotated[
        View | None, typer.Option(help="How what comes is shown: text, hex or bytes.", show_default=False)
    ] = None,
    hexadecimal: Annotated[bool, typer.Option("--hex", help="The same as --view hex.")] = False,
    eol: Annotated[
        Eol | None, typer.Option(help="What follows each line under raw framing: none, lf, crlf.", show_default=False)
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="The time of day before each line.")] = False,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="tls: who may have issued the certificate.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="tls: do not check the server's certificate.")] = False,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="tls: our certificate; needed to listen.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="tls: its key.")] = None,
    server_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="tls: the name that the certificate must be for.")
    ] = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where typed lines are kept.", show_default=False)
    ] = None,
    no_history: Annotated[bool, typer.Option("--no-history", help="Keep no typed lines.")] = False,
    backend: Annotated[str, typer.Option(metavar="NAME", help="auto, io_uring, epoll, poll, select, sigio.")] = "auto",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say on stderr who came and why it ended.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes on stderr, only errors.")] = False,
) -> None:
    """Talk to a server: both sides may speak at any time. In a terminal, in a pipe, or from a script."""
    with for_people():
        cut = framing_of(framing, max_size)
        at_terminal = os.isatty(0) and os.isatty(1) and not expect
        raw = isinstance(cut, wireway.Raw)
        if hexadecimal and view not in (None, View.HEX):
            raise Failure(f"--hex and --view {view} contradict each other: give one of them", Exit.USAGE)
        if not raw and eol not in (None, Eol.NONE):
            raise Failure(f"--eol is for raw framing: {framing} says itself where a message ends", Exit.USAGE)
        if no_history and history is not None:
            raise Failure("--history and --no-history contradict each other: give one of them", Exit.USAGE)
        target = url if "://" in url else f"tcp://{url}"
        plan = Plan(
            url=target,
            framing=cut,
            listen=listen,
            tls=_tls(target, listen, ca, insecure, cert, key, server_name),
            timeout=_PATIENCE if timeout is None and expect else timeout,
            sends=tuple(unescape(text) for text in send or ()),
            expects=tuple(expect or ()),
            input=input_ or _input(at_terminal, raw),
            view=View.HEX if hexadecimal else view or _view(at_terminal),
            timestamps=timestamps,
            verbose=verbose,
            quiet=quiet,
        )
        if raw and plan.input is not Input.BYTES:
            lines = eol or (Eol.NONE if plan.input is Input.HEX else Eol.LF)
            plan = replace(plan, eol=_ENDS[lines])
        if at_terminal:
            _at_terminal(plan, history, backend, keep=not no_history)
            return
        if timestamps and plan.view is View.BYTES:
            raise Failure("--timestamps needs lines: add --view text or --view hex", Exit.USAGE)
        # In a script what is to be sent stands in --send; a terminal that nobody types at has no end.
        silent = bool(send) or (bool(expect) and os.isatty(0))
        piping = Piping(plan, stdin=None if silent else 0)
        try:
            _run(piping.run, backend)
        except BrokenPipeError:
            # Nobody reads what comes any more, as in `| head`. What Python would flush at its end goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(main: Callable[[], Coroutine[Any, Any, None]], backend: str) -> None:
    with asyncio.Runner(loop_factory=partial(wireway.new_event_loop, backend)) as runner:
        runner.get_loop()  # a back end that is not there is told before anything is begun
        runner.run(main())


def _at_terminal(plan: Plan, history: Path | None, backend: str, *, keep: bool) -> None:
    if plan.input is Input.BYTES or plan.view is View.BYTES:
        raise Failure("bytes as they are would steer the terminal: use text or hex, or a pipe", Exit.USAGE)
    from wireway.cli.talking.history import history_path
    from wireway.cli.talking.screen import Screen

    plan = replace(plan, history=(history or history_path()) if keep else None)
    try:
        _run(Screen(plan).run, backend)
    except TimeoutError as error:
        if isinstance(error, wireway.ConnectTimeoutError) or error.errno is not None:
            raise
        raise Failure(f"{plan.url}: nobody was there in {plan.timeout:g} s", Exit.UNREACHABLE) from None


def _input(at_terminal: bool, raw: bool) -> Input:
    if at_terminal:
        return Input.ESCAPED
    return Input.BYTES if raw else Input.TEXT


def _view(at_terminal: bool) -> View:
    """What a peer sends must not steer a terminal."""
    return View.TEXT if at_terminal or os.isatty(1) else View.BYTES


def _tls(
    url: str,
    listen: bool,
    ca: Path | None,
    insecure: bool,
    cert: Path | None,
    key: Path | None,
    server_name: str | None,
) -> wireway.Tls | None:
    files = {"--ca": ca, "--cert": cert, "--key": key}
    given = [name for name, value in {**files, "--insecure": insecure, "--server-name": server_name}.items() if value]
    if not url.lower().startswith("tls://"):
        if given:
            raise Failure(f"{given[0]} is for TLS: write tls:// at the front of the address", Exit.USAGE)
        return None
    for name, file in files.items():
        if file is not None and not file.exists():
            raise Failure(f"{name} {file} is not there: give a file with PEM in it", Exit.MISSING)
    if key is not None and cert is None:
        raise Failure("--key is of no use without --cert: give the certificate too", Exit.USAGE)
    if listen:
        if cert is None:
            raise Failure("to listen on tls:// takes a certificate: give --cert, and --key", Exit.USAGE)
        if insecure or server_name:
            raise Failure(f"{given[-1]} is for the side that connects", Exit.USAGE)
        who = {"client_ca": ca, "client_auth": "required"} if ca is not None else {}
        return wireway.Tls(cert=cert, key=cert if key is None else key, **who)  # type: ignore[arg-type]
    return wireway.Tls(cert=cert, key=key, ca=ca, verify=not insecure, server_name=server_name)
