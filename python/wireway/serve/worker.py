"""Owns a worker's side: it serves one server or several on the sockets that it inherited, and ends when it is told to.

Knows its supervisor by a channel only. When that ends, the supervisor is gone: the worker drains and ends too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from wireway.errors import ConfigError, WirewayError
from wireway.loop import new_event_loop
from wireway.serve.bus import Bus, Joined
from wireway.serve.channel import Channel
from wireway.serve.handover import Heir, Moveable, hand_to_successor
from wireway.serve.spawning import Assignment, Seat

__all__ = ["Served", "run_worker"]


class Served(Moveable, Protocol):
    """What is asked of a server here."""

    @property
    def local(self) -> Joined: ...  # What the bus asks of it.

    def run_addresses(self) -> list[str]: ...  # The addresses that it was made with.
    def inherit(self, sockets: list[socket.socket]) -> None: ...  # Serve on these sockets instead of its own.
    async def start(self) -> None: ...  # Begin.
    async def serve(self) -> None: ...  # Go on until stopped, then drain.
    def stop(self) -> None: ...  # Stop serving.
    async def close(self) -> None: ...  # Drain, and end.


def run_worker(
    assignment: Assignment,
    servers: Mapping[str, Served],
    backend: str,
    debug: bool | None,
    started: Callable[[], None],
    status_of: Callable[[BaseException], int] | None = None,
) -> None:
    """Serve as one of several until the supervisor says otherwise.

    :param servers: by the names of the plan's places; of a server without a plan the name is empty.
    :param status_of: if the start fails, the supervisor is told why, and to end with this exit status; unless given it
        tries again.
    """
    places = {seat.name: _Place(seat, servers[seat.name]) for seat in assignment.seats}
    channel, will = socket.socket(fileno=assignment.channel), socket.socket(fileno=assignment.will)
    for seat in assignment.seats:
        now = places[seat.name].server.run_addresses()
        if now != seat.addresses:
            for place in places.values():
                place.close()
            channel.close()
            will.close()
            raise ConfigError(
                f"the addresses are {now} now, they were {seat.addresses}: "
                "workers keep the supervisor's sockets; stop the server and start it again"
            )
    for place in places.values():
        place.server.inherit(place.sockets)
    with asyncio.Runner(debug=debug, loop_factory=partial(new_event_loop, backend)) as runner:
        runner.run(_work(channel, will, f"{assignment.number}.{assignment.generation}", places, started, status_of))


class _Place:
    """One of the worker's servers, and what it was given for it."""

    def __init__(self, seat: Seat, server: Served) -> None:
        self.server = server
        self.sockets = [socket.socket(fileno=number) for number in seat.sockets]
        self.heir = None if seat.succession is None else Heir(socket.socket(fileno=seat.succession))
        self.bus: Bus
        self._link, self._page = socket.socket(fileno=seat.link), seat.page

    def join(self, name: str) -> None:
        """Be on the bus. Before the first connection, which misses nothing then."""
        self.bus = Bus(self.server.local, self._link, self._page, name=name, held=self.heir is not None)

    async def succeed(self) -> None:
        """Have the connections of the predecessor."""
        if self.heir is not None:
            await self.heir.succeed(self.server, self.bus)

    def close(self) -> None:
        """Serve nothing."""
        for sock in (self._link, *self.sockets):
            sock.close()
        if self.heir is not None:
            self.heir.close()
        os.close(self._page)


async def _work(
    sock: socket.socket,
    will: socket.socket,
    name: str,
    places: Mapping[str, _Place],
    started: Callable[[], None],
    status_of: Callable[[BaseException], int] | None,
) -> None:
    channel = await Channel.open(sock)
    servers = [place.server for place in places.values()]
    for place in places.values():
        place.join(name)
    loop = asyncio.get_running_loop()
    giving: set[asyncio.Task[None]] = set()

    def stop() -> None:
        for server in servers:
            server.stop()

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        for number in (signal.SIGHUP, signal.SIGUSR2):
            loop.add_signal_handler(number, _ignore)
        try:
            # All are ready before the first connection moves: who fails has taken nothing.
            for place in places.values():
                await (place.server.start() if place.heir is None else place.heir.prepare(place.server))
            for place in places.values():
                await place.succeed()
        except (WirewayError, OSError) as error:
            succeeds = any(place.heir is not None for place in places.values())
            if status_of is None and not (succeeds and isinstance(error, WirewayError)):
                raise
            told = {} if status_of is None else {"status": status_of(error)}
            channel.send("failed", why=str(error), **told)
            for server in servers:
                await server.close()
            raise SystemExit(1) from None
        started()
        channel.send("ready")
        main = asyncio.ensure_future(_until_told(servers))
        listening = asyncio.ensure_future(_listen(channel, stop, main))
        loop.add_reader(will.fileno(), _inherited, will, places, giving)
        try:
            await main
        finally:
            loop.remove_reader(will.fileno())
            listening.cancel()
            for task in giving:
                task.cancel()
            await asyncio.gather(listening, *giving, return_exceptions=True)
    finally:
        will.close()
        await asyncio.gather(*(place.bus.close() for place in places.values()))
        channel.close()


def _inherited(will: socket.socket, places: Mapping[str, _Place], giving: set[asyncio.Task[None]]) -> None:
    """The supervisor gives the way to the successor, for one of the servers."""
    try:
        name, descriptors, _, _ = socket.recv_fds(will, 256, 1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
    except OSError:
        name, descriptors = b"", []
    if not descriptors:  # the supervisor is gone: the channel tells
        asyncio.get_running_loop().remove_reader(will.fileno())
        return
    place = places[name.decode().removeprefix("=")]
    task = asyncio.ensure_future(hand_to_successor(place.server, socket.socket(fileno=descriptors[0]), place.bus))
    giving.add(task)
    task.add_done_callback(giving.discard)


async def _until_told(servers: Sequence[Served]) -> None:
    try:
        await asyncio.gather(*(server.serve() for server in servers))
    except asyncio.CancelledError:
        return  # the second word is immediate: what was open is aborted


async def _listen(channel: Channel, stop: Callable[[], None], main: asyncio.Future[None]) -> None:
    async for word in channel.words():
        if word["kind"] == "drain":
            stop()
        elif word["kind"] == "abort":
            main.cancel()
    stop()


def _ignore() -> None:
    """SIGHUP and SIGUSR2 are the supervisor's, which rolls its workers one by one."""
