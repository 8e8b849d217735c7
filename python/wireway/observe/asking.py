"""The other side of the control socket: finding the servers of this user, and asking them. Blocking.

Owns the client. What can be asked stands in `answers.py`.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wireway.errors import WirewayError
from wireway.observe.control import folder

__all__ = ["AskedError", "Asker", "NoServerError", "ask", "find", "pid_of"]

_PIECE = 256 * 1024
_PATIENCE = 5.0
"""Seconds for an answer: a loop that stalls gives none."""


class NoServerError(WirewayError):
    """Nobody is there to ask."""


class AskedError(WirewayError):
    """The server says that it can not."""


def pid_of(path: Path) -> int:
    """The process whose control socket it is, by its name; 0 if that does not tell."""
    number = path.stem.partition("-")[0]
    return int(number) if number.isascii() and number.isdigit() else 0


def find(pid: int | None = None, path: Path | None = None) -> list[Path]:
    """The control sockets that answer.

    :param pid: that of this process only.
    :param path: this one only.
    :raises NoServerError: there is none, or it may not be used.
    """
    if path is not None:
        chosen = [path]
    else:
        chosen = sorted(_sockets(folder()), key=lambda each: (pid_of(each), each.name))
        if pid is not None:
            chosen = [each for each in chosen if pid_of(each) == pid]
    alive = [each for each in chosen if _answers(each)]
    if not alive:
        whom = str(path) if path is not None else f"process {pid}" if pid is not None else f"a socket in {folder()}"
        raise NoServerError(f"no running server was found ({whom}): start one with `wireway serve`, or give --socket")
    return alive


def _sockets(place: Path) -> list[Path]:
    """Not `glob`: since Python 3.13 it hides that a folder may not be read."""
    try:
        return [each for each in place.iterdir() if each.suffix == ".sock"]
    except FileNotFoundError:
        return []


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_PATIENCE)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            if path.parent == folder():
                path.unlink(missing_ok=True)  # of a process that was killed
            return False
        except PermissionError:
            raise NoServerError(f"{path} is another user's: ask as that user, or as root") from None
        except OSError:  # none there, no socket, a name that is too long
            return False
    return True


class Asker:
    """A connection to one server, for several questions. What it remembers of a look is there for the next.

    :raises WirewayError: it does not answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(_PATIENCE)
        self._came = bytearray()
        try:
            with self._errors():
                self._sock.connect(str(path))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ask no more."""
        self._sock.close()

    def fileno(self) -> int:
        """The descriptor, for who waits for several servers."""
        return self._sock.fileno()

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """One question and its answer; of several lines, their lists together.

        :raises AskedError: the server says what is wrong with the question.
        :raises WirewayError: it does not answer.
        """
        answer: dict[str, Any] = {}
        with self._errors():
            self._sock.sendall(json.dumps({"ask": what, **more}).encode() + b"\n")
            while True:
                part = json.loads(self._line())
                for name, value in part.items():
                    answer[name] = answer[name] + value if isinstance(answer.get(name), list) else value
                if not answer.pop("more", False):
                    break
        if "error" in answer:
            raise AskedError(answer["error"])
        return answer

    def _line(self) -> bytes:
        while b"\n" not in self._came:
            if not self.receive():
                raise WirewayError(f"{self.path} closed the connection without an answer")
        line, _, rest = self._came.partition(b"\n")
        self._came = rest
        return bytes(line)

    def receive(self) -> bool:
        """Take what has come, for `lines`; false once the server has ended the connection. May wait."""
        data = self._sock.recv(_PIECE)
        self._came += data
        return bool(data)

    def lines(self) -> list[bytes]:
        """The whole lines that have come and are no answer."""
        *whole, rest = bytes(self._came).split(b"\n")
        self._came = bytearray(rest)
        return whole

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            text = f"{self.path} does not answer within {_PATIENCE:g} s: its loop stands still"
            raise WirewayError(text) from None
        except OSError as error:
            raise WirewayError(f"{self.path} went away: {error.strerror or error}") from None


def ask(path: Path, what: str, **more: Any) -> dict[str, Any]:
    """One question, one answer.

    :raises AskedError: the server says what is wrong with the question.
    :raises WirewayError: it does not answer.
    """
    with Asker(path) as asker:
        return asker.ask(what, **more)
