"""Owns worker processes: how one is started, what it inherits, how its death is noticed and told.

A worker is a fresh interpreter that runs the command of this process again (`sys.orig_argv`) and finds in its
environment that it is one. It shares nothing with its supervisor but the listening sockets and a channel, so it has the
program's code as it is on disk now, and no thread, lock or ring of io_uring was forked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

from wireway.errors import WirewayError
from wireway.serve.channel import Channel
from wireway.serve.hub import Hub, Member
from wireway.serve.page import new_page

__all__ = ["VARIABLE", "Assignment", "Process"]

VARIABLE = "WIREWAY_WORKER"
"""The environment variable that makes a program a worker."""
_OURS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""What systemd tells the supervisor, and no worker."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is told at its birth."""

    number: int
    """Which of the workers, from 1. A worker that takes another's place has its number."""
    generation: int
    """How many workers had this number before, and 1."""
    channel: int
    """The descriptor of its end of the channel."""
    link: int
    """The descriptor of its end of the bus."""
    page: int
    """The descriptor of the page on which it keeps its counts."""
    will: int
    """The descriptor on which it is given the way to its successor."""
    succession: int | None
    """The descriptor of the way to its predecessor; None if it has none."""
    sockets: list[int]
    """The descriptors of the listening sockets."""
    addresses: list[str]
    """The addresses that the sockets are for, as the program gave them to its supervisor."""

    @classmethod
    def of_environment(cls) -> Self | None:
        """This process's, which is taken out of the environment; None for a process that is no worker."""
        text = os.environ.pop(VARIABLE, None)
        return None if text is None else cls(**json.loads(text))


class Process:
    """One worker process, seen by its supervisor."""

    def __init__(
        self,
        number: int,
        generation: int,
        process: subprocess.Popen[bytes],
        channel: Channel,
        member: Member,
        will: socket.socket,
    ) -> None:
        self.number = number
        self.generation = generation
        self.channel = channel
        self.member = member
        self.started = time.monotonic()
        self.is_ready = False
        self.leaving = False
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.why = ""
        """What it said before it failed to start."""
        self._process, self._will = process, will
        self._pidfd = os.pidfd_open(process.pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @classmethod
    async def start(
        cls,
        number: int,
        generation: int,
        sockets: Sequence[socket.socket],
        addresses: Sequence[str],
        hub: Hub,
        predecessor: Self | None = None,
    ) -> Self:
        """Start one, which `hub` takes in. It gets the connections of its `predecessor`, if that gives them.

        :raises WirewayError: the command of this process can not be run again.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        link, their_link = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        will, their_will = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        giver, taker = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        page = new_page()
        with theirs, their_link, their_will, giver, taker:
            descriptors = [sock.fileno() for sock in sockets]
            mine = (theirs.fileno(), their_link.fileno(), page, their_will.fileno())
            heir = None if predecessor is None else taker.fileno()
            assignment = Assignment(number, generation, *mine, heir, descriptors, list(addresses))
            environment = {**os.environ, VARIABLE: json.dumps(asdict(assignment))}
            for name in _OURS:
                environment.pop(name, None)
            command = [sys.executable, *sys.orig_argv[1:]]
            try:
                process = subprocess.Popen(  # noqa: ASYNC220  it returns once the program runs
                    command,
                    env=environment,
                    pass_fds=(*mine, *descriptors, *(() if heir is None else (heir,))),
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is for the supervisor, which tells them
                )
            except OSError as error:
                ours.close()
                link.close()
                will.close()
                os.close(page)
                raise WirewayError(f"a worker can not be started as {command}: {error.strerror}") from error
            member = hub.attach(link, page, number=number, pid=process.pid, generation=generation)
            if predecessor is not None:
                member.listens = True  # from before its predecessor hands over: it misses nothing in between
                predecessor._bequeath(giver)
        return cls(number, generation, process, await Channel.open(ours), member, will)

    def _bequeath(self, way: socket.socket) -> None:
        """Give it the way to its successor. One that does not read, or is gone, keeps what it has."""
        with contextlib.suppress(OSError):
            socket.send_fds(self._will, [b"w"], [way.fileno()], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not self._ended.is_set()

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._will.close()
        self._process.wait()
        if not self.ready.done():
            self.ready.set_result(False)
        self._ended.set()

    async def ended(self) -> None:
        """Wait for its end."""
        await self._ended.wait()

    def kill(self) -> None:
        """End it at once."""
        if self.alive:
            self._process.kill()

    def how(self) -> str:
        """How it ended, for people."""
        status = self._process.returncode
        if status is None:
            return "still runs"
        if status < 0:
            try:
                return f"killed by {signal.Signals(-status).name}"
            except ValueError:
                return f"killed by signal {-status}"
        return f"exit status {status}"
