"""The start and the end of an ASGI application: the lifespan protocol, 2.0.

Owns the Task that the application spends its life in. Knows no connections.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal, get_args

from wireway.errors import ConfigError, LifespanError
from wireway.http.options import Application, Event

__all__ = ["Lifespan", "LifespanMode"]

logger = logging.getLogger("wireway.http")

LifespanMode = Literal["auto", "on", "off"]


class Lifespan:
    """Tells an application that it starts and ends.

    :param mode: ``"auto"``: an application that fails at once knows no lifespan, and is served without;
        ``"on"``: that is an error; ``"off"``: it is not asked.
    """

    def __init__(self, app: Application, mode: LifespanMode = "auto") -> None:
        if mode not in get_args(LifespanMode):
            raise ConfigError(f"lifespan is {mode!r}, it must be one of {', '.join(get_args(LifespanMode))}")
        self._app = app
        self._mode = mode
        self._task: asyncio.Task[None] | None = None
        self._asked: asyncio.Queue[Event] = asyncio.Queue()
        self._started: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Wait until the application is ready.

        :raises LifespanError: it says that it failed; or it failed, and the mode is ``"on"``.
        """
        if self._mode == "off":
            return
        loop = asyncio.get_running_loop()
        self._started, self._ended = loop.create_future(), loop.create_future()
        self._asked = asyncio.Queue()
        self._asked.put_nowait({"type": "lifespan.startup"})
        self._task = loop.create_task(self._live(), name="lifespan")
        await self._started

    async def shutdown(self) -> None:
        """Tell the application to end, and wait until it has.

        :raises LifespanError: it says that it failed.
        """
        if self._task is None or self._ended is None:
            return
        task, self._task = self._task, None
        try:
            if not task.done():
                self._asked.put_nowait({"type": "lifespan.shutdown"})
                await self._ended
        finally:
            if not task.done():
                task.cancel()
            await asyncio.wait([task])

    async def _live(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        failure: LifespanError | None = None
        try:
            await self._app(scope, self._asked.get, self._hear)
        except (Exception, asyncio.CancelledError, BaseExceptionGroup) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            if self._started is None or self._started.done():
                logger.error("the application's lifespan failed", exc_info=error)
            elif self._mode == "on":
                failure = LifespanError(f"the application failed at its start: {type(error).__name__}: {error}")
                failure.__cause__ = error
            else:
                logger.debug("the application knows no lifespan (%s: %s)", type(error).__name__, error)
        finally:
            _settle(self._started, failure)
            _settle(self._ended, None)

    async def _hear(self, event: Event) -> None:
        match event["type"]:
            case "lifespan.startup.complete":
                _settle(self._started, None)
            case "lifespan.startup.failed":
                _settle(self._started, LifespanError(f"the application did not start: {_reason(event)}"))
            case "lifespan.shutdown.complete":
                _settle(self._ended, None)
            case "lifespan.shutdown.failed":
                _settle(self._ended, LifespanError(f"the application did not end in order: {_reason(event)}"))
            case other:
                raise ValueError(f"{other!r} is no event of a lifespan")


def _reason(event: Event) -> str:
    """The last line of what an application says; frameworks say a whole traceback, which goes to the log."""
    text = str(event.get("message") or "").strip()
    if "\n" in text:
        logger.error("%s", text)
    return text.rpartition("\n")[2].strip() or "it gave no reason"


def _settle(future: asyncio.Future[None] | None, error: LifespanError | None) -> None:
    if future is None or future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
