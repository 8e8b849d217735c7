"""The other side of the control socket: finding the servers of this user, and asking them. Blocking.

Owns the client. What can be asked stands in `control.py`.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from wireway.errors import WirewayError
from wireway.observe.control import folder

__all__ = ["AskedError", "NoServerError", "ask", "find"]

_PATIENCE = 5.0
"""Seconds for an answer: a loop that stalls gives none."""


class NoServerError(WirewayError):
    """Nobody is there to ask."""


class AskedError(WirewayError):
    """The server says that it can not."""


def find(pid: int | None = None, path: Path | None = None) -> list[Path]:
    """The control sockets that answer.

    :param pid: that of this process only.
    :param path: this one only.
    :raises NoServerError: there is none.
    """
    if path is not None:
        chosen = [path]
    else:
        chosen = sorted(folder().glob("*.sock"), key=lambda each: (len(each.name), each.name))
        if pid is not None:
            chosen = [each for each in chosen if each.stem == str(pid)]
    alive = [each for each in chosen if _answers(each)]
    if not alive:
        whom = str(path) if path is not None else f"process {pid}" if pid is not None else f"a socket in {folder()}"
        raise NoServerError(f"no running server was found ({whom}): start one with `wireway serve`, or give --socket")
    return alive


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            if path.parent == folder():
                path.unlink(missing_ok=True)  # of a process that was killed
            return False
        except FileNotFoundError:
            return False
    return True


def ask(path: Path, what: str, **more: Any) -> dict[str, Any]:
    """One question, one answer.

    :raises AskedError: the server says what is wrong with the question.
    :raises WirewayError: it does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_PATIENCE)
            sock.connect(str(path))
            sock.sendall(json.dumps({"ask": what, **more}).encode() + b"\n")
            with sock.makefile("rb") as answers:
                line = answers.readline()
    except TimeoutError:
        raise WirewayError(f"{path} does not answer within {_PATIENCE:g} s: its loop stands still") from None
    if not line:
        raise WirewayError(f"{path} closed the connection without an answer")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise AskedError(answer["error"])
    return answer
