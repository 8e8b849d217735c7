"""From what a person writes to an application: `module:app`, `package.module:make()`."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any, cast

from wireway.errors import ConfigError
from wireway.http.options import Application, Receive, Scope, Send

__all__ = ["load"]


def load(target: str, folder: Path | None = None) -> Application:
    """Import an ASGI application.

    :param target: ``module:attribute``; attributes of attributes with dots; ``()`` at the end calls a factory.
    :param folder: where the module is looked for first; the current one unless told.
    :raises ConfigError: it is not there, or no application. An error that the module itself raises comes as it is.
    """
    name, colon, path = target.partition(":")
    if not (name and colon and path):
        raise ConfigError(f"{target!r} is neither a folder nor an application; write a path, or module:app")
    place = str((folder or Path.cwd()).absolute())
    if place not in sys.path:
        sys.path.insert(0, place)
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"there is no module {error.name!r} in {place} or where Python looks") from None
        raise
    factory = path.endswith("()")
    for attribute in path.removesuffix("()").split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            raise ConfigError(f"the module {name!r} has no {path.removesuffix('()')!r}") from None
    if factory:
        found = found()
    if not callable(found):
        raise ConfigError(f"{target!r} is a {type(found).__name__}, not an ASGI application")
    return _from_asgi2(found) if _is_asgi2(found) else cast(Application, found)


def _is_asgi2(app: Any) -> bool:
    """Whether it is of ASGI 2: called with a scope alone, it returns what is called with receive and send."""
    call = app if inspect.isfunction(app) or inspect.isclass(app) else getattr(app, "__call__", app)  # noqa: B004
    try:
        inspect.signature(call).bind(None, None, None)
    except TypeError:
        return True
    except ValueError:  # no signature: it is native, and of today
        return False
    return inspect.isclass(app)


def _from_asgi2(app: Any) -> Application:
    async def of_today(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope)(receive, send)

    return of_today
