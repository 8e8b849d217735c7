"""`wireway serve web`: a folder or an ASGI application."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import wireway
from wireway.cli import serving
from wireway.cli.failing import for_people

__all__ = ["web"]


class Lifespan(StrEnum):
    """Whether the application is told that it starts and ends."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


def web(
    target: Annotated[str, typer.Argument(help="A folder (./public), or an application (module:app).")],
    host: serving.Host = "127.0.0.1",
    port: serving.Port = 8000,
    unix: serving.Unix = None,
    backend: serving.Backend = "auto",
    workers: serving.Workers = "1",
    cert: serving.Cert = None,
    key: serving.Key = None,
    root_path: Annotated[str, typer.Option(help="Where a proxy has mounted it: /app.")] = "",
    proxy_headers: Annotated[
        bool,
        typer.Option(help="Believe X-Forwarded-For and X-Forwarded-Proto of trusted proxies."),
    ] = True,
    forwarded_allow_ips: Annotated[
        str,
        typer.Option(
            help="The trusted: addresses, networks, with commas; unix: who comes over a Unix socket; *: all.",
            envvar="FORWARDED_ALLOW_IPS",
            metavar="NETWORKS",
        ),
    ] = "127.0.0.1,::1",
    lifespan: Annotated[Lifespan, typer.Option(help="Tell the application that it starts and ends.")] = Lifespan.AUTO,
    factory: Annotated[
        bool,
        typer.Option("--factory", help="module:make is a function that makes the application."),
    ] = False,
    app_dir: Annotated[Path | None, typer.Option(help="Where the module is looked for; here unless told.")] = None,
    max_age: Annotated[int, typer.Option(min=0, help="Seconds that clients may keep a file without asking.")] = 0,
    body_size: Annotated[
        int | None,
        typer.Option(min=0, help="The largest body of a request, bytes; 413 beyond.", metavar="BYTES"),
    ] = None,
    head_size: Annotated[
        int,
        typer.Option(min=1024, help="The largest head of a request, bytes; 431 beyond.", metavar="BYTES"),
    ] = 64 * 1024,
    ws_max_size: Annotated[int, typer.Option(min=1, help="The largest WebSocket message, bytes.", metavar="BYTES")] = 16
    * 1024
    * 1024,
    limit_connections: Annotated[
        int | None,
        typer.Option(min=1, help="Connections of a worker; closed at once beyond."),
    ] = None,
    limit_per_address: Annotated[int | None, typer.Option(min=1, help="Connections from one address.")] = None,
    limit_concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Requests of a worker at once; 503 beyond."),
    ] = None,
    timeout_keep_alive: Annotated[
        float,
        typer.Option(min=0.1, help="Seconds that a connection may rest between requests."),
    ] = 65.0,
    timeout_head: Annotated[float, typer.Option(min=0.1, help="Seconds for the head of a request; 408 after.")] = 15.0,
    timeout_body: Annotated[
        float,
        typer.Option(min=0.1, help="Seconds without a byte of a body that is waited for; 408."),
    ] = 30.0,
    timeout_graceful_shutdown: Annotated[
        float, typer.Option(min=0, help="Seconds that open requests get at the end.")
    ] = 10.0,
    ws_ping: Annotated[float, typer.Option(min=0, help="Seconds between pings of a WebSocket; 0: none.")] = 20.0,
    server_header: Annotated[bool, typer.Option(help="Say Server.")] = True,
    date_header: Annotated[bool, typer.Option(help="Say Date.")] = True,
    access_log: Annotated[bool, typer.Option(help="Log each request.")] = True,
    log: serving.Log = serving.LogStyle.HUMAN,
    metrics: serving.Metrics = None,
    reload: serving.Reload = False,
) -> None:
    """Serve a folder or an ASGI application over HTTP/1.1 and WebSocket."""
    watched = [Path(target)] if Path(target).is_dir() else [app_dir] if app_dir is not None else []
    running = serving.Running(
        what=f"web, {target}",
        backend=backend,
        workers=workers,
        log=log,
        metrics=metrics,
        reload=reload,
        watched=watched,
    )
    running.begin()
    from wireway.http import HttpOptions
    from wireway.services.web import web_server

    with for_people():
        if (os.sep in target and ":" not in target) or Path(target).is_dir():
            serving.readable(Path(target), "a folder, or an application as module:app")
        if app_dir is not None:
            serving.readable(app_dir, "the folder of the module")
        tls = serving.tls_of(cert, key)
        http = HttpOptions(
            root_path=root_path,
            body_size=body_size,
            head_size=head_size,
            message_size=ws_max_size,
            requests=limit_concurrency,
            keep_alive=timeout_keep_alive,
            head_timeout=timeout_head,
            body_timeout=timeout_body,
            ping=ws_ping or None,
            forwarded_allow=_words(forwarded_allow_ips) if proxy_headers else (),
            server_header=server_header,
            date_header=date_header,
            access_log=access_log,
        )
        limits = wireway.Limits(connections=limit_connections, per_address=limit_per_address)
        server = web_server(
            serving.address(host, port, unix, cert),
            target,
            folder=app_dir,
            factory=factory,
            http=http,
            max_age=max_age,
            lifespan=lifespan.value,
            limits=limits,
            drain_timeout=timeout_graceful_shutdown,
            tls=tls,
        )
    scheme = "http" if cert is None else "https"
    curl = f"curl --unix-socket {unix.absolute()} http://localhost/" if unix else f"curl {scheme}://{{host}}:{{port}}/"
    running.serve(server, curl)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
