"""Owns what waits to be sent while a client has no connection: `OutgoingQueue`, its bounds and its policies.

Knows no connection: its client puts in, and takes out when it is connected again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal

from wireway.errors import ConfigError, QueueFullError
from wireway.net.requests import Waiting

__all__ = ["Held", "Outgoing", "OutgoingQueue"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OutgoingQueue:
    """What may wait while a client has no connection. It leaves in order, before what is sent later.

    :raises ConfigError: an option is wrong.
    """

    messages: int = 1000
    """Messages at most."""
    bytes: int = 1024 * 1024
    """Bytes of messages at most, without their framing. One message that is larger is always refused."""
    when_full: Literal["refuse", "drop-oldest", "wait"] = "refuse"
    """``"refuse"``: `QueueFullError`. ``"drop-oldest"``: what waits longest is lost, and counted in `Client.dropped`.
    ``"wait"``: `send` and `request` wait for room, for as long as the server is away; `send_nowait` is refused."""

    def __post_init__(self) -> None:
        for name in ("messages", "bytes"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ConfigError(f"OutgoingQueue: {name} is {getattr(self, name)!r}, it must be at least 1")
        if self.when_full not in ("refuse", "drop-oldest", "wait"):
            text = f"OutgoingQueue: when_full is {self.when_full!r}, allowed are 'refuse', 'drop-oldest' and 'wait'"
            raise ConfigError(text)


@dataclass(frozen=True, slots=True)
class Held:
    """A message that waits, with the request that it is, if it is one."""

    message: bytes
    waiting: Waiting | None


class Outgoing:
    """The queue of one client."""

    def __init__(self, options: OutgoingQueue) -> None:
        self._options = options
        self._held: deque[Held] = deque()
        self._bytes = 0
        self._turns = asyncio.Lock()
        """Who waits for room, first come, first served."""
        self._wanting = 0
        self._popped: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    @property
    def busy(self) -> bool:
        """Whether a message waits here, or somebody with one for room."""
        return bool(self._held) or self._wanting > 0

    def put(self, held: Held) -> list[Held]:
        """Keep it. Returns what was dropped for it.

        :raises QueueFullError: there is no room, and the policy is not to drop.
        """
        size, options = len(held.message), self._options
        if size > options.bytes:
            raise QueueFullError(f"a message of {size:,} bytes never fits the outgoing queue of {options.bytes:,}")
        dropped = []
        while not self._fits(size):
            if options.when_full != "drop-oldest":
                raise QueueFullError(
                    f"not connected, and {len(self._held):,} messages of {self._bytes:,} bytes wait already: "
                    f"the outgoing queue takes {options.messages:,} messages and {options.bytes:,} bytes"
                )
            dropped.append(self.pop())
        self._held.append(held)
        self._bytes += size
        return dropped

    async def room(self, size: int) -> None:
        """Wait, in turn, until a message of `size` bytes fits. Only with the policy ``"wait"``: else return at once.

        Who returns from it must `put`, or find out that the client has ended, before awaiting anything else.
        """
        if self._options.when_full != "wait" or size > self._options.bytes:
            return
        self._wanting += 1
        try:
            async with self._turns:
                while not self._fits(size):
                    self._popped = asyncio.get_running_loop().create_future()
                    await self._popped
        finally:
            self._wanting -= 1

    def peek(self) -> Held | None:
        """What leaves next."""
        return self._held[0] if self._held else None

    def pop(self) -> Held:
        """Take out what leaves next."""
        held = self._held.popleft()
        self._bytes -= len(held.message)
        if self._popped is not None and not self._popped.done():
            self._popped.set_result(None)
        return held

    def _fits(self, size: int) -> bool:
        return len(self._held) < self._options.messages and self._bytes + size <= self._options.bytes
