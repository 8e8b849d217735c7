"""Owns worker processes: how one is started, what it inherits, how its death is noticed and told.

A worker is a fresh interpreter that runs the command of this process again (`sys.orig_argv`) and finds in its
environment that it is one. It shares nothing with its supervisor but the listening sockets and a channel, so it has the
program's code as it is on disk now, and no thread, lock or ring of io_uring was forked. A plan's text it gets as its
supervisor read it: a file that is wrong by now is no worker's end.
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
from typing import IO, Self

from wireway.errors import WirewayError
from wireway.serve.channel import Channel
from wireway.serve.halls import Hall
from wireway.serve.hub import Hub, Member
from wireway.serve.lasting import legacy
from wireway.serve.page import new_page

__all__ = ["VARIABLE", "Assignment", "Process", "Seat"]

VARIABLE = "WIREWAY_WORKER"
"""The environment variable that makes a program a worker."""
_OURS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""What systemd tells the supervisor, and no worker."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's part in one server."""

    name: str
    """Which of the plan's places; empty if there is no plan."""
    link: int
    """The descriptor of its end of the bus."""
    page: int
    """The descriptor of the page on which it keeps its counts."""
    succession: int | None
    """The descriptor of the way to its predecessor; None if it has none."""
    sockets: list[int]
    """The descriptors of the listening sockets."""
    addresses: list[str]
    """The addresses that the sockets are for, as the program gave them to its supervisor."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is told at its birth."""

    number: int
    """Which of the workers, from 1. A worker that takes another's place has its number."""
    generation: int
    """How many workers had this number before, and 1."""
    channel: int
    """The descriptor of its end of the channel."""
    will: int
    """The descriptor on which it is given the ways to its successor."""
    text: int | None
    """The descriptor of the plan's text; None if there is no plan."""
    seats: list[Seat]

    @classmethod
    def of_environment(cls) -> Self | None:
        """This process's, which is taken out of the environment; None for a process that is no worker."""
        text = os.environ.pop(VARIABLE, None)
        if text is None:
            return None
        told = json.loads(text)
        return cls(**{**told, "seats": [Seat(**seat) for seat in told["seats"]]})

    def read_text(self) -> bytes:
        """The plan's text. Once."""
        if self.text is None:
            return b""
        with open(self.text, "rb") as file:  # noqa: PTH123  it is a descriptor
            file.seek(0)
            return file.read()

    def fail(self, why: str, status: int) -> None:
        """Tell the supervisor that the worker can not be, and that another would fare no better."""
        word = {"kind": "failed", "why": why, "status": status}
        with contextlib.suppress(OSError), socket.socket(fileno=self.channel) as channel:
            channel.sendall(json.dumps(word).encode() + b"\n")


class Process:
    """One worker process, seen by its supervisor."""

    def __init__(
        self,
        number: int,
        generation: int,
        process: subprocess.Popen[bytes],
        channel: Channel,
        members: dict[Hub, Member],
        will: socket.socket,
    ) -> None:
        self.number = number
        self.generation = generation
        self.channel = channel
        self.members = members
        """What it is in the hub of each server."""
        self.started = time.monotonic()
        self.is_ready = False
        self.leaving = False
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.why = ""
        """What it said before it failed to start."""
        self.status: int | None = None
        """The exit status of the whole, if it said that another would fare no better."""
        self._process, self._will = process, will
        self._pidfd = os.pidfd_open(process.pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @classmethod
    async def start(
        cls, number: int, generation: int, halls: Sequence[Hall], text: bytes, predecessor: Self | None = None
    ) -> Self:
        """Start one, which the hubs of `halls` take in. It gets the connections of its `predecessor`, if it can.

        :param text: what it makes its servers of; empty if it knows them.
        :raises WirewayError: the command of this process can not be run again.
        """
        with contextlib.ExitStack() as theirs:
            ours, its = _pair(theirs, socket.SOCK_STREAM)
            will, its_will = _pair(theirs, socket.SOCK_SEQPACKET)
            kept = None if not text else theirs.enter_context(_kept(text)).fileno()
            desks = [_Desk(hall, number, theirs, predecessor) for hall in halls]
            seats = [desk.seat for desk in desks]
            assignment = Assignment(number, generation, its.fileno(), its_will.fileno(), kept, seats)
            passed = [its.fileno(), its_will.fileno(), *(() if kept is None else (kept,))]
            for seat in seats:
                heir = () if seat.succession is None else (seat.succession,)
                passed += [seat.link, seat.page, *heir, *seat.sockets]
            more = legacy()
            passed += more.descriptors
            environment = {**os.environ, **more.environment, VARIABLE: json.dumps(asdict(assignment))}
            for name in _OURS:
                environment.pop(name, None)
            command = [sys.executable, *sys.orig_argv[1:]]
            try:
                process = subprocess.Popen(  # noqa: ASYNC220  it returns once the program runs
                    command,
                    env=environment,
                    pass_fds=passed,
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is for the supervisor, which tells them
                )
            except OSError as error:
                ours.close()
                will.close()
                for desk in desks:
                    desk.close()
                raise WirewayError(f"a worker can not be started as {command}: {error.strerror}") from error
            members = {desk.hall.hub: desk.attach(number, generation, process.pid) for desk in desks}
            if predecessor is not None:
                for desk in desks:
                    if desk.giver is not None:
                        members[desk.hall.hub].listens = True  # from before the handover: it misses nothing in between
                        predecessor._bequeath(desk.hall.place.name, desk.giver)
        return cls(number, generation, process, await Channel.open(ours), members, will)

    def _bequeath(self, name: str, way: socket.socket) -> None:
        """Give it the way to its successor. One that does not read, or is gone, keeps what it has."""
        with contextlib.suppress(OSError):
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            socket.send_fds(self._will, [b"=", name.encode()], [way.fileno()], flags)

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


class _Desk:
    """One server of a worker that is to be started: what it will have of it, and what stays with its supervisor."""

    def __init__(self, hall: Hall, number: int, theirs: contextlib.ExitStack, predecessor: Process | None) -> None:
        self.hall = hall
        self._link, its_link = _pair(theirs, socket.SOCK_STREAM)
        self._page = new_page()
        self.giver: socket.socket | None = None
        taker: socket.socket | None = None
        if predecessor is not None and hall.hub in predecessor.members:
            self.giver, taker = _pair(theirs, socket.SOCK_STREAM)
            theirs.enter_context(self.giver)
        self.seat = Seat(
            hall.place.name,
            its_link.fileno(),
            self._page,
            None if taker is None else taker.fileno(),
            [sock.fileno() for sock in hall.share(number)],
            list(hall.place.addresses),
        )

    def attach(self, number: int, generation: int, pid: int) -> Member:
        """The worker runs."""
        return self.hall.hub.attach(self._link, self._page, number=number, pid=pid, generation=generation)

    def close(self) -> None:
        """It does not."""
        self._link.close()
        os.close(self._page)


def _pair(theirs: contextlib.ExitStack, kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    """Ours, and the worker's, which is closed here with `theirs`."""
    ours, its = socket.socketpair(socket.AF_UNIX, kind)
    return ours, theirs.enter_context(its)


def _kept(text: bytes) -> IO[bytes]:
    """A file in memory that a process can inherit."""
    file = os.fdopen(os.memfd_create("wireway-plan", os.MFD_CLOEXEC), "w+b")
    file.write(text)
    file.flush()
    return file
