"""`Hub`: the supervisor's side of the bus. What one worker publishes goes to the others; counts of all are collected.

Owns what waits for a worker, and the accounts of those that ended. Knows no connection, and of a worker its link, its
page and what the supervisor says of it.

A worker that does not read costs the supervisor `LIMIT` bytes and no time: what goes beyond is dropped for that worker
alone, counted, and told once for each time that it falls behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

from wireway.net.reach import WorkerInfo, WorkerState
from wireway.net.stats import ServerStats
from wireway.serve.link import ANSWER, ASK, HELLO, LIMIT, NOTED, POLL, PUBLISH, Link, pack, unpack
from wireway.serve.page import read_page

__all__ = ["LOST", "PATIENCE", "Hub", "Member"]

logger = logging.getLogger("wireway.supervisor")

PATIENCE = 1.0
"""Seconds after which a worker that has not written its page is silent."""
LOST = "worker-lost"
"""The code under which connections are closed that were open when their worker ended."""


class Member:
    """A worker that lives, as the hub sees it."""

    def __init__(self, number: int, pid: int, generation: int, page: int) -> None:
        self.number, self.pid, self.generation = number, pid, generation
        self.started = time.time()
        self.state: WorkerState = "starting"
        """The supervisor sets it; ``silent`` is the hub's own finding."""
        self.missed = 0
        """Messages that were dropped, in all."""
        self.link: Link
        self.page = page
        self.listens = False
        self.missed_now = 0  # since it fell behind
        self.asked = self.noted = 0  # the number of the last poll, and of the last that it answered
        self.silent_since: float | None = None  # when the oldest poll went that it has not answered


class _Question:
    def __init__(self, asker: Member, number: int) -> None:
        self.asker, self.number = asker, number
        self.waits: dict[Member, int] = {}
        self.timer: asyncio.TimerHandle | None = None


class Hub:
    """Joins workers.

    :param limit: bytes that may wait for one worker.
    :param patience: seconds that a question waits for a worker.

    Everything belongs to the thread that runs the loop.
    """

    def __init__(self, *, limit: int = LIMIT, patience: float = PATIENCE) -> None:
        self._limit, self._patience = limit, patience
        self._members: set[Member] = set()
        self._questions: set[_Question] = set()
        self._ended = ServerStats()

    def attach(self, sock: socket.socket, page: int, *, number: int, pid: int, generation: int) -> Member:
        """Take a worker in. Both descriptors are the hub's from now on."""
        member = Member(number, pid, generation, page)
        gone: Callable[[], None] = partial(self._silence, member)
        member.link = Link(sock, partial(self._take, member), gone, limit=self._limit)
        self._members.add(member)
        return member

    def detach(self, member: Member) -> None:
        """A worker has ended, however: what it said last is relayed, and its account is closed. Again: nothing."""
        if member not in self._members:
            return
        member.link.exhaust()
        member.link.close()
        self._members.discard(member)
        last = read_page(member.page)
        os.close(member.page)
        closed = dict(last.closed)
        if last.open:
            closed[LOST] = closed.get(LOST, 0) + last.open
        last = replace(last, open=0, queued=0, paused=0, handlers=0, closed=closed)
        self._ended = ServerStats.total((self._ended, last))
        for question in tuple(self._questions):
            if question.asker is member:
                self._forget(question)
            elif question.waits.pop(member, None) is not None:
                self._settle(question)

    def total(self) -> ServerStats:
        """The sum of all pages as they are now and of those that ended: ``accepted == open + sum(closed)`` holds."""
        return ServerStats.total((self._ended, *(read_page(member.page) for member in self._members)))

    def workers(self) -> list[WorkerInfo]:
        """Those that live, as of their pages now."""
        now = asyncio.get_running_loop().time()
        found = []
        for each in sorted(self._members, key=lambda member: (member.number, member.generation)):
            late = each.silent_since is not None and now - each.silent_since >= self._patience
            found.append(
                WorkerInfo(
                    number=each.number,
                    pid=each.pid,
                    started=each.started,
                    generation=each.generation,
                    state="silent" if late else each.state,
                    stats=read_page(each.page),
                    missed=each.missed,
                )
            )
        return found

    def close(self) -> None:
        """Let all go."""
        for member in tuple(self._members):
            self.detach(member)

    # --- what workers say -----------------------------------------------------------------------------

    def _take(self, member: Member, kind: int, frame: bytes) -> None:
        if kind == PUBLISH:
            for other in tuple(self._members):
                if other is not member and other.listens:
                    self._relay(other, frame)
        elif kind == HELLO:
            member.listens = True
        elif kind == NOTED:
            self._noted(member, unpack(frame)[0]["poll"])
        elif kind == ASK:
            self._ask(member, unpack(frame)[0]["ask"])

    def _relay(self, member: Member, frame: bytes) -> None:
        if member.link.send(frame):
            # Told once for each time that it falls behind, and that is over when half has left.
            if member.missed_now and member.link.queued <= self._limit // 2:
                text = "worker %d (process %d) reads again; it missed %d messages of other workers"
                logger.warning(text, member.number, member.pid, member.missed_now)
                member.missed_now = 0
            return
        if member.link.closed:
            return  # it ends
        if not member.missed_now:
            text = "worker %d (process %d) does not read what other workers publish: %d bytes wait, the rest is dropped"
            logger.warning(text, member.number, member.pid, member.link.queued)
        member.missed += 1
        member.missed_now += 1

    def _silence(self, member: Member) -> None:
        """Its link has ended before the process: nothing is sent to it any more, and nobody waits for it."""
        member.listens = False
        for question in tuple(self._questions):
            if question.waits.pop(member, None) is not None:
                self._settle(question)

    # --- questions --------------------------------------------------------------------------------------

    def _ask(self, asker: Member, number: int) -> None:
        """Every page is to be written anew; those that have been silent for long are not waited for."""
        loop = asyncio.get_running_loop()
        question = _Question(asker, number)
        for member in self._members:
            is_late = member.silent_since is not None and loop.time() - member.silent_since >= self._patience
            if not member.listens or is_late:
                continue
            if member.silent_since is None:
                member.silent_since = loop.time()
            member.asked += 1
            member.link.send(pack(POLL, {"poll": member.asked}))  # not taken: as good as not answered
            question.waits[member] = member.asked
        self._questions.add(question)
        question.timer = loop.call_later(self._patience, self._answer, question)
        self._settle(question)

    def _noted(self, member: Member, poll: int) -> None:
        member.noted = poll
        if poll >= member.asked:
            member.silent_since = None
        for question in tuple(self._questions):
            if question.waits.get(member, poll + 1) <= poll:
                del question.waits[member]
                self._settle(question)

    def _settle(self, question: _Question) -> None:
        if not question.waits:
            self._answer(question)

    def _answer(self, question: _Question) -> None:
        self._forget(question)
        workers = [asdict(each) for each in self.workers()]
        answer = {"ask": question.number, "ended": asdict(self._ended), "workers": workers}
        question.asker.link.send(pack(ANSWER, answer))

    def _forget(self, question: _Question) -> None:
        self._questions.discard(question)
        if question.timer is not None:
            question.timer.cancel()
