"""Listening sockets that outlast a process: each worker has them, and the program that takes the place of this one.

They are one queue, from which whoever lives takes. For what every process can answer alike, as metrics. Owns how they
are passed on; knows neither workers nor successors.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Legacy", "keep", "legacy", "taken"]

_VARIABLE = "WIREWAY_LASTING"
_sockets: list[socket.socket] = []


@dataclass(frozen=True, slots=True)
class Legacy:
    """What a program that is started gets of them."""

    descriptors: tuple[int, ...]
    environment: dict[str, str]


def keep(sockets: Sequence[socket.socket]) -> None:
    """Pass these on to every process that is started from now on."""
    _sockets.extend(sockets)


def legacy() -> Legacy:
    """What a new process is started with: of those that are still open."""
    numbers = tuple(number for sock in _sockets if (number := sock.fileno()) >= 0)
    return Legacy(numbers, {_VARIABLE: ",".join(map(str, numbers))} if numbers else {})


def taken() -> list[socket.socket]:
    """Those that this process was started with; told once."""
    numbers = os.environ.pop(_VARIABLE, "")
    return [socket.socket(fileno=int(number)) for number in numbers.split(",") if number]
