"""`FakeClock`: the time of a loop, moved by hand.

Owns the moments at which the loop looks at its deadlines. Knows no deadline: those are the loop's, `call_later` and
the native timers of connections alike.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Self

from wireway.errors import ConfigError, WirewayError
from wireway.loop import EventLoop

__all__ = ["FakeClock"]

_TURNS = 3
"""Turns after each step: a deadline wakes a Task, the Task acts, what it sent arrives over the loopback."""
_SLACK = 1e-6
"""Seconds that each step goes beyond its moment: 0.1 + 0.1 + 0.1 s are a little more than 0.3 s, in floating point."""


class FakeClock:
    """Stops the time of a loop, and moves it by hand: an idle timeout of an hour takes a test milliseconds.

    :param loop: the loop; the running one unless told.
    :raises WirewayError: no loop runs, or it is not a `wireway.EventLoop`.

    ::

        with FakeClock() as clock:
            sleeping = asyncio.create_task(asyncio.sleep(3600))
            await clock.advance(3600)
            assert sleeping.done()

    Everything that the loop does by time follows it: `call_later`, `asyncio.sleep`, `asyncio.timeout`, and the
    `Timeouts`, `Heartbeat` and rates of servers and clients. Not: `time.monotonic()` in your own code, threads, other
    processes, the kernel's timers (keepalive, user timeout), a `FaultyLink`.

    Afterwards the real time holds again. Deadlines that were made under the fake clock keep their moment: they wait
    as much longer as it was ahead.

    Thread rule: everything belongs to the thread that runs the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """The time stops when the ``with`` block begins."""
        if loop is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                raise WirewayError("no loop runs: make a FakeClock within a coroutine, or give it the loop") from None
        if not isinstance(loop, EventLoop):
            raise WirewayError(
                f"a FakeClock moves a wireway.EventLoop, not {type(loop).__name__}: use wireway.run(...), or "
                "asyncio.Runner(loop_factory=wireway.new_event_loop)"
            )
        self._loop: EventLoop = loop
        self._running = False

    @property
    def now(self) -> float:
        """The loop's time, in seconds: `loop.time()`."""
        return self._loop.time()

    async def advance(self, seconds: float, *, step: float = 0.05) -> None:
        """Let time go by: the loop runs what is due, in order, and what follows from it.

        :param seconds: how far, 0 or more. 0 only lets the loop turn.
        :param step: seconds at a time. Callbacks see the time of the step in which they became due, at most so much
            late; each step costs some microseconds.
        :raises ConfigError: a number is wrong.
        :raises WirewayError: the clock is not entered.

        Cancelled, it leaves the time where it has come to.
        """
        if not (isinstance(seconds, int | float) and 0 <= seconds < math.inf):
            raise ConfigError(f"FakeClock: seconds is {seconds!r}, it must be at least 0: time does not go back")
        if not (isinstance(step, int | float) and 0 < step < math.inf):
            raise ConfigError(f"FakeClock: step is {step!r}, it must be more than 0 seconds")
        if not self._running:
            raise WirewayError("the clock runs only within its block: `with FakeClock() as clock:`")
        # What was called before this, such as create_task, makes its deadlines at the present time.
        await self._turn()
        begin = self.now
        for number in range(1, math.ceil(seconds / step) + 1):
            self._loop._set_clock(begin + min(number * step, seconds) + _SLACK)
            await self._turn()
        await self._turn()
        self._loop._set_clock(begin + seconds)

    async def _turn(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def __enter__(self) -> Self:
        if self._running:
            raise WirewayError("the clock runs already")
        self._loop._set_clock(self._loop.time())
        self._running = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running = False
        if not self._loop.is_closed():
            self._loop._set_clock(None)
