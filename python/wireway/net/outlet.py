"""Owns what a client sends, and when: at once, after a reconnect in its order, or never.

On a new connection leaves first what `on_reconnect` sends, then what was not acknowledged, then what waited, then what
is newer. Knows nothing of how the connection is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial

from wireway._native import Connection
from wireway.errors import ConnectionClosedError, WirewayError
from wireway.net.client_options import ClientState
from wireway.net.holding import Hold
from wireway.net.outgoing import Held, Outgoing, OutgoingQueue
from wireway.net.requests import Correlate, Requests, Waiting, fail
from wireway.net.resending import Resend, Unacknowledged
from wireway.net.sending import SendResult

__all__ = ["Outlet"]

logger = logging.getLogger("wireway.client")

_GREETING: ContextVar[object] = ContextVar("wireway_client_greeting")
"""Set while an `on_reconnect` runs, in its context: what it sends goes before what waits."""


class Outlet:
    """The sending half of one client."""

    def __init__(
        self, hold: Hold, queue: OutgoingQueue | None, resend: Resend | None, requests: Correlate | None
    ) -> None:
        self._hold = hold
        self._outgoing = None if queue is None else Outgoing(queue)
        self._unacknowledged = None if resend is None else Unacknowledged(resend)
        self.requests = Requests(None, requests)
        self.ready = False
        """Whether messages go to the connection at once: it is open, and nothing waits that must leave before."""
        self.dropped = 0
        self._greeting: object = None

    @property
    def queued(self) -> int:
        """Messages that wait for a connection."""
        return 0 if self._outgoing is None else len(self._outgoing)

    # --- one message ----------------------------------------------------------------------------------

    async def put(self, message: bytes, waiting: Waiting | None) -> None:
        """Send it, or keep it until there is a connection. See `Client.send`."""
        if not self._may_send():
            data = bytes(message)
            if self._outgoing is not None and self._hold.state is not ClientState.CLOSED and not self._is_greeting():
                await self._outgoing.room(len(data))
            if not self._may_send():
                self._hold_back(Held(data, waiting))
                return
        self._hand_over(message, waiting)
        connection = self._hold.connection
        if connection is not None and not connection.writable:
            await connection.drain()

    def put_nowait(self, message: bytes) -> SendResult:
        """The same without waiting. See `Client.send_nowait`."""
        if self._may_send():
            return self._hand_over(message, None)
        self._hold_back(Held(bytes(message), None))
        return SendResult.QUEUED

    def _may_send(self) -> bool:
        connection = self._hold.connection
        if connection is None or connection.is_closing:
            return False
        return self.ready or self._is_greeting()

    def _is_greeting(self) -> bool:
        return self._greeting is not None and _GREETING.get(None) is self._greeting

    def _hold_back(self, held: Held) -> None:
        """Keep it until there is a connection."""
        self._hold.check_opened()
        refused = self._hold.state in (ClientState.CLOSING, ClientState.CLOSED) or self._is_greeting()
        if refused or self._outgoing is None:
            raise self._hold.closed_error()
        for dropped in self._outgoing.put(held):
            self.dropped += 1
            if dropped.waiting is not None:
                fail(dropped.waiting, lambda: ConnectionClosedError("dropped from the outgoing queue for a newer one"))

    def _hand_over(self, message: bytes, waiting: Waiting | None) -> SendResult:
        """Give it to the connection, which sends in this order."""
        connection = self._hold.connection
        if connection is None:
            raise self._hold.closed_error()
        if waiting is not None:
            self.requests.sent(waiting)
        try:
            result = connection.send_nowait(message)
        except BaseException:
            if waiting is not None:
                self.requests.forget(waiting)
            raise
        if self._unacknowledged is not None and result is not SendResult.DROPPED:
            for forgotten in self._unacknowledged.sent(bytes(message), waiting, self._hold.now()):
                if not self.requests.has(forgotten):  # it was to leave again, and now never will
                    fail(forgotten, self._hold.lost_error)
        return result

    # --- what comes back ------------------------------------------------------------------------------

    def received(self, message: bytes) -> bool:
        """Whether `message` was an acknowledgement or an answer, and goes no further."""
        if self._unacknowledged is not None and self._unacknowledged.received(message):
            return True
        answered = self.requests.received(message)
        if answered is None:
            return False
        if self._unacknowledged is not None:
            self._unacknowledged.answered(answered)
        return True

    # --- the connection is lost, and made again -------------------------------------------------------

    def lost(self) -> None:
        """The connection ended, and another will be made: requests fail, but those that leave again."""
        kept = [] if self._unacknowledged is None else self._unacknowledged.lost(self._hold.now())
        self.requests.closed(self._hold.lost_error, kept)

    @contextmanager
    def greeting(self) -> Generator[None, None, None]:
        """What is sent within, in this context, goes first."""
        greeting = self._greeting = object()
        reset = _GREETING.set(greeting)
        try:
            yield
        finally:
            if self._greeting is greeting:
                self._greeting = None
            _GREETING.reset(reset)

    async def catch_up(self, connection: Connection) -> None:
        """Send again what must be, then what waits; from then on messages leave at once."""
        with suppress(ConnectionClosedError):
            if self._unacknowledged is not None:
                for message, waiting in self._unacknowledged.resumed(self._hold.now()):
                    await self._leave(connection, partial(self._hand_over, message, waiting))
            while self._outgoing is not None and self._outgoing.busy:
                held = self._outgoing.peek()
                if held is None:
                    await asyncio.sleep(0)  # who waited for room puts its message now
                else:
                    await self._leave(connection, partial(self._release, held, self._outgoing))
            self.ready = connection is self._hold.connection

    @staticmethod
    async def _leave(connection: Connection, send: Callable[[], object]) -> None:
        send()
        if not connection.writable:
            await connection.drain()

    def _release(self, held: Held, outgoing: Outgoing) -> None:
        """Hand over what waited, unless nobody waits for its answer any more."""
        if held.waiting is None or not held.waiting.future.done():
            try:
                self._hand_over(held.message, held.waiting)
            except ConnectionClosedError:
                raise
            except WirewayError as error:  # the framing does not take it: nobody is there to be told but the log
                self.dropped += 1
                logger.error("%s: a message that waited for a connection is dropped: %s", self._hold.url, error)
                if held.waiting is not None:
                    fail(held.waiting, partial(ConnectionClosedError, f"the request was not sent: {error}"))
        outgoing.pop()

    def end(self) -> None:
        """The client is closed: all that waits, fails."""
        self.ready = False
        self.requests.closed(self._hold.lost_error)
        if self._unacknowledged is not None:
            for waiting in self._unacknowledged.clear():
                fail(waiting, self._hold.lost_error)
        while self._outgoing is not None and len(self._outgoing):
            self.dropped += 1
            held = self._outgoing.pop()
            if held.waiting is not None:
                fail(held.waiting, self._hold.closed_error)
