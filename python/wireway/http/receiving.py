"""Waiting for a client while its request is answered: for more of its body, or for its end.

Owns who may wait, and that nobody waits any more once the answer is complete: ASGI tells `http.disconnect` then. Knows
no application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from wireway._native import Connection, HttpExchange
from wireway.errors import ConnectionClosedError

__all__ = ["DISCONNECT", "Watch", "next_bytes"]

DISCONNECT = "http.disconnect"
_KEPT = 64 * 1024
"""Bytes of following requests that are kept while the application waits for the client's end."""


async def next_bytes(conn: Connection, exchange: HttpExchange, seconds: float | None) -> bytes | None:
    """What comes next of a body; None if the answer was completed meanwhile.

    :raises TimeoutError: nothing came for so many seconds.
    :raises ConnectionClosedError: the client has gone.
    """
    coming = conn.receive()
    if not isinstance(coming, asyncio.Future):
        return await coming
    waiting: asyncio.Future[bytes] = coming
    exchange.on_over(waiting.cancel)
    try:
        async with asyncio.timeout(seconds):
            return await waiting
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if exchange.over and task is not None and not task.cancelling():
            return None
        raise
    finally:
        exchange.on_over(None)


class Watch:
    """Sees the end of a client whose request was read, for any number of Tasks.

    What the client sends meanwhile are its next requests: they are kept, so much of them. Its silence is not counted:
    it waits for us.
    """

    def __init__(
        self,
        conn: Connection,
        exchange: HttpExchange,
        ends: dict[int, Callable[[], None]],
        watches: dict[int, Watch],
    ) -> None:
        self.exchange = exchange
        self._conn = conn
        self._ends = ends
        self._watches = watches
        self._waiters: list[asyncio.Future[None]] = []
        self._coming: asyncio.Future[bytes] | None = None
        self._is_over = False
        conn._be_patient(True)
        exchange.on_over(self._over)
        self._listen()

    def wait(self) -> asyncio.Future[None]:
        """Done at the end of the client, or of the answer. Cancelling it changes nothing."""
        future = asyncio.get_running_loop().create_future()
        if self._is_over:
            future.set_result(None)
        else:
            self._waiters.append(future)
        return future

    def _listen(self) -> None:
        conn, parser = self._conn, self.exchange.parser
        while parser.pending <= _KEPT:
            try:
                coming: Any = conn.receive()
            except ConnectionClosedError:
                self._settle()
                return
            if isinstance(coming, asyncio.Future):
                self._coming = coming
                coming.add_done_callback(self._came)
                return
            try:
                next(coming.__await__())
            except StopIteration as arrived:
                parser.push(arrived.value)
        if conn.is_closing:
            self._settle()
        else:
            self._ends[conn.id] = self._settle

    def _came(self, coming: asyncio.Future[bytes]) -> None:
        self._coming = None
        if coming.cancelled() or self._is_over:
            return
        if coming.exception() is not None:
            self._settle()
            return
        self.exchange.parser.push(coming.result())
        self._listen()

    def _over(self) -> None:
        """The answer is complete."""
        coming, self._coming = self._coming, None
        if coming is not None:
            if coming.done() and not coming.cancelled() and coming.exception() is None:
                self.exchange.parser.push(coming.result())  # it came in this turn, and `_came` was not called yet
            coming.cancel()
        self._ends.pop(self._conn.id, None)
        if not self._conn.is_closing:
            self._conn._be_patient(False)
        self._settle()

    def _settle(self) -> None:
        self._is_over = True
        if self._watches.get(self._conn.id) is self:
            del self._watches[self._conn.id]
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)
