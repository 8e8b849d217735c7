"""From what a person writes to an application: `module:app`, `package.module:make()`."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from pathlib import Path
from typing import Any, cast

from wireway.errors import ConfigError
from wireway.http.options import Application, Receive, Scope, Send

__all__ = ["load", "where"]


def load(target: str, folder: Path | None = None) -> Application:
    """Import an ASGI application.

    :param target: ``module:attribute``; attributes of attributes with dots; ``()`` at the end calls a factory.
    :param folder: where the module is looked for first; the current one unless told.
    :raises ConfigError: it is not there, or no application. An error that the module itself raises comes as it is.
    """
    name, colon, path = target.partition(":")
    if not (name and colon and path):
        raise ConfigError(f"{target!r} is neither a folder nor an application; write a path, or module:app")
    if name.endswith(".py") or os.sep in name:
        dotted = name.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise ConfigError(f"{target!r} has the name of a file; write that of the module, as in {dotted}:{path}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{name!r} is no name of a module; write module:app")
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


def where(error: BaseException) -> str:
    """What an error of a module is and where it came up, in one line: for people who wrote the module."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}, {error.filename}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    ours = str(Path(__file__).parent.parent)
    frames = [frame for frame in frames if not frame.filename.startswith(ours)]
    frames = [frame for frame in frames if os.sep + "importlib" + os.sep not in frame.filename]
    return f"{text}, {frames[-1].filename}, line {frames[-1].lineno}" if frames else text


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
