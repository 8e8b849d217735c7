"""`wireway bench`: load for a server that answers each message with one of the same size, and its figures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from wireway.cli.failing import Exit, Failure, for_people, writable
from wireway.framing.names import FRAMING_NAMES
from wireway.net.descriptors import raise_soft_limit

__all__ = ["bench"]


def bench(
    url: Annotated[str, typer.Argument(help="The server: tcp://127.0.0.1:9000.")],
    connections: Annotated[int, typer.Option("--connections", "-c", min=1, max=1_000_000, help="Open at once.")] = 64,
    in_flight: Annotated[
        int, typer.Option(min=1, max=100_000, help="Messages under way on each, in a closed loop.")
    ] = 1,
    rate: Annotated[float | None, typer.Option(min=0.1, help="Messages a second over all: an open loop.")] = None,
    size: Annotated[int, typer.Option(min=1, max=16 * 1024 * 1024, help="Bytes of a message.")] = 100,
    framing: Annotated[str, typer.Option(help=f"raw, lines or length:N[:le] of: {FRAMING_NAMES}.")] = "raw",
    duration: Annotated[str, typer.Option(help="How long is measured: 10s, 2m.")] = "10s",
    count: Annotated[int | None, typer.Option(min=1, help="Measure so many messages at most.")] = None,
    warm_up: Annotated[str, typer.Option(help="What comes before, and is not measured.")] = "1s",
    connect_rate: Annotated[float | None, typer.Option(min=0.1, help="Connections made a second.")] = None,
    connect_timeout: Annotated[str, typer.Option(help="How long making one may take.")] = "5s",
    ifaddr: Annotated[
        str | None, typer.Option(help="Come from these addresses: 127.0.0.2,127.0.0.3 or 127.0.1.1-9.")
    ] = None,
    within: Annotated[str | None, typer.Option(help="Find the highest rate whose p99 stays within: 10ms.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write a line for each run to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the latencies: a .png or .svg file.")] = None,
) -> None:
    """Put load on a server, and measure it."""
    from wireway.cli.measuring import asked, running, telling

    out, progress = Console(highlight=False), Console(stderr=True, highlight=False)
    with for_people():
        if plot is not None:
            telling.check_picture(plot)
        for file in filter(None, (csv, plot)):
            writable(file)
        host, port = asked.target_of(url)
        wanted = asked.Wanted(
            host=host,
            port=port,
            framing=asked.framing_for_load(framing),
            size=size,
            connections=connections,
            in_flight=in_flight,
            rate=rate,
            connect_rate=connect_rate,
            connect_timeout=asked.seconds_of(connect_timeout, "--connect-timeout"),
            duration=asked.seconds_of(duration, "--duration"),
            count=count,
            warm_up=asked.seconds_of(warm_up, "--warm-up"),
            sources=asked.sources_of(ifaddr),
        )
        raise_soft_limit()
        best = None
        try:
            if within is None:
                outcomes = [running.measure(wanted, progress)]
            else:
                limit = asked.seconds_of(within, "--within")
                best, outcomes = running.search(wanted, limit, progress)
        except OSError as error:
            text = re.sub(r" \(os error \d+\)", "", str(error.strerror or error))
            raise Failure(f"{url}: {text}", Exit.UNREACHABLE) from None
        shown = best or outcomes[0] if within is not None else outcomes[0]
        if as_json:
            found = {"within": within, "highest": None if best is None else best.wanted.rate} if within else {}
            runs = [telling.as_dict(outcome) for outcome in outcomes]
            typer.echo(json.dumps({**found, "runs": runs} if within else runs[0]))
        else:
            telling.show(shown, out)
        if csv is not None:
            telling.write_csv(outcomes, csv)
        if plot is not None:
            telling.draw(outcomes, plot)
        if within is not None and not as_json:
            _verdict(within, best is not None and best.wanted.rate, any(each.bottleneck for each in outcomes[1:]), out)
        if any(outcome.figures["errors"] for outcome in outcomes[:1]) or (within is not None and best is None):
            raise typer.Exit(Exit.NO)


def _verdict(within: str, rate: float | bool | None, doubtful: bool, out: Console) -> None:
    if not rate:
        out.print(f"\n  No rate was found whose p99 stays within {within}.")
    elif doubtful:
        out.print(
            f"\n  At least {rate:,.0f} messages/s with p99 within {within}; the client was the bottleneck beyond."
        )
    else:
        out.print(f"\n  {rate:,.0f} messages/s is the highest rate with p99 within {within}.")
