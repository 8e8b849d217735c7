"""The web service: the files of a folder, or an ASGI application, over HTTP/1.1 and WebSocket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from wireway.http import HttpOptions, StaticFiles, WebServer, load

__all__ = ["web_server"]


def web_server(
    address: str, target: str, *, http: HttpOptions | None = None, max_age: int = 0, **options: Any
) -> WebServer:
    """A server for a folder, or for an application.

    :param target: a folder (``./public``), or an application (``module:app``).
    :param max_age: seconds that clients may keep a file of the folder without asking.
    :param options: see `wireway.http.WebServer`.
    :raises ConfigError: there is no such folder or application.
    """
    is_folder = os.sep in target or target in (".", "..") or Path(target).is_dir()
    if is_folder:
        return WebServer(address, StaticFiles(target, max_age=max_age), http=http, **{**options, "lifespan": "off"})
    return WebServer(address, load(target), http=http, **options)
