"""`run_server`: what `Server.run` does, in this process, as a supervisor of workers, or as one of them.

Owns the choice. Each of the three has its own file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

from wireway.errors import ConfigError, WirewayError
from wireway.loop import new_event_loop
from wireway.serve.halls import Halls, Plan
from wireway.serve.handover import Heir, Moveable, hand_over
from wireway.serve.notify import activated, notify, reloading, watchdog_interval
from wireway.serve.spawning import Assignment
from wireway.serve.supervisor import Supervisor
from wireway.serve.worker import Served, run_worker

__all__ = ["Runnable", "Workers", "run_plan", "run_server"]

logger = logging.getLogger("wireway.supervisor")

Workers = int | Literal["auto"] | None
"""How many worker processes: None for none, "auto" for one on each core that this process may use."""


class Runnable(Served, Moveable, Protocol):
    """What is asked of a server that runs."""

    drain_timeout: float
    """Seconds that it gives its connections to finish."""

    def check(self) -> None: ...  # Refuse what can not be served.
    def listen(self, takers: int) -> list[list[socket.socket]]: ...  # Open the sockets for so many: those of each.
    def close_sockets(self) -> None: ...  # Close them, and remove their files.


def run_server(
    server: Runnable, *, backend: str, debug: bool | None, workers: Workers, started: Callable[[], None]
) -> None:
    """Serve until SIGINT or SIGTERM, then drain and return.

    :raises ConfigError: `workers` is wrong, or was asked for outside of the main thread.
    :raises WirewayError: the workers can not be started.
    """
    count = _count(workers)
    assignment = Assignment.of_environment()
    if assignment is not None and count is not None:
        run_worker(assignment, {"": server}, backend, debug, started)
        return
    heir = Heir.of_environment()
    given = activated()
    if given:
        server.inherit(given)
    if count is None:
        with asyncio.Runner(debug=debug, loop_factory=partial(new_event_loop, backend)) as runner:
            runner.run(_serve_here(server, started, heir))
        return
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("workers= needs the main thread: the supervisor's signals are handled there")
    server.check()
    try:
        sockets = server.listen(count)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_supervise(Halls.of(server.run_addresses(), sockets, server.drain_timeout), None))
    finally:
        server.close_sockets()


def run_plan(read: Callable[[], Plan]) -> None:
    """Supervise workers that serve a plan until SIGINT or SIGTERM. SIGHUP reads it again, and replaces them one by one.

    Each of them runs the command of this process again, finds its `Assignment`, and calls `run_worker`.

    :param read: the plan as it is now. What it raises at SIGHUP is logged, and all stays as it was.
    :raises StartError: the workers do not start.
    :raises OSError: an address can not be listened on; `AddressInUseError` if somebody else does.
    """

    def renew(before: Halls) -> Halls | None:
        try:
            return before.take(read())
        except (WirewayError, OSError) as error:
            for line in str(error).splitlines():
                logger.error("%s", line)
            logger.error("nothing was changed: what was served before goes on")
            return None

    halls = Halls().take(read(), activated())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_supervise(halls, renew))


async def _supervise(halls: Halls, renew: Callable[[Halls], Halls | None] | None) -> None:
    await Supervisor(halls, renew).run()


async def _serve_here(server: Runnable, started: Callable[[], None], heir: Heir | None) -> None:
    if heir is None:
        await server.start()
    else:
        try:
            await heir.take(server)
        except WirewayError as error:
            raise SystemExit(f"{error}; this program ends, and the old one goes on") from None
    loop = asyncio.get_running_loop()
    main = asyncio.ensure_future(server.serve())
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _stop, server, main, [])
        loop.add_signal_handler(signal.SIGUSR2, _succeed, server, set())
    started()
    notify("READY=1", f"MAINPID={os.getpid()}")
    petting = asyncio.ensure_future(_pet())
    try:
        await main
    except asyncio.CancelledError:
        if not main.cancelled():
            raise  # it is we who were cancelled, and not the draining by a second signal
    finally:
        petting.cancel()
        await asyncio.gather(petting, return_exceptions=True)


def _stop(server: Served, main: asyncio.Future[None], signals: list[None]) -> None:
    if signals:
        main.cancel()
        return
    signals.append(None)
    notify("STOPPING=1", "STATUS=draining")
    server.stop()


def _succeed(server: Runnable, under_way: set[asyncio.Task[None]]) -> None:
    """SIGUSR2. Once at a time."""
    if not under_way:
        task = asyncio.ensure_future(_hand_over(server))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


async def _hand_over(server: Runnable) -> None:
    reloading()
    successor = await hand_over(server)
    if successor is None:
        notify("READY=1", "STATUS=the hot restart failed, see the log")
        return
    notify(f"MAINPID={successor}", "READY=1")
    server.stop()


async def _pet() -> None:
    interval = watchdog_interval()
    while interval is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval)


def _count(workers: object) -> int | None:
    if workers is None:
        return None
    if workers == "auto":
        return len(os.sched_getaffinity(0))
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise ConfigError(f'workers is {workers!r}, it must be at least 1, "auto" for one on each core, or None')
    return workers
