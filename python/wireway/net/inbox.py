"""Owns the messages that a client has received and nobody has taken: bounded by pausing the connection.

Knows no connection. Serves `receive` and handlers that suspend.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Inbox"]

MESSAGES, BYTES = 1000, 1024 * 1024
"""What may wait before reading pauses. What came with the same piece may be over it. Reading goes on below half."""


class Inbox:
    """A queue of messages with an end. `resume` is called when there is room again after `full` was seen."""

    def __init__(self, resume: Callable[[], None]) -> None:
        self._messages: deque[bytes] = deque()
        self._bytes = 0
        self._resume = resume
        self._was_full = False
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._ended = False

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: bytes) -> None:
        """Keep it for who takes next."""
        self._messages.append(message)
        self._bytes += len(message)
        self._wake()

    @property
    def full(self) -> bool:
        """Whether reading should pause."""
        self._was_full = self._was_full or len(self._messages) >= MESSAGES or self._bytes >= BYTES
        return self._was_full

    def take(self) -> bytes | None:
        """The next message, None if there is none."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._bytes -= len(message)
        if self._was_full and len(self._messages) <= MESSAGES // 2 and self._bytes <= BYTES // 2:
            self._was_full = False
            self._resume()
        return message

    async def get(self) -> bytes | None:
        """The next message; waits for one. None at the end. Several may wait: first come, first served.

        Cancellation takes no message.
        """
        while not self._messages or self._waiters:
            if self._ended and not self._messages:
                return None
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                else:
                    self._wake()  # it was told of a message that another may have now
                raise
            if self._messages:
                break
        message = self.take()
        if self._messages:
            self._wake()
        return message

    def end(self) -> None:
        """No more will come. What is here can still be taken."""
        self._ended = True
        while self._waiters:
            self._waiters.popleft().set_result(None)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
