"""`wireway serve web`: a folder or an ASGI application."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

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
    lifespan: Annotated[Lifespan, typer.Option(help="Tell the application that it starts and ends.")] = Lifespan.AUTO,
    max_age: Annotated[int, typer.Option(min=0, help="Seconds that clients may keep a file without asking.")] = 0,
    body_size: Annotated[
        int | None, typer.Option(min=0, help="The largest body of a request, bytes; 413 beyond.", metavar="BYTES")
    ] = None,
    access_log: Annotated[bool, typer.Option(help="Log each request.")] = True,
    log: serving.Log = serving.LogStyle.HUMAN,
    metrics: serving.Metrics = None,
    reload: serving.Reload = False,
) -> None:
    """Serve a folder or an ASGI application over HTTP/1.1 and WebSocket."""
    running = serving.Running(
        what=f"web, {target}",
        backend=backend,
        workers=workers,
        log=log,
        metrics=metrics,
        reload=reload,
        watched=[Path(target)] if Path(target).is_dir() else [],
    )
    running.begin()
    from wireway.http import HttpOptions
    from wireway.services.web import web_server

    with for_people():
        if os.sep in target or Path(target).is_dir():
            serving.readable(Path(target), "a folder, or an application as module:app")
        tls = serving.tls_of(cert, key)
        server = web_server(
            serving.address(host, port, unix, cert),
            target,
            http=HttpOptions(root_path=root_path, body_size=body_size, access_log=access_log),
            max_age=max_age,
            lifespan=lifespan.value,
            tls=tls,
        )
    scheme = "http" if cert is None else "https"
    curl = f"curl --unix-socket {unix.absolute()} http://localhost/" if unix else f"curl {scheme}://{{host}}:{{port}}/"
    running.serve(server, curl)
