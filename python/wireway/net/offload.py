"""Owns blocking handlers: `Offload` is what `on_message(threads=8)` says, `Pool` runs it for one server.

The order of a connection's messages is kept without a lock: to the server the pool is an `async def` handler that
waits, so the connection's next message is not handled, and soon not read, before this one is done::

    loop's thread                           a worker thread
    handle(conn, message) -- jobs --------> function(view, message)
        |  at most `queue` at a time            |  view.send(): hops back, and waits above the high watermark
        v                                       v
    conn.send(result) <-- call_soon_threadsafe -- bytes, an iterable of bytes, or None

With `processes=` each worker thread owns one process and does nothing but talk to it: see `workers.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Any, final

from wireway._native import Connection, Done
from wireway.errors import ConfigError, ConnectionClosedError, WirewayError
from wireway.net.workers import PeerInfo, Worker, pieces_of

__all__ = ["BlockingResult", "Offload", "Pool", "ProcessHandler", "ThreadConnection", "ThreadHandler", "is_async"]

logger = logging.getLogger("wireway.server")

BlockingResult = bytes | Iterable[bytes] | None
"""What a blocking handler returns: it is sent to the peer, each piece of an iterable as one message."""


class Offload:
    """A blocking handler, and where it runs. A value: nothing starts before the server does."""

    def __init__(
        self, function: Callable[..., Any], *, threads: int | None, processes: int | None, queue: int = 1000
    ) -> None:
        """Check the options.

        :raises ConfigError: one is wrong, or the handler is an ``async def``, which does not block.
        """
        if threads is not None and processes is not None:
            raise ConfigError("threads and processes exclude each other")
        for name, value in (("threads", threads), ("processes", processes), ("queue", queue)):
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"{name} is {value!r}, it must be at least 1")
        if is_async(function):
            raise ConfigError(f"{_name(function)} is an async def: it runs in the loop, not in threads or processes")
        self.function = function
        self.workers = threads or processes or 1
        self.queue = queue
        self.in_processes = processes is not None

    def check(self) -> None:
        """At the start of the server, when the handler's module is complete: can a process get at it?

        :raises ConfigError: it can not.
        """
        if not self.in_processes:
            return
        try:
            pickle.dumps(self.function)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"another process can not call {_name(self.function)}: {error}; make it a function of a module"
            ) from error


@final
class ThreadConnection:
    """What a handler in a thread gets in the place of a `Connection`. Its methods may be called in that thread only.

    Each method hops to the loop's thread and waits until it is done there.
    """

    __slots__ = ("_conn", "_pool", "id", "local", "peer", "state")

    def __init__(self, conn: Connection, pool: Pool) -> None:
        """On the loop's thread."""
        self._conn, self._pool = conn, pool
        self.id: int = conn.id
        """As `Connection.id`."""
        self.peer: Any = conn.peer
        """As `Connection.peer`."""
        self.local: Any = conn.local
        """As `Connection.local`."""
        self.state: Any = conn.state
        """What `Connection.state` was when the message came. Whoever changes it uses a lock."""

    def send(self, message: bytes) -> None:
        """Queue a message, and block while more than the high watermark waits to be sent.

        :raises ConnectionClosedError: the connection is closed, or the server has stopped.
        """
        self._pool.hop(self._conn.send, message)

    def close(self, why: str = "closed by the server") -> None:
        """As `Connection.close`: what is queued is sent before."""
        self._pool.hop(self._conn.close, why)

    def abort(self, why: str = "aborted by the server") -> None:
        """As `Connection.abort`."""
        self._pool.hop(self._conn.abort, why)

    @property
    def is_closing(self) -> bool:
        """As `Connection.is_closing`: a long answer may look at it and give up."""
        return self._conn.is_closing

    def __repr__(self) -> str:
        return f"<ThreadConnection {self.id} peer={self.peer}>"


ThreadHandler = Callable[[ThreadConnection, bytes], BlockingResult]
ProcessHandler = Callable[[PeerInfo, bytes], BlockingResult]

_Job = tuple[ThreadConnection, bytes, "asyncio.Future[list[bytes]]", Context]


class Pool:
    """The worker threads of one running server. Made, stopped and asked on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, offload: Offload) -> None:
        """Start the workers. Processes start in the background."""
        self._loop, self._thread = loop, threading.get_ident()
        self._function, self._name = offload.function, _name(offload.function)
        self._room = asyncio.Semaphore(offload.queue)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._calls = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._stopped = False
        self._hops: set[Future[None]] = set()
        self._hopping: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._processes = [Worker(offload.function) for _ in range(offload.workers)] if offload.in_processes else []
        self._left = offload.workers
        self._ended = asyncio.Event()
        for number in range(offload.workers):
            process = self._processes[number] if self._processes else None
            # Daemons: a call that never returns must not keep the program from ending.
            name = f"wireway-{self._name}-{number + 1}"
            threading.Thread(target=self._work, args=(process,), name=name, daemon=True).start()

    # --- on the loop's thread ---------------------------------------------------------------------------

    async def handle(self, conn: Connection, message: bytes) -> None:
        """The server's `on_message`: have the message handled, and send what comes back.

        Cancelled, it leaves the call running; what that returns is dropped.
        """
        await self._room.acquire()
        future: asyncio.Future[list[bytes]] = self._loop.create_future()
        self._calls += 1
        self._quiet.clear()
        self._jobs.put((ThreadConnection(conn, self), message, future, copy_context()))
        for piece in await future:
            await conn.send(piece)

    async def quiet(self, seconds: float) -> None:
        """Wait until no call runs, for so many seconds at most."""
        try:
            await asyncio.wait_for(self._quiet.wait(), max(seconds, 0.0))
        except TimeoutError:
            logger.warning("%d calls of %s still run at the end of the server", self._calls, self._name)

    def stop(self) -> None:
        """End the workers: calls that wait are dropped, a process in a call is killed, a thread goes on alone."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            hops = list(self._hops)
        for future in hops:
            _settle(future, ConnectionClosedError("the server has stopped"))
        for _ in range(self._left):
            self._jobs.put(None)
        for process in self._processes:
            process.stop()

    async def ended(self) -> None:
        """After `stop`: wait until every process is gone. Threads are not waited for: nobody can end them."""
        if self._processes:
            await self._ended.wait()

    def _done(self, future: asyncio.Future[list[bytes]], pieces: list[bytes], error: BaseException | None) -> None:
        """A call is done."""
        self._room.release()
        self._calls -= 1
        if self._calls == 0:
            self._quiet.set()
        if future.done():
            if error is not None and not self._stopped:
                logger.error("%s failed after its connection had gone", self._name, exc_info=error)
        elif error is None:
            future.set_result(pieces)
        else:
            future.set_exception(error)

    def _gone(self) -> None:
        """A worker has ended."""
        self._left -= 1
        if self._left == 0:
            self._ended.set()

    # --- on a worker's thread ---------------------------------------------------------------------------

    def _work(self, process: Worker | None) -> None:
        if process is not None:
            process.start()
        while (job := self._jobs.get()) is not None:
            view, message, future, context = job
            pieces: list[bytes] = []
            error: BaseException | None = None
            try:
                if self._stopped:
                    raise ConnectionClosedError("the server has stopped")
                if process is not None:
                    pieces = process.call(PeerInfo(view.id, view.peer), message)
                else:
                    pieces = context.run(self._call, view, message)
            except Exception as caught:  # noqa: BLE001 - it is the connection's, which ends with it
                error = _storable(caught)
            except BaseException as caught:  # noqa: BLE001 - SystemExit of a handler must not end the server
                error = RuntimeError(f"{self._name} raised {type(caught).__name__}")
                error.__cause__ = caught
            self._tell(self._done, future, pieces, error)
            del job, view, message, future, context, pieces, error  # nothing is kept while it waits
        if process is not None:
            process.end()
        self._tell(self._gone)

    def _call(self, view: ThreadConnection, message: bytes) -> list[bytes]:
        """Call the handler in this thread. What it yields is sent piece by piece, as fast as the peer takes it."""
        result = self._function(view, message)
        if result is None or isinstance(result, bytes | bytearray | memoryview):
            return [] if result is None else [bytes(result)]
        for piece in pieces_of(result, self._name):
            view.send(piece)
        return []

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be told

    def hop(self, function: Callable[..., Awaitable[None] | None], *arguments: Any) -> None:
        """Call a method of a connection on the loop's thread, await what it returns, and block until then."""
        if threading.get_ident() == self._thread:
            raise WirewayError("a ThreadConnection is for its handler's thread; use the Connection here")
        future: Future[None] = Future()
        with self._lock:
            if self._stopped:
                raise ConnectionClosedError("the server has stopped")
            self._hops.add(future)
        try:
            self._loop.call_soon_threadsafe(self._land, future, function, arguments)
            future.result()
        except RuntimeError as error:
            if future.done():
                raise
            raise ConnectionClosedError("the server's loop is closed") from error
        finally:
            with self._lock:
                self._hops.discard(future)

    def _land(self, future: Future[None], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """A hop has arrived on the loop's thread."""
        try:
            result = function(*arguments)
        except Exception as error:  # noqa: BLE001 - raised in the thread that asked
            _settle(future, error)
            return
        if result is None or isinstance(result, Done):
            _settle(future, None)
        else:
            task = self._loop.create_task(_wait(future, result))
            self._hopping.add(task)
            task.add_done_callback(self._hopping.discard)


async def _wait(future: Future[None], result: Awaitable[None]) -> None:
    try:
        await result
    except asyncio.CancelledError:
        _settle(future, ConnectionClosedError("the server has stopped"))
        raise
    except Exception as error:  # noqa: BLE001 - raised in the thread that asked
        _settle(future, error)
    else:
        _settle(future, None)


def _settle(future: Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _storable(error: Exception) -> Exception:
    """A future takes no StopIteration: as PEP 479 does with generators."""
    if isinstance(error, StopIteration):
        wrapped = RuntimeError("the handler raised StopIteration")
        wrapped.__cause__ = error
        return wrapped
    return error


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine."""
    return any(map(inspect.iscoroutinefunction, (function, getattr(function, "__call__", None))))  # noqa: B004


def _name(function: object) -> str:
    return getattr(function, "__qualname__", type(function).__name__)
