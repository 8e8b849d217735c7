"""Owns what a client holds of the loop: its connection and the task that connects again, and how they are let go.

Apart from the client, so that they can be let go when the client is gone.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from contextlib import suppress

from wireway._native import Connection
from wireway.loop import EventLoop

__all__ = ["Hold", "caller"]


class Hold:
    """What must be let go when a client is collected. Knows the client by its address only."""

    def __init__(self, url: str, made_at: str) -> None:
        self._url, self._made_at = url, made_at
        self.loop: EventLoop | None = None
        self.connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None

    def running(self) -> EventLoop:
        """Its loop, once it is open."""
        assert self.loop is not None
        return self.loop

    def now(self) -> float:
        """The loop's time."""
        return self.running().time()

    def cancel(self) -> None:
        """End the task that connects again, unless that is who asks."""
        task, self.task = self.task, None
        if task is not None and not task.done() and task is not asyncio.current_task(self.loop):
            task.cancel()

    def resume(self) -> None:
        """Read on."""
        if self.connection is not None:
            self.connection.resume()

    def collected(self) -> None:
        """Its client is gone, and was not closed."""
        text = f"the client of {self._url}, made at {self._made_at}, was collected while it was open: close it"
        warnings.warn(text, ResourceWarning, stacklevel=2)
        with suppress(RuntimeError):  # the loop is closed, and its descriptors with it
            self.running().call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        self.cancel()
        if self.connection is not None:
            self.connection.abort("its client was collected")


def caller() -> str:
    """Where, outside of this package, a client is made."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "wireway":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
