"""Owns a worker's side: it serves on the sockets that it inherited, says so, and ends when it is told to.

Knows its supervisor by a channel only. When that ends, the supervisor is gone: the worker drains and ends too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from wireway.errors import ConfigError, WirewayError
from wireway.loop import new_event_loop
from wireway.serve.bus import Bus, Joined
from wireway.serve.channel import Channel
from wireway.serve.handover import Heir, Moveable, hand_to_successor
from wireway.serve.spawning import Assignment

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


def run_worker(
    assignment: Assignment, server: Served, backend: str, debug: bool | None, started: Callable[[], None]
) -> None:
    """Serve as one of several until the supervisor says otherwise."""
    channel = socket.socket(fileno=assignment.channel)
    will = socket.socket(fileno=assignment.will)
    heir = None if assignment.succession is None else Heir(socket.socket(fileno=assignment.succession))
    link = socket.socket(fileno=assignment.link)
    sockets = [socket.socket(fileno=number) for number in assignment.sockets]
    if server.run_addresses() != assignment.addresses:
        for sock in (channel, link, will, *sockets):
            sock.close()
        if heir is not None:
            heir.close()
        os.close(assignment.page)
        raise ConfigError(
            f"the addresses are {server.run_addresses()} now, they were {assignment.addresses}: "
            "workers keep the supervisor's sockets; stop the server and start it again"
        )
    server.inherit(sockets)
    with asyncio.Runner(debug=debug, loop_factory=partial(new_event_loop, backend)) as runner:
        runner.run(_work(channel, link, will, heir, assignment, server, started))


async def _work(
    sock: socket.socket,
    link: socket.socket,
    will: socket.socket,
    heir: Heir | None,
    assignment: Assignment,
    server: Served,
    started: Callable[[], None],
) -> None:
    channel = await Channel.open(sock)
    # Before the first connection, which misses nothing.
    name = f"{assignment.number}.{assignment.generation}"
    bus = Bus(server.local, link, assignment.page, name=name, held=heir is not None)
    loop = asyncio.get_running_loop()
    giving: set[asyncio.Task[None]] = set()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)
        for number in (signal.SIGHUP, signal.SIGUSR2):
            loop.add_signal_handler(number, _ignore)
        if heir is None:
            await server.start()
        else:
            try:
                await heir.succeed(server, bus)
            except WirewayError as error:
                channel.send("failed", why=str(error))
                raise SystemExit(1) from None
        started()
        channel.send("ready")
        main = asyncio.ensure_future(_until_told(server.serve()))
        listening = asyncio.ensure_future(_listen(channel, server, main))
        loop.add_reader(will.fileno(), _inherited, will, server, bus, giving)
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
        await bus.close()
        channel.close()


def _inherited(will: socket.socket, server: Served, bus: Bus, giving: set[asyncio.Task[None]]) -> None:
    """The supervisor gives the way to the successor."""
    try:
        _, descriptors, _, _ = socket.recv_fds(will, 1, 1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
    except OSError:
        descriptors = []
    if not descriptors:  # the supervisor is gone: the channel tells
        asyncio.get_running_loop().remove_reader(will.fileno())
        return
    task = asyncio.ensure_future(hand_to_successor(server, socket.socket(fileno=descriptors[0]), bus))
    giving.add(task)
    task.add_done_callback(giving.discard)


async def _until_told(serving: Coroutine[Any, Any, None]) -> None:
    try:
        await serving
    except asyncio.CancelledError:
        return  # the second word is immediate: what was open is aborted


async def _listen(channel: Channel, server: Served, main: asyncio.Future[None]) -> None:
    async for word in channel.words():
        if word["kind"] == "drain":
            server.stop()
        elif word["kind"] == "abort":
            main.cancel()
    server.stop()


def _ignore() -> None:
    """SIGHUP and SIGUSR2 are the supervisor's, which rolls its workers one by one."""
