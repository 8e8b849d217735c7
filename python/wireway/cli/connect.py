"""`wireway connect`: talk to a server by hand, from a pipe or from a script, and see half a packet for what it is.

Owns the options and what they mean together. The talking is `talking/`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import wireway
from wireway.cli.failing import Exit, Failure, for_people
from wireway.cli.talking.identity import tls_of
from wireway.cli.talking.piping import Piping
from wireway.cli.talking.plan import Plan
from wireway.cli.talking.target import target_of
from wireway.cli.talking.words import ENDS, Eol, Input, View, unescape
from wireway.framing.names import FRAMING_NAMES, framing_of

__all__ = ["connect"]

_PATIENCE = 10.0
"""Seconds for `--expect` unless told."""


def connect(
    url: Annotated[
        str,
        typer.Argument(help="tcp://host:port, tls://host:port, unix:///path, ws://host:port/path, wss://…; host:port."),
    ],
    framing: Annotated[str, typer.Option("--framing", "-f", metavar="NAME", help=f"{FRAMING_NAMES}.")] = "raw",
    max_size: Annotated[
        int | None, typer.Option(min=1, metavar="BYTES", help="The largest message; the framing's own unless told.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", "-x", help="Tell how each receive was cut into messages, with offsets.")
    ] = False,
    send: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help=r"Send this first; \n and \x00 are bytes. May be repeated.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End with 0 when this, or /a regular expression/, came. May be repeated."),
    ] = None,
    never: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="End with 1 as soon as this, or /a regular expression/, came."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="For all of it; 10 with --expect.")
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option("--wait", "-w", min=0.001, metavar="SECONDS", help="End after so long without a byte, with 0."),
    ] = None,
    listen: Annotated[bool, typer.Option("--listen", "-l", help="Wait for one connection at the address.")] = False,
    keep: Annotated[bool, typer.Option("--keep", "-k", help="Listen on for the next, one after the other.")] = False,
    reconnect: Annotated[
        bool, typer.Option("--reconnect", "-r", help="In a terminal: connect again when it is lost.")
    ] = False,
    half_close: Annotated[
        bool, typer.Option("--half-close/--no-half-close", help="Whether the end of stdin ends our half.")
    ] = True,
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
    elapsed: Annotated[
        bool, typer.Option("--elapsed", "-T", help="The seconds since the message before, before each line.")
    ] = False,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="ws: sent with the handshake. May be repeated."),
    ] = None,
    subprotocol: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="ws: offered, or taken. May be repeated.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="tls: who may have issued the certificate.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="tls: do not check the server's certificate.")] = False,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="tls: our certificate; needed to listen.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="tls: its key.")] = None,
    server_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="tls: the name to ask for, that the certificate must be for.")
    ] = None,
    alpn: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="tls: an application protocol to offer. May be repeated.")
    ] = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where typed lines are kept.", show_default=False)
    ] = None,
    no_history: Annotated[bool, typer.Option("--no-history", help="Keep no typed lines.")] = False,
    backend: Annotated[str, typer.Option(metavar="NAME", help="auto, io_uring, epoll, poll, select, sigio.")] = "auto",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say on stderr who came and why it ended; in a terminal always.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes, only errors.")] = False,
) -> None:
    """Talk to a server: both sides may speak at any time. In a terminal, in a pipe, or from a script."""
    with for_people():
        _open_standard_streams()
        target, web = target_of(url, header or (), subprotocol or (), max_size)
        cut = framing_of(framing, None if web is not None else max_size)
        at_terminal = os.isatty(0) and os.isatty(1) and not expect
        raw = isinstance(cut, wireway.Raw) and web is None
        _contradictions(
            (web is not None and framing != "raw", "--framing is for bytes: a WebSocket has messages of its own"),
            (web is not None and explain, "--explain is for bytes: a WebSocket has messages of its own"),
            (hexadecimal and view not in (None, View.HEX), f"--hex and --view {view} contradict each other"),
            (not raw and eol not in (None, Eol.NONE), "--eol is for raw framing: another says where a message ends"),
            (no_history and history is not None, "--history and --no-history contradict each other"),
            (quiet and verbose, "--quiet and --verbose contradict each other"),
            (keep and not listen, "--keep is for --listen: add it"),
            (keep and bool(expect), "--expect is for one connection: leave --keep out"),
            (reconnect and listen, "--reconnect is for the side that connects: --listen has --keep"),
            (reconnect and not at_terminal, "--reconnect is for a terminal: in a pipe nobody could tell what was lost"),
        )
        plan = Plan(
            url=target,
            framing=cut,
            web=web,
            listen=listen,
            keep=keep,
            reconnect=reconnect,
            tls=tls_of(target, listen, ca, insecure, cert, key, server_name, alpn or ()),
            timeout=_PATIENCE if timeout is None and expect else timeout,
            wait=wait,
            half_close=half_close,
            sends=tuple(unescape(text) for text in send or ()),
            expects=tuple(expect or ()),
            never=tuple(never or ()),
            input=input_ or _input(at_terminal, raw),
            view=View.HEX if hexadecimal else view or _view(at_terminal),
            stamps=frozenset({"clock"} if timestamps else ()) | ({"elapsed"} if elapsed else set()),
            explain=explain,
            verbose=verbose,
            quiet=quiet,
        )
        if raw and plan.input is not Input.BYTES:
            plan = replace(plan, eol=ENDS[eol or (Eol.NONE if plan.input is Input.HEX else Eol.LF)])
        if at_terminal:
            _at_terminal(plan, history, backend, keep=not no_history)
            return
        if plan.stamps and plan.view is View.BYTES:
            option = "--timestamps" if timestamps else "--elapsed"
            raise Failure(f"{option} needs lines: add --view text or --view hex", Exit.USAGE)
        # In a script what is to be sent stands in --send; a terminal that nobody types at has no end.
        silent = bool(send) or (bool(expect) and os.isatty(0))
        piping = Piping(plan, stdin=None if silent else 0)
        try:
            _run(piping.run, backend)
        except BrokenPipeError:
            # Nobody reads what comes any more, as in `| head`. What Python would flush at its end goes nowhere.
            for stream in (sys.stdout, sys.stderr):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_standard_streams() -> None:
    """One that the caller had closed is /dev/null: else the first socket would get its number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _contradictions(*cases: tuple[bool, str]) -> None:
    for wrong, text in cases:
        if wrong:
            raise Failure(text, Exit.USAGE)


def _run(main: Callable[[], Coroutine[Any, Any, None]], backend: str) -> None:
    with asyncio.Runner(loop_factory=partial(wireway.new_event_loop, backend)) as runner:
        runner.get_loop()  # a back end that is not there is told before anything is begun
        runner.run(main())


def _at_terminal(plan: Plan, history: Path | None, backend: str, *, keep: bool) -> None:
    if plan.input is Input.BYTES or plan.view is View.BYTES:
        raise Failure("bytes as they are would steer the terminal: use text or hex, or a pipe", Exit.USAGE)
    if plan.never:
        raise Failure("--never is for scripts: it needs --expect, or stdin or stdout that is no terminal", Exit.USAGE)
    from wireway.cli.talking.history import history_path
    from wireway.cli.talking.screen import Screen

    plan = replace(plan, history=(history or history_path()) if keep else None)
    _run(Screen(plan).run, backend)


def _input(at_terminal: bool, raw: bool) -> Input:
    if at_terminal:
        return Input.ESCAPED
    return Input.BYTES if raw else Input.TEXT


def _view(at_terminal: bool) -> View:
    """What a peer sends must not steer a terminal."""
    return View.TEXT if at_terminal or os.isatty(1) else View.BYTES
