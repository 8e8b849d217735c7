"""The web service: the files of a folder, or an ASGI application, over HTTP/1.1 and WebSocket."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import wireway
from wireway.errors import ConfigError
from wireway.http import HttpOptions, StaticFiles, WebServer, load
from wireway.http.loading import where
from wireway.http.options import Application
from wireway.services.contract import Listener, Service
from wireway.units import WholeSeconds

__all__ = ["WebOptions", "service", "web_server"]


def web_server(
    address: str | Sequence[str],
    target: str,
    *,
    http: HttpOptions | None = None,
    max_age: int = 0,
    folder: Path | None = None,
    factory: bool = False,
    **options: Any,
) -> WebServer:
    """A server for a folder, or for an application.

    :param target: a folder (``./public``), or an application (``module:app``).
    :param max_age: seconds that clients may keep a file of the folder without asking.
    :param folder: where `target` is looked for; the current one unless told.
    :param factory: `target` names a function that makes the application, as ``module:make()`` does.
    :param options: see `wireway.http.WebServer`.
    :raises ConfigError: there is no such folder or application, or its module fails.
    """
    place = Path.cwd() if folder is None else folder
    if is_folder(target, place):
        files = StaticFiles(place / target, max_age=max_age)
        return WebServer(address, files, http=http, **{**options, "lifespan": "off"})
    made = f"{target}()" if factory and not target.endswith("()") else target
    return WebServer(address, _load(made, folder), http=http, **options)


def is_folder(target: str, place: Path) -> bool:
    """Whether it is meant as a folder, there or not."""
    return target in (".", "..") or (place / target).is_dir() or (os.sep in target and ":" not in target)


def _load(target: str, folder: Path | None) -> Application:
    """The application. What its own module raises becomes one line that says where."""
    try:
        return load(target, folder)
    except (wireway.WirewayError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise ConfigError(
            f"{target} can not be loaded: {where(error)} (its traceback: python -c 'import {target.partition(':')[0]}')"
        ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class WebOptions(HttpOptions):
    """The options of the service: what is served, and those of `HttpOptions`."""

    target: str = field(metadata={"argument": True})
    """A folder (``./public``), or an application (``module:app``; ``module:make()`` calls a factory)."""
    factory: bool = False
    """``module:make`` names a function that makes the application."""
    app_dir: Path | None = None
    """Where the module of an application is looked for; where the file is, or the command runs, unless told."""
    lifespan: Literal["auto", "on", "off"] = "auto"
    """Tell the application that it starts and ends. ``on``: one that knows no lifespan is an error;
    ``off``: it is not told."""
    max_age: WholeSeconds = 0
    """How long clients may keep a file of the folder without asking."""
    access_log: bool = True
    """Log each request."""


def _make(listener: Listener, options: WebOptions) -> WebServer:
    http = HttpOptions(**{each.name: getattr(options, each.name) for each in fields(HttpOptions)})
    return web_server(
        listener.addresses,
        options.target,
        http=http,
        max_age=options.max_age,
        folder=listener.folder if options.app_dir is None else listener.folder / options.app_dir,
        factory=options.factory,
        lifespan=options.lifespan,
        **listener.options(*service.without),
    )


def _try_it(listener: Listener, address: str) -> str:
    scheme, _, place = address.partition("://")
    if scheme == "unix":
        return f"curl --unix-socket {place} http://localhost/"
    return f"curl {'https' if scheme == 'tls' else 'http'}://{place}/"


def _watched(listener: Listener, options: WebOptions) -> list[Path]:
    if is_folder(options.target, listener.folder):
        return [listener.folder / options.target]
    return [] if options.app_dir is None else [listener.folder / options.app_dir]


service = Service(
    summary="A folder or an ASGI application over HTTP/1.1 and WebSocket.",
    make=_make,
    options=WebOptions,
    port=8000,
    without=frozenset({"framing", "heartbeat", "stalls", "handover"}),
    defaults={"timeouts": wireway.Timeouts(close_linger=2.0, write_stall=60.0)},
    try_it=_try_it,
    watched=_watched,
)
