"""`wireway bench`: load for a server that answers each message with one, and its figures.

Owns the options and what they mean together, and the exit status. The work is `measuring/`.
"""

from __future__ import annotations

import json
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from wireway.cli.failing import INTERRUPTED, Exit, Failure, for_people, writable
from wireway.framing.names import FRAMING_NAMES

if TYPE_CHECKING:
    from wireway.cli.measuring.running import Outcome
    from wireway.cli.measuring.searching import Found

__all__ = ["bench"]


class Verify(StrEnum):
    """How much of each answer is looked at."""

    CONTENT = "content"
    SIZE = "size"
    NONE = "none"


def bench(
    url: Annotated[
        str, typer.Argument(help="tcp://host:port, tls://host:port, unix:///path, http://host/path, https://host/path.")
    ],
    connections: Annotated[int, typer.Option("--connections", "-c", min=1, max=1_000_000, help="Open at once.")] = 64,
    in_flight: Annotated[
        int, typer.Option(min=1, max=100_000, help="Messages under way on each, in a closed loop.")
    ] = 1,
    rate: Annotated[
        float | None, typer.Option("--rate", "-r", min=0.1, help="Messages a second over all: an open loop.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", "-s", help="Of a message: 100, 16KiB, 1MiB; 100 unless told.")
    ] = None,
    message: Annotated[
        str | None, typer.Option(metavar="TEXT", help=r"Send this; \n and \x00 are bytes, @FILE is a file.")
    ] = None,
    framing: Annotated[str, typer.Option("--framing", "-f", metavar="NAME", help=f"{FRAMING_NAMES}.")] = "raw",
    verify: Annotated[
        Verify | None,
        typer.Option(
            help="Answers must be what was sent (content), of its size, or any (none); content unless told.",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", "-d", help="How long is measured: 10s, 2m; 10s unless told.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Measure so many messages at most.")] = None,
    warm_up: Annotated[
        str | None, typer.Option(help="What comes before, and is not measured; 1s, with --count none, unless told.")
    ] = None,
    timeout: Annotated[str, typer.Option(help="A connection that owes an answer for so long is given up.")] = "5s",
    connect_rate: Annotated[float | None, typer.Option(min=0.1, help="Connections made a second.")] = None,
    connect_timeout: Annotated[str, typer.Option(help="How long making one may take.")] = "5s",
    ifaddr: Annotated[
        str | None, typer.Option(help="Come from these addresses: 127.0.0.2,127.0.0.3 or 127.0.1.1-9 or 127.0.2.0/24.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", "-t", min=1, max=1024, help="That share the connections.")] = 1,
    within: Annotated[str | None, typer.Option(help="Find the highest rate whose p99 stays within: 10ms.")] = None,
    method: Annotated[str | None, typer.Option("--method", "-X", help="http: GET unless told.")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="http: may be repeated.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="TEXT", help="http: a body, which makes it a POST; as --message.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="tls: who may have issued the certificate.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="tls: do not check the server's certificate.")] = False,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="tls: our certificate.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="tls: its key.")] = None,
    server_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="tls: the name that the certificate must be for.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write a line for each run to this file; - is stdout.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw latencies and rates: a .png or .svg file.")] = None,
    hgrm: Annotated[Path | None, typer.Option(help="Write the percentiles as HdrHistogram does.")] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show it beside an earlier run, whose --json was kept.")
    ] = None,
) -> None:
    """Put load on a server, and measure it."""
    from wireway.cli.measuring import comparing, drawing, searching, sources, telling, writing
    from wireway.cli.measuring.asked import Wanted, seconds_of
    from wireway.cli.measuring.messages import bytes_of, framed_message
    from wireway.cli.measuring.running import insist, measure
    from wireway.cli.measuring.targets import http_request, target_of
    from wireway.cli.talking.identity import tls_of

    out, progress = Console(highlight=False), Console(stderr=True, highlight=False)
    with for_people():
        if within is not None and (rate is not None or compare is not None):
            raise Failure(f"--within finds the rate itself: leave out {'--rate' if rate else '--compare'}", Exit.USAGE)
        if str(csv) == "-" and as_json:
            raise Failure("--csv - and --json both want stdout: give one of them", Exit.USAGE)
        for file in (csv, plot, hgrm):
            if file is not None and str(file) != "-":
                writable(file)
        if plot is not None:
            drawing.check_picture(plot)
        earlier = None if compare is None else comparing.read_earlier(compare)
        limit = None if within is None else seconds_of(within, "--within")
        if url.lower().startswith("http://") and (ca or insecure or cert or key or server_name):
            raise Failure(f"{url}: options of TLS are for https://", Exit.USAGE)
        secured = re.sub("^https://", "tls://", url, flags=re.IGNORECASE)
        alpn = ("http/1.1",) if secured != url else ()
        target = target_of(url, tls_of(secured, False, ca, insecure, cert, key, server_name, alpn))
        of_http = {"--method": method, "--header": header, "--data": data}
        of_others = {"--size": size, "--message": message, "--verify": verify, "--framing": framing != "raw" or None}
        for option, given in (of_others if target.http else of_http).items():
            if given is not None:
                raise Failure(f"{option} is not for {target.url.partition('://')[0]}:// addresses", Exit.USAGE)
        cut, content = framed_message(framing, size, message)
        checked = str(verify or Verify.CONTENT)
        if target.http:
            body = b"" if data is None else bytes_of(data, "--data")
            target, content = http_request(target, method, header or (), body)
            checked = "http-head" if method == "HEAD" else "http"
        source_addresses = sources.sources_of(ifaddr)
        target.addresses[:] = sources.fitting(target.addresses, source_addresses)
        sources.make_room(connections, threads)
        searches = limit is not None
        if duration is None and (count is None or searches):
            duration = "3s" if searches else "10s"
        if warm_up is None:
            warm_up = "0" if count is not None else "500ms" if searches else "1s"
        wanted = Wanted(
            target=target,
            message=content,
            framing=cut,
            verify=checked,
            connections=connections,
            in_flight=in_flight,
            rate=rate,
            connect_rate=connect_rate,
            connect_timeout=seconds_of(connect_timeout, "--connect-timeout"),
            duration=None if duration is None else seconds_of(duration, "--duration"),
            count=count,
            warm_up=seconds_of(warm_up, "--warm-up", zero=True),
            timeout=seconds_of(timeout, "--timeout"),
            threads=min(threads, connections),
            sources=source_addresses,
        )
        found = None
        try:
            if limit is None:
                outcomes = [measure(wanted, progress)]
                insist(outcomes[0])
            else:
                found = searching.search(wanted, limit, progress)
                outcomes = found.runs
        except OSError as error:
            text = re.sub(r" \(os error \d+\)", "", str(error.strerror or error))
            kinds = {FileNotFoundError: Exit.MISSING, PermissionError: Exit.PERMISSION}
            status = kinds.get(type(error), Exit.UNREACHABLE)
            raise Failure(f"{url}: {text}", status) from None
        shown = found.best if found is not None and found.best is not None else outcomes[0]
        if csv is not None and str(csv) != "-":
            with csv.open("w", newline="") as lines:
                writing.write_csv(outcomes, lines)
        if plot is not None:
            drawing.draw(outcomes, plot)
        if hgrm is not None:
            writing.write_hgrm(shown, hgrm)
        if as_json:
            text = json.dumps(writing.as_dict(shown) if found is None else writing.search_as_dict(found))
        else:
            with out.capture() as captured:
                telling.show(shown, out)
                if found is not None:
                    telling.show_search(found, out)
                if earlier is not None:
                    comparing.show_beside(shown, earlier, out)
            text = "\n".join(line.rstrip() for line in captured.get().splitlines())
        if str(csv) == "-":
            writing.write_csv(outcomes, sys.stdout)
        else:
            typer.echo(text)
        sys.stdout.flush()
        ended = _status_of_search(found) if found is not None else _status(outcomes[0])
        if ended != Exit.OK:
            raise typer.Exit(ended)


def _status(outcome: Outcome) -> int:
    if outcome.interrupted:
        return INTERRUPTED
    if outcome.held is False and not outcome.went_wrong:
        return Exit.NO if outcome.bottleneck is None else Exit.NO_VERDICT
    return Exit.OK if outcome.sound else Exit.NO


def _status_of_search(found: Found) -> int:
    return {"found": Exit.OK, "none": Exit.NO, "client": Exit.NO_VERDICT, "interrupted": INTERRUPTED}[found.verdict]
