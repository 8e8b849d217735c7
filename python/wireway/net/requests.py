"""Owns which answer belongs to which request: by order, or by an id in both. Over any framing.

`Requests` is fed with what arrives (`received`) and told of the end (`closed`). It serves a client's connection and a
server's alike, and knows neither sockets nor clients: only something with a `send`.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Protocol

from wireway.errors import ConfigError, QueueFullError, RequestTimeoutError, WirewayError

__all__ = ["Correlate", "Requests", "Sender", "Waiting", "check_deadline", "fail"]

MOST = 10_000
"""Requests that may be under way on one connection: a peer that never answers costs no more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlate:
    """Requests and answers that belong together by an id in both, so that answers may come in any order.

    Both functions run for each message: they should be quick and must not raise. An exception is the handler's error
    of that connection, and closes it.

    :raises ConfigError: one of the two is no function.
    """

    request_id: Callable[[bytes], Hashable]
    """The id in a request. No two requests under way may have the same."""
    answer_id: Callable[[bytes], Hashable | None]
    """The id of the request that a message answers, or None for a message that is no answer. An answer that nobody
    waits for is a message like any other."""

    def __post_init__(self) -> None:
        for name in ("request_id", "answer_id"):
            if not callable(getattr(self, name)):
                raise ConfigError(f"Correlate: {name} is {getattr(self, name)!r}, it must be a function of a message")


class Sender(Protocol):
    """What `Requests` wants of a connection: that `send` takes the message when it is called, before it is awaited."""

    def send(self, message: bytes, /) -> Awaitable[None]: ...


class Waiting:
    """A request under way. It is abandoned when its `future` is done before the answer comes."""

    __slots__ = ("future", "key", "message")

    def __init__(self, message: bytes, key: Hashable, future: asyncio.Future[bytes]) -> None:
        self.message, self.key, self.future = message, key, future


class Requests:
    """The requests under way on one connection.

    ::

        begin --> sent --> received             the answer is there
                    |
                    +----> deadline, cancelled  abandoned: its answer is swallowed when it comes
                    |
                    +----> closed               ConnectionClosedError, or kept and sent again

    :param connection: what `request` sends on; None for a user of `begin`, `sent` and `answer`, which sends itself.
    :param correlate: how answers are told apart; None: the n-th message that arrives answers the n-th request.

    Thread rule: everything belongs to the loop's thread.
    """

    def __init__(self, connection: Sender | None = None, correlate: Correlate | None = None) -> None:
        if correlate is not None and not isinstance(correlate, Correlate):
            raise ConfigError(f"requests is {correlate!r}, it must be a Correlate, or None for answers in order")
        self._connection, self._correlate = connection, correlate
        self._order: deque[Waiting] = deque()
        self._ids: dict[Hashable, Waiting] = {}
        self._late: OrderedDict[Hashable, Waiting] = OrderedDict()
        """Abandoned requests by id, the oldest first, `MOST` at most."""

    @property
    def pending(self) -> int:
        """Requests whose answer somebody waits for."""
        return sum(not waiting.future.done() for waiting in (*self._order, *self._ids.values()))

    @property
    def in_order(self) -> bool:
        """Whether answers are told apart by their order alone."""
        return self._correlate is None

    async def request(self, message: bytes, *, deadline: float | None = None) -> bytes:
        """Send `message` and wait for its answer. Others may be under way: they are pipelined.

        :param deadline: seconds until `RequestTimeoutError`, the wait for room to send included; None for none.
        :raises RequestTimeoutError: no answer in time. One that comes later is swallowed.
        :raises ConnectionClosedError: the connection ended before the answer. The peer may have acted on the request.
        :raises QueueFullError: 10,000 requests are under way.

        Cancellation leaves the request with the peer; its answer is swallowed, so that the order is kept.
        """
        waiting = self.begin(message)
        return await self.answer(waiting, self._send(waiting), deadline)

    async def _send(self, waiting: Waiting) -> None:
        if self._connection is None:
            raise WirewayError("these requests have no connection to send on")
        self.sent(waiting)
        try:
            sending = self._connection.send(waiting.message)
        except BaseException:
            self.forget(waiting)
            raise
        await sending

    # --- the steps of a request -----------------------------------------------------------------------

    def begin(self, message: bytes) -> Waiting:
        """A request that has not been sent yet.

        :raises QueueFullError: too many are under way. `WirewayError`: one with the same id is.
        """
        key = None if self._correlate is None else self._correlate.request_id(message)
        if len(self._order) + len(self._ids) >= MOST:
            raise QueueFullError(f"{MOST:,} requests are under way: the peer does not answer, or not as fast")
        if key in self._ids:
            raise WirewayError(f"a request with the id {key!r} is under way already: ids must differ")
        return Waiting(message, key, asyncio.get_running_loop().create_future())

    def sent(self, waiting: Waiting) -> None:
        """It is handed to the connection now: its answer may come from here on."""
        if self._correlate is None:
            self._order.append(waiting)
        elif waiting.future.done():  # sent again, and nobody waits for it any more
            self._abandoned(waiting)
        else:
            self._late.pop(waiting.key, None)
            self._ids[waiting.key] = waiting

    def forget(self, waiting: Waiting) -> None:
        """It was not sent after all."""
        if self._correlate is None:
            self._order.remove(waiting)
        elif self._ids.get(waiting.key) is waiting:
            del self._ids[waiting.key]

    def has(self, waiting: Waiting) -> bool:
        """Whether it was sent on the present connection, and has no answer yet."""
        return self._ids.get(waiting.key) is waiting if self._correlate is not None else waiting in self._order

    async def answer(self, waiting: Waiting, sending: Awaitable[None], deadline: float | None) -> bytes:
        """Await `sending`, then the answer: see `request`."""
        limit = asyncio.timeout(deadline)
        try:
            async with limit:
                await sending
                return await waiting.future
        except TimeoutError:
            if not limit.expired():
                raise
            raise RequestTimeoutError(f"no answer within {deadline:g} s") from None
        finally:
            if not waiting.future.done():
                waiting.future.cancel()
            if waiting.future.cancelled():
                self._leave(waiting)
            else:
                waiting.future.exception()  # read, also where `sending` failed first: else asyncio reports it

    def _leave(self, waiting: Waiting) -> None:
        if self._ids.get(waiting.key) is waiting:
            del self._ids[waiting.key]
            self._abandoned(waiting)

    def _abandoned(self, waiting: Waiting) -> None:
        self._late[waiting.key] = waiting
        if len(self._late) > MOST:
            self._late.popitem(last=False)

    # --- what the connection says ---------------------------------------------------------------------

    def received(self, message: bytes) -> Waiting | None:
        """The request that `message` answers, or None: it is no answer, and somebody else's to handle."""
        if self._correlate is None:
            if not self._order:
                return None
            waiting = self._order.popleft()
        else:
            if not self._ids and not self._late:
                return None
            key = self._correlate.answer_id(message)
            found = None if key is None else self._ids.pop(key, None) or self._late.pop(key, None)
            if found is None:
                return None
            waiting = found
        if not waiting.future.done():
            waiting.future.set_result(message)
        return waiting

    def closed(self, error: Callable[[], Exception], kept: Collection[Waiting] = ()) -> None:
        """The connection ended: what is under way fails with `error()`, but not those `kept`, to be `sent` again."""
        under_way = [*self._order, *self._ids.values()]
        self._order.clear()
        self._ids.clear()
        self._late.clear()
        for waiting in under_way:
            if waiting not in kept:
                fail(waiting, error)


def fail(waiting: Waiting, error: Callable[[], Exception]) -> None:
    """End one request, unless it has ended."""
    if not waiting.future.done():
        waiting.future.set_exception(error())


def check_deadline(deadline: float | None, name: str = "deadline") -> None:
    """:raises ConfigError: it is neither None nor a number of seconds above 0."""
    if deadline is None:
        return
    number = isinstance(deadline, int | float) and not isinstance(deadline, bool) and math.isfinite(deadline)
    if not number or deadline <= 0:
        raise ConfigError(f"{name} is {deadline!r}, it must be more than 0 seconds, or None for no limit")
