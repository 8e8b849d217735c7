"""`wireway trace`: what one peer says and hears, frame by frame, on the terminal or in a file for Wireshark."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

import wireway
from wireway.cli.failing import Exit, Failure, for_people
from wireway.cli.looking import Pid, Socket, chosen, having, printable
from wireway.cli.tracing.following import Following
from wireway.cli.tracing.packets import Packets
from wireway.cli.tracing.pcapng import Pcapng
from wireway.cli.tracing.streams import Frame, Loss, Stream
from wireway.cli.tracing.telling import Style, as_json, told
from wireway.observe.asking import AskedError, ask

__all__ = ["trace"]

_QUIET = 1.0
"""Seconds of silence after which half a frame is worth a line."""


def trace(
    peer: Annotated[
        str,
        typer.Argument(
            help="Whom: 10.0.0.7, 10.0.0.7:5000, [::1]:5000, the id of a connection, or a user (user:NAME); "
            "unix for peers of Unix sockets.",
        ),
    ],
    write: Annotated[
        Path | None,
        typer.Option("--write", "-w", help="Write this pcapng file for Wireshark instead; - is standard output."),
    ] = None,
    style: Annotated[Style, typer.Option("--format", "-f", help="text, hex, or json: an object a line.")] = Style.TEXT,
    whole: Annotated[bool, typer.Option("--whole", help="Show all bytes of a frame, and not only the first.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="End after so many frames.")] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=0.1, help="End after so many seconds.", metavar="SECONDS")
    ] = None,
    pid: Pid = None,
    socket: Socket = None,
) -> None:
    """Show the frames of one peer, both ways, as a running server sees them.

    Also of connections that are still to come. Of TLS the plain text is shown. Ctrl-C ends it.
    """
    with for_people(), _piped():
        whom = _whom(peer)
        paths = chosen(pid, socket)
        if "id" in whom:
            paths = [having(paths, whom["id"])[0]]
        with contextlib.ExitStack() as stack:
            try:
                following = stack.enter_context(Following(paths, whom))
            except AskedError as error:
                raise Failure(str(error), Exit.NO) from None
            file = None if write is None else stack.enter_context(_opened(write))
            out = _printing(style, whole) if file is None else _recording(file, paths)
            with contextlib.suppress(KeyboardInterrupt):  # the usual end
                _tell(f"tracing {peer}: {_connections(following.at_once)} now; Ctrl-C ends it")
                _follow(following, out, limit, None if duration is None else time.monotonic() + duration)


class _Sums:
    frames = 0
    bytes = 0
    lost = 0


Out = Callable[[Stream, list[Any], list[Any]], None]


def _follow(following: Following, out: Out, limit: int | None, until: float | None) -> None:
    sums, silent = _Sums(), set[int]()
    try:
        for each in following.events(until, _QUIET):
            if each is None:
                for stream in following.streams:
                    begun = None if stream.ended or id(stream) in silent else stream.unfinished()
                    if begun is not None:
                        silent.add(id(stream))
                        out(stream, [], [begun])
                continue
            stream, event = each
            silent.discard(id(stream))
            what = list(stream.take(event))
            sums.lost += sum(one.events for one in what if isinstance(one, Loss))
            for number, one in enumerate(what):
                if isinstance(one, Frame):
                    sums.frames += 1
                    sums.bytes += one.size
                    if sums.frames == limit:
                        out(stream, event, what[: number + 1])
                        return
            out(stream, event, what)
    finally:
        lost = f"; {sums.lost:,} events were lost, since this side was too slow" if sums.lost else ""
        out_of = _connections(len(following.streams))
        with contextlib.suppress(BrokenPipeError):
            for stream in following.streams:
                out(stream, [], [])
        _tell(f"{sums.frames:,} frame{'' if sums.frames == 1 else 's'}, {sums.bytes:,} bytes, of {out_of}{lost}")


def _printing(style: Style, whole: bool) -> Out:
    known: set[int] = set()

    def out(stream: Stream, event: list[Any], what: list[Any]) -> None:
        if not event and not what:
            sys.stdout.flush()
            return
        if id(stream) not in known:
            known.add(id(stream))
            if style is not Style.JSON:
                about = stream.about
                facts = [f"{about['who']} {about['peer']} -> {about['local']}"]
                facts += ["TLS, shown as plain text"] if about["tls"] else []
                facts += [f"user {about['user']}"] if about["user"] else []
                facts += [] if about["new"] else ["open before this began"]
                typer.echo(printable(", ".join(facts)))
        for each in what:
            if isinstance(each, str):
                if style is not Style.JSON:
                    typer.echo(f"                {stream.about['who']} in  {printable(each)}")
            elif style is Style.JSON:
                line = as_json(stream, each)
                if line is not None:
                    typer.echo(line)
            else:
                for line in told(stream, each, style, whole=whole):
                    typer.echo(line)
        sys.stdout.flush()

    return out


def _recording(file: BinaryIO, paths: list[Path]) -> Out:
    about = ask(paths[0], "about")
    kind = "streams of a Wireway server, before TLS; packets, acknowledgements and windows are made up"
    pcapng = Pcapng(file, f"wireway {wireway.__version__}", f"{kind}: {about['what']}")
    interfaces: dict[tuple[int, int], int] = {}
    known: dict[int, Packets] = {}

    def out(stream: Stream, event: list[Any], what: list[Any]) -> None:
        packets = known.get(id(stream))
        if packets is None:
            place = (stream.about["pid"], stream.about["server"])
            if place not in interfaces:
                listens = ", ".join(stream.about["listens"])
                interfaces[place] = pcapng.interface(f"wireway-{place[0]}-{place[1]}", f"{about['what']} on {listens}")
            packets = known[id(stream)] = Packets(pcapng, interfaces[place], stream)
        if event:
            packets.take(event, what)
        else:
            packets.flush()

    return out


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) != "-":
        with path.open("wb") as file:
            yield file
        return
    if sys.stdout.isatty():
        raise Failure("this would write a binary file to the terminal: name a file, or pipe it", Exit.USAGE)
    yield sys.stdout.buffer


@contextlib.contextmanager
def _piped() -> Iterator[None]:
    """Who reads our output may have seen enough: that is an end like any other."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer has nowhere to go, and the interpreter would say so at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _whom(text: str) -> dict[str, Any]:
    """What of a connection is asked for."""
    if text.startswith("user:"):
        return {"user": text[5:]}
    if text == "unix":
        return {"host": "unix"}
    if text.removeprefix("#").isascii() and text.removeprefix("#").isdigit():
        return {"id": int(text.removeprefix("#"))}
    host, colon, port = text.rpartition(":")
    for address, number in ((text.strip("[]"), None), (host.strip("[]"), port)):
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(address)
            if number is None:
                return {"host": address}
            if colon and number.isascii() and number.isdigit() and 0 < int(number) < 65536:
                return {"host": address, "port": int(number)}
            raise Failure(f"{text!r}: {number!r} is no port, write for example 10.0.0.7:5000", Exit.USAGE)
    if not text:
        raise Failure("whom to trace is empty: give an address, an id or a user", Exit.USAGE)
    return {"user": text}


def _connections(count: int) -> str:
    return f"{count:,} connection{'' if count == 1 else 's'}" if count else "no connection"


def _tell(text: str) -> None:
    typer.echo(text, err=True)
