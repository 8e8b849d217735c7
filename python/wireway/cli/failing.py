"""How commands fail: one line on stderr that says what to do, and an exit status by kind. Never a traceback.

Owns the exit statuses of the command; `docs/reference/command.md` lists them, and a test holds the two together.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

import wireway
from wireway.configuration.mistakes import ConfigurationError

__all__ = ["Exit", "Failure", "for_people", "one_line", "status_of"]


class Exit(IntEnum):
    """Why a command ended, for scripts."""

    OK = 0
    """It did what it was asked to."""
    NO = 1
    """The answer is no: a limit was found, what was expected did not come; or a failure of no other kind."""
    USAGE = 2
    """The command line can not be read: an option, a value, a URL or a name of a machine is wrong."""
    CONFIG = 3
    """The configuration file is wrong."""
    MISSING = 4
    """A file or a folder is not there."""
    PERMISSION = 5
    """The kernel does not permit it to this user."""
    TAKEN = 6
    """Somebody else listens on the address."""
    UNREACHABLE = 7
    """The other side refused, or did not answer."""
    NO_TERMINAL = 8
    """The command needs a terminal, and has none."""
    NO_SERVER = 9
    """No running server was found to ask."""


class Failure(Exception):  # noqa: N818  (it is how a command ends, not an error of the library)
    """A command can not go on. `text` is one line for people: what happened, and what to do."""

    def __init__(self, text: str, status: Exit = Exit.NO) -> None:
        super().__init__(text)
        self.status = status


_OF_ERRNO = {
    errno.ENOENT: Exit.MISSING,
    errno.ENOTDIR: Exit.MISSING,
    errno.EACCES: Exit.PERMISSION,
    errno.EPERM: Exit.PERMISSION,
    errno.EADDRNOTAVAIL: Exit.USAGE,
    errno.EADDRINUSE: Exit.TAKEN,
    errno.ECONNREFUSED: Exit.UNREACHABLE,
    errno.ECONNRESET: Exit.UNREACHABLE,
    errno.EHOSTUNREACH: Exit.UNREACHABLE,
    errno.ENETUNREACH: Exit.UNREACHABLE,
    errno.ETIMEDOUT: Exit.UNREACHABLE,
}


def status_of(error: BaseException) -> Exit:
    """The exit status for an error of the library or of the kernel."""
    match error:
        case Failure():
            return error.status
        case ConfigurationError():
            return Exit.CONFIG
        case wireway.AddressInUseError():
            return Exit.TAKEN
        case wireway.ConnectError() | wireway.ConnectTimeoutError() | TimeoutError():
            return Exit.UNREACHABLE
        case wireway.AddressError() | wireway.ConfigError() | wireway.UnknownBackendError():
            return Exit.USAGE
        case OSError():
            return _OF_ERRNO.get(error.errno or 0, Exit.NO)
    return Exit.NO


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def for_people() -> Iterator[None]:
    """Turn errors of the library, of the kernel and of the command into one line on stderr and an exit status.

    Ctrl-C is the end of any command: exit status 130, and nothing is said.
    """
    try:
        yield
    except ConfigurationError as error:
        for mistake in error.mistakes:
            typer.echo(f"Error: {mistake}", err=True)
        raise typer.Exit(Exit.CONFIG) from None
    except (Failure, wireway.WirewayError, OSError) as error:
        typer.echo(f"Error: {one_line(error)}", err=True)
        raise typer.Exit(status_of(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
