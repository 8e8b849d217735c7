"""Whether a server is ready for more: what a load balancer asks.

Owns the questions: does each server accept, are descriptors left, what do the program's own checks say. Answers each
with a `Finding`. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from wireway.errors import WirewayError
from wireway.net.descriptors import budget
from wireway.net.reach import WorkerInfo
from wireway.net.server import Server

__all__ = ["CHECK_TIMEOUT", "Check", "Finding", "Readiness"]

logger = logging.getLogger("wireway.metrics")

Check = Callable[[], bool] | Callable[[], Awaitable[bool]]
CHECK_TIMEOUT = 2.0
"""Seconds that a check has. Kubernetes waits one second for an answer unless told, HAProxy two."""
ROOM = 16
"""With fewer free descriptors a server is not ready: it could hardly accept."""


_STATES = {"serving": "", "new": "not started"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question."""

    name: str
    good: bool
    why: str = ""
    """What is wrong, if something is."""


class Readiness:
    """Asks. Belongs to the loop's thread."""

    def __init__(self, checks: Mapping[str, Check], timeout: float) -> None:
        self._checks, self._timeout = dict(checks), timeout

    async def find(self, servers: Sequence[Server]) -> list[Finding]:
        """Every answer. Checks that wait do so at the same time."""
        found = []
        for server in servers:
            found += await _accepting(server)
        backend = next((server.backend for server in servers if server.state not in ("new", "ended")), "epoll")
        room = budget(backend).room
        found.append(Finding("descriptors", room >= ROOM, "" if room >= ROOM else f"{room} are left"))
        found += await asyncio.gather(*(self._ask(name, check) for name, check in self._checks.items()))
        return found

    async def _ask(self, name: str, check: Check) -> Finding:
        patience = asyncio.timeout(self._timeout)
        try:
            async with patience:
                answer = check()
                if inspect.isawaitable(answer):
                    answer = await answer
        except Exception as error:
            if patience.expired():
                return Finding(name, False, f"no answer within {self._timeout:g} s")
            logger.exception("the check %r failed", name)
            return Finding(name, False, type(error).__name__)
        return Finding(name, bool(answer))


async def _accepting(server: Server) -> list[Finding]:
    place = (server.addresses or [str(address) for address in server._addresses])[0]
    name = f"accepting on {place}"
    try:
        workers = await server.workers()
    except WirewayError as error:
        return [Finding(name, False, str(error))]
    if not any(info.number for info in workers):
        return [Finding(name, server.state == "serving", _STATES.get(server.state, server.state))]
    return [_of_workers(name, workers)]


def _of_workers(name: str, workers: Sequence[WorkerInfo]) -> Finding:
    """Of all together. One that takes another's place changes nothing while that other, or its likes, serve."""
    if silent := [info for info in workers if info.state == "silent"]:
        return Finding(name, False, f"worker {silent[0].number} (process {silent[0].pid}) is silent")
    if young := [info for info in workers if info.state == "starting" and info.generation == 1]:
        return Finding(name, False, f"worker {young[0].number} is starting")
    if not any(info.state == "serving" for info in workers):
        return Finding(name, False, "draining")
    return Finding(name, True)
