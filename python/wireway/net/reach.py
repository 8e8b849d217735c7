"""`WorkerInfo`, and what a server and that which joins it to the same server in other processes ask of each other.

Owns both faces. Knows no process: `wireway.serve` does, and puts itself into the server.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from wireway.net.stats import ServerStats

if TYPE_CHECKING:
    from wireway.net.server import Server

__all__ = ["Local", "Reach", "WorkerInfo", "WorkerState", "alone"]

WorkerState = Literal["starting", "serving", "draining", "silent"]
"""What a worker does: not there yet, serves, ends, or has not answered within a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerInfo:
    """One process of a server, as `Server.workers` tells it."""

    number: int
    """Which of the workers, from 1; 0 for a server without workers. A successor has its predecessor's."""
    pid: int
    """Process id."""
    started: float
    """When it was started, in seconds since the epoch."""
    generation: int
    """How many had this number before it, and 1."""
    state: WorkerState
    """A worker that is ``silent`` is stopped or stuck: `stats` is the last that it wrote."""
    stats: ServerStats = field(default_factory=ServerStats)
    """What it counted."""
    missed: int = 0
    """Messages of other workers that it did not get, as too much waited for it."""


class Reach(Protocol):
    """What joins a server to the same one in other processes."""

    # Let the others deliver a message to ``all``, to a ``group`` or to a ``user``. It never waits or raises.
    def publish(self, to: str, name: str | None, message: bytes, key: bytes | None, when_slow: str | None) -> None: ...
    async def total(self) -> ServerStats: ...  # The sum of all processes, those that ended among them.
    async def workers(self) -> list[WorkerInfo]: ...  # Each process that lives, by number and generation.


class Local:
    """A server, as the bus sees it: this process's part of it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def deliver(self, to: str, name: str | None, message: bytes, *, key: bytes | None, when_slow: str | None) -> int:
        """Send what another process published to the connections of this one."""
        core = self._server._core
        if core is None:
            return 0
        if to == "user" and name is not None:
            return core.send_to_user(name, message)
        return core.broadcast(message, name, (), key=key, when_slow=when_slow)

    def counted(self) -> ServerStats:
        """What it has counted."""
        return self._server.stats

    def join(self, reach: Reach | None) -> None:
        """Publish by this from now on, or no more."""
        self._server._reach = reach


_STARTED = time.time()


def alone(stats: ServerStats, serving: bool) -> list[WorkerInfo]:
    """The one process of a server without workers."""
    state: WorkerState = "serving" if serving else "starting"
    return [WorkerInfo(number=0, pid=os.getpid(), started=_STARTED, generation=1, state=state, stats=stats)]
