"""Owns what a client holds of the loop, its connection and the task that connects again, and what it is to say.

Apart from the client, so that the connection can be let go when the client is gone, and nothing refers back to it.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from contextlib import suppress

from wireway._native import Connection
from wireway.errors import ConnectError, ConnectionClosedError, WirewayError
from wireway.loop import EventLoop
from wireway.net.client_options import ClientState
from wireway.net.closing import CloseReason

__all__ = ["Hold", "caller"]


class Hold:
    """What must be let go when a client is collected. Knows the client by its address only."""

    def __init__(self, url: str, made_at: str) -> None:
        self.url, self._made_at = url, made_at
        self.state = ClientState.IDLE
        self.reason: CloseReason | None = None
        self.gave_up = False
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
        text = f"the client of {self.url}, made at {self._made_at}, was collected while it was open: close it"
        warnings.warn(text, ResourceWarning, stacklevel=2)
        with suppress(RuntimeError):  # the loop is closed, and its descriptors with it
            self.running().call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        self.cancel()
        if self.connection is not None:
            self.connection.abort("its client was collected")

    # --- what to say ----------------------------------------------------------------------------------

    def check_opened(self) -> None:
        """:raises WirewayError: nobody has opened the client yet."""
        if self.state is ClientState.IDLE:
            raise WirewayError("the client is not open: await it, or enter it with `async with`")

    def closed_error(self) -> ConnectError | ConnectionClosedError:
        """For who asks a client that has no connection."""
        reason = self.reason
        told = "its connection is closing" if reason is None else f"{reason.code}: {reason.why}"
        if self.gave_up:
            error = ConnectError(f"the client of {self.url} has given up: {told}")
            if reason is not None and isinstance(reason.error, ConnectError):
                error.attempts = reason.error.attempts
            return error
        return ConnectionClosedError(f"the client of {self.url} is {self.state}: {told}")

    def lost_error(self) -> ConnectionClosedError:
        """For who waits for an answer that the end of the connection made impossible."""
        reason = self.reason
        told = "closed" if reason is None else f"{reason.code}: {reason.why}"
        return ConnectionClosedError(f"the connection to {self.url} ended before the answer: {told}")


def caller() -> str:
    """Where, outside of this package, a client is made."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "wireway":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
