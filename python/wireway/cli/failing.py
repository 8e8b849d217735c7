"""How commands fail: one line on stderr that says what to do, and an exit status by kind. Never a traceback.

Owns the exit statuses of the command; `docs/reference/command.md` lists them, and a test holds the two together.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

import wireway
from wireway.configuration.mistakes import ConfigurationError
from wireway.serve.supervisor import StartError
from wireway.services import BrokenServiceError

__all__ = ["Exit", "Failure", "PlainGroup", "for_people", "lines_of", "one_line", "status_of", "tell", "writable"]

INTERRUPTED = 128 + 2
"""The exit status after Ctrl-C: 128 and SIGINT, as shells have it."""
UNREAD = 128 + 13
"""The exit status when nobody reads what is printed any more: 128 and SIGPIPE, as of any program before `| head`."""


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
    NO_VERDICT = 10
    """Nothing can be said of the server: the one who measured was the bottleneck."""


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
        case StartError(status=int(status)):
            return Exit(status)
        case ConfigurationError() | BrokenServiceError():
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


def writable(path: Path) -> None:
    """Refuse what can not be written, before the work that is to be written there is done.

    :raises Failure: it is a folder, its folder is not there, or this user may not.
    """
    if path.is_dir():
        raise Failure(f"{path} is a folder: give the name of a file", Exit.USAGE)
    if not path.parent.is_dir():
        raise Failure(f"{path.parent} is not there: make the folder, or write elsewhere", Exit.MISSING)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise Failure(f"{path} may not be written by this user: write elsewhere", Exit.PERMISSION)


def _echo(text: str) -> None:
    typer.echo(f"Error: {text}", err=True)


tell: Callable[[str], object] = _echo
"""How a line that tells of a failure is written; `logs.py` writes it for programs."""


def lines_of(error: BaseException) -> list[str]:
    """What an error says: one line, or one for each mistake in a configuration file."""
    if isinstance(error, ConfigurationError | StartError):
        return str(error).splitlines()
    return [one_line(error)]


@contextmanager
def for_people() -> Iterator[None]:
    """Turn errors of the library, of the kernel and of the command into one line on stderr and an exit status.

    Ctrl-C is the end of any command: exit status 130, and nothing is said. That nobody reads stdout any more is left to
    `PlainGroup`.
    """
    try:
        yield
    except (Failure, wireway.WirewayError) as error:
        raise typer.Exit(_say(error)) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise typer.Exit(_say(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _say(error: BaseException) -> int:
    """Tell an error, and return its exit status. A stderr that can not be written to changes nothing of it."""
    with suppress(OSError):
        for line in lines_of(error):
            tell(line)
    return int(status_of(error))


class PlainGroup(TyperGroup):
    """The command as a whole: each of its failures is one line, whatever the terminal, the locale and the pipes are."""

    def main(self, *args: Any, **more: Any) -> Any:
        """Run it. See `TyperGroup.main`; what goes wrong outside of `for_people` is told here.

        :raises SystemExit: at the end, with the exit status, unless `standalone_mode` is False.
        """
        standalone = more.pop("standalone_mode", True)
        _open_what_is_closed()
        try:
            with for_people():
                try:
                    result = super().main(*args, **{**more, "standalone_mode": False})
                    status = int(result) if isinstance(result, int) else 0
                    sys.stdout.flush()
                except SystemExit as ended:
                    # Typer and Rich end so when nobody reads, each with a status of its own.
                    if isinstance(ended.__context__, BrokenPipeError):
                        raise ended.__context__ from None
                    raise
        except BrokenPipeError:
            status = UNREAD
        except typer.Exit as ended:
            status = ended.exit_code
        except typer.TyperException as error:
            status = _tell_usage(error)
        except typer.Abort:
            typer.echo("Error: nothing was done: the question was not answered with yes", err=True)
            status = int(Exit.NO)
        if not standalone:
            return status
        _let_go_of_stdout()
        sys.exit(status)


def _tell_usage(error: typer.TyperException) -> int:
    """A command line that can not be read: one line, with the command that lists what can be written."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)  # the whole help: that is what was asked for
        return int(Exit.USAGE)
    path = getattr(context, "command_path", "wireway")
    text = " ".join(error.format_message().split()).rstrip(".")
    typer.echo(f"Error: {text}; see `{path} --help`", err=True)
    return int(getattr(error, "exit_code", Exit.USAGE))


def _open_what_is_closed() -> None:
    """Make the three streams usable: a closed one reads and writes nothing, and no locale makes printing fail.

    A closed descriptor would be the number of the next socket, to which somebody would print.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _let_go_of_stdout() -> None:
    """What is still in the buffer and can not be written is not tried again when the interpreter ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
