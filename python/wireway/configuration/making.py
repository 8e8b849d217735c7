"""From a configuration that was read to services that can run: their listeners, and their servers.

Owns what can only be found wrong by making things: certificates that can not be read, an application that is not there.
Opens no socket.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import wireway
from wireway.config import Handover
from wireway.configuration.mistakes import ConfigurationError, Mistake
from wireway.configuration.reading import ReadConfiguration
from wireway.configuration.shape import ListenerTable, TlsTable
from wireway.errors import ConfigError
from wireway.net.runnable import Runnable
from wireway.services import Listener

__all__ = ["check_all", "listener_of", "make_servers"]

_GROUPS = ("framing", "timeouts", "heartbeat", "limits", "buffers", "socket", "access", "stalls")


def listener_of(read: ReadConfiguration, number: int) -> Listener:
    """What the service of that listener is given.

    :raises ConfigurationError: its certificates can not be used.
    """
    table = read.configuration.listeners[number]
    return Listener(
        addresses=table.address,
        name=table.name,
        folder=read.document.folder,
        tls=_tls(read, number, table),
        handover=Handover(ready=table.handover.ready, handlers=table.handover.handlers),
        drain_timeout=read.configuration.drain_timeout,
        **{name: getattr(table, name) for name in _GROUPS},
    )


def make_servers(read: ReadConfiguration, number: int) -> Sequence[wireway.Server]:
    """The servers of a listener: first that of its addresses, then those of what the service has more.

    :raises ConfigurationError: the service refuses to make them.
    """
    service = read.services[number]
    table = read.configuration.listeners[number]
    with _telling(read, ("listeners", number)):
        made = service.make(listener_of(read, number), table.options)
        servers = [made] if isinstance(made, wireway.Server) else list(made)
        for server in servers:
            Runnable(server).check()
    return servers


def check_all(read: ReadConfiguration) -> None:
    """Make everything, and throw it away.

    :raises ConfigurationError: with all that can not be made.
    """
    wrong: list[Mistake] = []
    for number in range(len(read.configuration.listeners)):
        try:
            make_servers(read, number)
        except ConfigurationError as error:
            wrong += error.mistakes
    if wrong:
        raise ConfigurationError(sorted(wrong))


@contextmanager
def _telling(read: ReadConfiguration, steps: tuple[str | int, ...]) -> Iterator[None]:
    """Give mistakes their place."""
    name = read.configuration.listeners[int(steps[1])].name
    try:
        yield
    except ConfigurationError:
        raise
    except ConfigError as error:
        inside = (*steps, "options", error.option) if error.option else steps
        raise ConfigurationError(
            [read.document.mistake(inside, f"{name}: {str(error).removeprefix('Tls: ')}")]
        ) from error
    except OSError as error:
        what = f"{name}: {error.filename or ''}: {error.strerror or error}".replace(": : ", ": ")
        raise ConfigurationError([read.document.mistake(steps, what)]) from error
    except Exception as error:
        # An application that can not be imported: whatever it raises is told in a line, and its traceback below.
        what = " ".join(f"{name}: {type(error).__name__}: {error}".split())
        raise ConfigurationError([read.document.mistake(steps, what)]) from error


def _tls(read: ReadConfiguration, number: int, table: ListenerTable) -> wireway.Tls | None:
    if table.tls is None:
        return None
    steps = ("listeners", number, "tls")
    with _telling(read, steps):
        given = _checked(read, steps, table.tls)
        password: Any = table.tls.key_password
        if table.tls.key_password_file is not None:
            password = table.tls.key_password_file.read_bytes().rstrip(b"\r\n")
        made = wireway.Tls(key_password=password, **given)
        made.make_server()
        return made


def _checked(read: ReadConfiguration, steps: tuple[str | int, ...], table: TlsTable) -> dict[str, Any]:
    """The options of `Tls`, of which the files are there."""
    wrong = []
    for name in ("cert", "key", "client_ca", "key_password_file"):
        path = getattr(table, name)
        if path is not None and not path.is_file():
            wrong.append(read.document.mistake((*steps, name), f"{name}: there is no file {path}"))
    if wrong:
        raise ConfigurationError(wrong)
    names = {each.name for each in fields(TlsTable)} - {"key_password", "key_password_file", "certificates"}
    pairs = [(each.cert, each.key or each.cert, each.key_password) for each in table.certificates]
    return {**{name: getattr(table, name) for name in names}, "key": table.key or table.cert, "certificates": pairs}
