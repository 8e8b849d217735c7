"""`Bus`: a worker's side of what joins workers. Broadcasts go out and come in; counts are written where they survive.

Owns the link to the hub and this worker's page. Knows other workers by what the hub answers.

A message is delivered here natively first, then published once; the hub gives it to the others and never back. Messages
of one worker arrive everywhere in the order in which it sent them; between those of two workers there is no order.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any, Protocol

from wireway.errors import WirewayError
from wireway.net.reach import Reach, WorkerInfo
from wireway.net.stats import ServerStats
from wireway.serve.link import ANSWER, ASK, HELLO, LIMIT, NOTED, POLL, PUBLISH, Link, pack, unpack
from wireway.serve.page import write_page

__all__ = ["INTERVAL", "Bus", "Joined"]

logger = logging.getLogger("wireway.worker")

INTERVAL = 0.25
"""Seconds between two writings of the page: how old the counts of a killed worker may be, if its loop turned."""
PATIENCE = 5.0
"""Seconds that a question waits for the supervisor, which itself waits one second for a silent worker."""
_FAREWELL = 1.0


class Joined(Protocol):
    """What is asked of a server here."""

    def deliver(
        self, to: str, name: str | None, message: bytes, *, key: bytes | None, when_slow: str | None
    ) -> int: ...  # To the connections of this process only.
    def counted(self) -> ServerStats: ...  # What it has counted.
    def join(self, reach: Reach | None) -> None: ...  # Publish by this from now on, or no more.


class Bus:
    """Joins the server of this process to those of other workers.

    :param server: whose broadcasts are published, and which delivers those of others.
    :param sock: the link to the hub; the bus owns it.
    :param page: a descriptor of this worker's page; the bus owns it.
    :param name: this worker's, which no other has or had.
    :param held: keep what comes until `release`: the connections that it is for are still with a predecessor.

    Everything belongs to the thread that runs the loop.
    """

    def __init__(
        self,
        server: Joined,
        sock: socket.socket,
        page: int,
        *,
        name: str = "",
        held: bool = False,
        limit: int = LIMIT,
        interval: float = INTERVAL,
        patience: float = PATIENCE,
    ) -> None:
        self._server, self._page, self._patience = server, page, patience
        self._loop = asyncio.get_running_loop()
        self._interval = interval
        self._turn = 0
        self._written: ServerStats | None = None
        self._questions: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asked = 0
        self._is_behind = False
        self._name, self._published = name, 0
        self._heard: dict[str, int] = {}
        self._held: list[bytes] | None = [] if held else None
        self.unpublished = 0
        """Messages that other workers did not get, as the supervisor did not read."""
        self._link = Link(sock, self._take, self._lost, limit=limit)
        self._link.send(pack(HELLO, {}))
        self._timer = self._loop.call_later(interval, self._tick)
        server.join(self)

    # --- messages ---------------------------------------------------------------------------------------

    def publish(self, to: str, name: str | None, message: bytes, key: bytes | None, when_slow: str | None) -> None:
        """Let the others deliver a message. Dropped, counted and told once where the supervisor does not read."""
        self._published += 1
        head: dict[str, Any] = {"to": to, "from": self._name, "number": self._published}
        if name is not None:
            head["name"] = name
        if key is not None:
            head["key"] = bytes(key).decode("latin-1")
        if when_slow is not None:
            head["when_slow"] = when_slow
        if self._link.send(pack(PUBLISH, head, message)):
            self._is_behind = False
        elif not self._link.closed:
            self.unpublished += 1
            if not self._is_behind:
                self._is_behind = True
                text = "the supervisor does not take messages for other workers: %d bytes wait, a message of %d is lost"
                logger.warning(text, self._link.queued, len(message))

    def _take(self, kind: int, frame: bytes) -> None:
        if kind not in (PUBLISH, POLL, ANSWER):
            return
        if kind == PUBLISH and self._held is not None:
            self._held.append(frame)
            return
        head, payload = unpack(frame)
        if kind == PUBLISH:
            # A predecessor delivered it, and the hub was slower than the connections.
            if head["number"] <= self._heard.get(head["from"], 0):
                return
            self._heard[head["from"]] = head["number"]
            key = head.get("key")
            self._server.deliver(
                head["to"],
                head.get("name"),
                payload,
                key=None if key is None else key.encode("latin-1"),
                when_slow=head.get("when_slow"),
            )
        elif kind == POLL:
            self.note()
            self._link.send(pack(NOTED, {"poll": head["poll"]}))
        elif (waiting := self._questions.pop(head["ask"], None)) is not None and not waiting.done():
            waiting.set_result(head)

    def position(self) -> dict[str, int]:
        """How far the messages of each worker were delivered here: by name, the number of the last.

        What has arrived by now is delivered first: it may be older than a successor's link, which has all after it.
        """
        self._link.exhaust()
        return {**self._heard, self._name: self._published}

    def release(self, position: dict[str, int]) -> None:
        """Deliver what was held back, and from now on all at once; not what `position` says was delivered already."""
        self._heard = dict(position)
        held, self._held = self._held or [], None
        for frame in held:
            self._take(PUBLISH, frame)

    # --- counts -----------------------------------------------------------------------------------------

    def note(self) -> None:
        """Write the page, if something was counted since."""
        stats = self._server.counted()
        if stats != self._written:
            self._turn += 1
            write_page(self._page, self._turn, stats)
            self._written = stats

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._interval, self._tick)
        self.note()

    async def total(self) -> ServerStats:
        """The sum of all workers, those that ended among them.

        :raises WirewayError: the supervisor is gone, or did not answer within 5 s.
        """
        answer = await self._ask()
        each = (ServerStats.of(worker["stats"]) for worker in answer["workers"])
        return ServerStats.total((ServerStats.of(answer["ended"]), *each))

    async def workers(self) -> list[WorkerInfo]:
        """Each worker that lives, by number and generation.

        :raises WirewayError: the supervisor is gone, or did not answer within 5 s.
        """
        answer = await self._ask()
        return [WorkerInfo(**{**each, "stats": ServerStats.of(each["stats"])}) for each in answer["workers"]]

    async def _ask(self) -> dict[str, Any]:
        self._asked += 1
        number, waiting = self._asked, self._loop.create_future()
        self._questions[number] = waiting
        try:
            if not self._link.send(pack(ASK, {"ask": number})):
                raise WirewayError("the supervisor can not be asked: it is gone, or does not read")
            return await asyncio.wait_for(waiting, self._patience)
        except TimeoutError:
            raise WirewayError(f"the supervisor did not answer within {self._patience:g} s") from None
        finally:
            self._questions.pop(number, None)

    # --- the end ----------------------------------------------------------------------------------------

    def _lost(self) -> None:
        for waiting in self._questions.values():
            if not waiting.done():
                waiting.set_exception(WirewayError("the supervisor is gone"))

    async def close(self) -> None:
        """Write the last counts, let what was published leave for at most one second, and part. Call it once drained.

        Cancelled, it parts at once.
        """
        self._server.join(None)
        self._timer.cancel()
        try:
            self.note()
            await self._link.flushed(_FAREWELL)
        finally:
            self._link.close()
            self._lost()
            os.close(self._page)
