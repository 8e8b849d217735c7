"""The Task of a suspended handler. See crates/py/src/step.rs for when there is one."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Any

from wireway._native import HandlerCoroutine

__all__ = ["HandlerTask"]


class HandlerTask(asyncio.Task[Any]):
    """A Task that tells its coroutine when somebody cancels or observes it."""

    _log_destroy_pending = False

    def __init__(self, coro: HandlerCoroutine, *, loop: asyncio.AbstractEventLoop, context: Context) -> None:
        self._shell = coro
        super().__init__(coro, loop=loop, context=context)

    def cancel(self, msg: Any | None = None) -> bool:
        """As `asyncio.Task.cancel`."""
        self._shell.touch()
        return super().cancel(msg)

    def add_done_callback(self, fn: Any, /, *, context: Context | None = None) -> None:
        """As `asyncio.Task.add_done_callback`."""
        self._shell.touch()
        super().add_done_callback(fn, context=context)

    def _wireway_retrieve(self) -> None:
        # The server reports the error; asyncio need not add that nobody retrieved it.
        if self.done() and not self.cancelled():
            self.exception()
