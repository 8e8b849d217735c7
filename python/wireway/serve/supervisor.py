"""`Supervisor`: keeps a number of workers alive on shared listening sockets; rolls them, drains them, tells systemd.

Owns the life of workers. Knows no connection and runs none of the program's handlers: it can not be stalled by them.

```text
           start              ready                 SIGHUP: the next one is ready
  (none) ---------> starting --------> serving ----------------------------------> leaving ---> (none)
     ^                 | died, not ready  | died: told, and started anew                |
     +--- backoff -----+------------------+                                             | drained
```

A worker has listening sockets of its own (SO_REUSEPORT), and the supervisor holds every one of them open: what waits in
the queue of a worker that died, or is being replaced, is accepted by its successor (ADR 0013).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from wireway.errors import WirewayError
from wireway.events import WorkerDied, WorkersReplaced, WorkerStarted, logged, tell
from wireway.serve.halls import Halls
from wireway.serve.notify import notify, reloading, watchdog_interval
from wireway.serve.spawning import Process

__all__ = ["StartError", "Supervisor"]

logger = logging.getLogger("wireway.supervisor")

START = 30.0
"""Seconds within which a worker must serve."""
BACKOFF, LONGEST_BACKOFF = 0.1, 5.0
"""Seconds before a dead worker is replaced: doubled with each death, up to the second."""
LONG_LIFE = 10.0
"""Seconds of life after which a death is no longer counted with those before."""
TRIES = 3
"""At the start of all, so many failures of one worker end the whole."""
GRACE = 5.0
"""Seconds beyond the drain's own deadline after which a worker that is to end is killed."""


class StartError(WirewayError):
    """The workers could not be started. `status` is the exit status that one of them asked for, if one did."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class Supervisor:
    """Runs workers on the sockets of `halls` until SIGINT or SIGTERM.

    :param renew: called at SIGHUP: the halls that are to be served from then on, or None if nothing is to be done; it
        tells by itself what is wrong.

    Everything belongs to the thread that runs the loop, which is the main thread.
    """

    def __init__(self, halls: Halls, renew: Callable[[Halls], Halls | None] | None = None) -> None:
        self._halls = halls
        self._renew = renew
        self._processes: set[Process] = set()
        self._generations: Counter[int] = Counter()
        self._deaths: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._rolling = asyncio.Lock()
        self._once_more = False
        self._served = False
        self._failure: StartError | None = None

    @property
    def _count(self) -> int:
        return self._halls.plan.workers

    async def run(self) -> None:
        """Start the workers, keep them, and end them on a signal.

        The sockets of the halls are closed at the end, if they are theirs.

        :raises StartError: a worker could not be started when all began.
        """
        loop = asyncio.get_running_loop()
        for end in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(end, self._signalled)
        for rolls in (signal.SIGHUP, signal.SIGUSR2):
            loop.add_signal_handler(rolls, self._roll_on_signal)
        self._spawn(self._pet())
        for number in range(1, self._count + 1):
            self._spawn(self._keep(number))
        try:
            await self._stopping.wait()
            notify("STOPPING=1", "STATUS=draining")
            await self._end_all()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for process in self._processes:
                process.kill()
            for process in tuple(self._processes):
                await process.ended()
                process.channel.close()
            self._halls.close_but()
        if self._failure is not None:
            raise self._failure

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- life of one worker ---------------------------------------------------------------------------

    async def _start(self, number: int, predecessor: Process | None = None) -> Process:
        """Start a worker and wait until it serves, or until it has failed to."""
        self._generations[number] += 1
        halls, text = self._halls.having(number), self._halls.plan.text
        process = await Process.start(number, self._generations[number], halls, text, predecessor)
        self._processes.add(process)
        self._spawn(self._listen(process))
        try:
            async with asyncio.timeout(START):
                process.is_ready = await asyncio.shield(process.ready)
        except TimeoutError:
            process.why = f"it did not serve within {START:g} s"
            process.kill()
            await process.ended()
        except asyncio.CancelledError:
            process.leaving = True
            raise
        if process.is_ready:
            self._serves(process)
        return process

    async def _listen(self, process: Process) -> None:
        async for word in process.channel.words():
            if word["kind"] == "ready" and not process.ready.done():
                process.ready.set_result(True)
            elif word["kind"] == "failed":
                process.why, process.status = word["why"], word.get("status")
        await process.ended()
        process.channel.close()
        for hub, member in process.members.items():
            hub.detach(member)
        self._processes.discard(process)

    async def _keep(self, number: int) -> None:
        """Have a worker with this number, always."""
        while not self._stopping.is_set() and number <= self._count:
            process = await self._start(number)
            await process.ended()
            if process.leaving or self._stopping.is_set():
                return
            await self._died(process)

    async def _died(self, process: Process) -> None:
        number = process.number
        lived = asyncio.get_running_loop().time() - process.started
        if process.is_ready and lived >= LONG_LIFE:
            self._deaths[number] = 0
        self._deaths[number] += 1
        how = f"{process.why} ({process.how()})" if process.why else process.how()
        if not self._served and not process.is_ready:
            if process.status is not None:
                self._failure = StartError(process.why, process.status)
            elif self._deaths[number] >= TRIES:
                self._failure = StartError(f"worker {number} did not start, {TRIES} times in a row: {how}")
            if self._failure is not None:
                self._stopping.set()
                return
        wait = min(BACKOFF * 2 ** (self._deaths[number] - 1), LONGEST_BACKOFF)
        event = WorkerDied(worker=number, pid=process.pid, how=how, lived=lived)
        logger.error(
            "worker %d (process %d) died after %.1f s: %s; another is started in %.1f s",
            *(number, process.pid, lived, how, wait),
            extra=logged(event),
        )
        tell(event)
        notify(f"STATUS=worker {number} died: {how}")
        await asyncio.sleep(wait)

    # --- all of them ------------------------------------------------------------------------------------

    def _serves(self, process: Process) -> None:
        """A worker serves. Once each number has one that does, the service is up."""
        for member in process.members.values():
            member.state = "serving"
        text = "worker %d serves, process %d, generation %d"
        event = WorkerStarted(worker=process.number, pid=process.pid, generation=process.generation)
        logger.info(text, process.number, process.pid, process.generation, extra=logged(event))
        tell(event)
        serving = {each.number for each in self._processes if each.is_ready}
        if not self._served and serving >= set(range(1, self._count + 1)):
            self._served = True
            notify("READY=1", f"STATUS={self._count} workers serve")

    async def _pet(self) -> None:
        """Tell the watchdog that this process lives."""
        interval = watchdog_interval()
        while interval is not None:
            notify("WATCHDOG=1")
            await asyncio.sleep(interval)

    def _roll_on_signal(self) -> None:
        if self._rolling.locked():
            self._once_more = True  # those that were replaced already have not seen what has changed since
            logger.info("a roll is under way; another one follows it")
            return
        self._spawn(self._roll_all())

    async def _roll_all(self) -> None:
        """Roll, and again for who asked meanwhile."""
        async with self._rolling:
            self._once_more = True
            while self._once_more and not self._stopping.is_set():
                self._once_more = False
                await self._roll()

    async def _roll(self) -> None:
        """Replace the workers one by one. One that does not come up ends the roll; its predecessor goes on."""
        reloading()
        before = self._halls
        halls = before if self._renew is None else self._renew(before)
        if halls is not None:
            self._halls = halls
        event = WorkersReplaced(whole=halls is not None and await self._replace_all(before))
        if event.whole:
            logger.info("every worker was replaced", extra=logged(event))
        tell(event)
        notify("READY=1", f"STATUS={self._count} workers serve")

    async def _replace_all(self, before: Halls) -> bool:
        """Whether all workers serve the present halls in the place of those before."""
        rolled = False
        for old in sorted((p for p in self._processes if p.is_ready), key=lambda process: process.number):
            if not old.alive or self._stopping.is_set():
                continue
            if old.number > self._count:
                await self._end(old)
                continue
            new = await self._start(old.number, old)
            if not new.is_ready:
                how = f"{new.why} ({new.how()})" if new.why else new.how()
                logger.error(
                    "the roll ends at worker %d, whose successor did not start: %s; process %d goes on",
                    *(old.number, how, old.pid),
                )
                if not rolled and self._halls is not before:
                    self._halls.close_but(before)
                    self._halls = before
                return False
            if not rolled and self._halls is not before:
                before.close_but(self._halls)
            rolled = True
            old.leaving = True
            self._spawn(self._adopt(new))
            await self._end(old)
        if not rolled and self._halls is not before:
            before.close_but(self._halls)  # none served when it began: those that are started now serve the new ones
        for number in range(before.plan.workers + 1, self._count + 1):
            self._spawn(self._keep(number))
        return True

    async def _adopt(self, process: Process) -> None:
        """Keep a worker that took the place of another."""
        await process.ended()
        if not process.leaving and not self._stopping.is_set():
            await self._died(process)
            await self._keep(process.number)

    async def _end(self, process: Process) -> None:
        """Drain one; kill it if it does not end."""
        process.leaving = True
        for member in process.members.values():
            member.state = "draining"
        process.channel.send("drain")
        try:
            async with asyncio.timeout(self._halls.plan.drain_timeout + GRACE):
                await process.ended()
        except TimeoutError:
            logger.warning("worker %d (process %d) does not end and is killed", process.number, process.pid)
            process.kill()
            await process.ended()

    async def _end_all(self) -> None:
        await asyncio.gather(*(self._end(process) for process in tuple(self._processes)))

    def _signalled(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            return
        for process in self._processes:
            process.channel.send("abort")
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().call_later(1.0, process.kill)
