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

from wireway.errors import ConfigError
from wireway.loop import new_event_loop
from wireway.serve.bus import Bus, Joined
from wireway.serve.channel import Channel
from wireway.serve.spawning import Assignment

__all__ = ["Served", "run_worker"]


class Served(Protocol):
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
    link = socket.socket(fileno=assignment.link)
    sockets = [socket.socket(fileno=number) for number in assignment.sockets]
    if server.run_addresses() != assignment.addresses:
        for sock in (channel, link, *sockets):
            sock.close()
        os.close(assignment.page)
        raise ConfigError(
            f"the addresses are {server.run_addresses()} now, they were {assignment.addresses}: "
            "workers keep the supervisor's sockets; stop the server and start it again"
        )
    server.inherit(sockets)
    with asyncio.Runner(debug=debug, loop_factory=partial(new_event_loop, backend)) as runner:
        runner.run(_work(channel, link, assignment.page, server, started))


async def _work(
    sock: socket.socket, link: socket.socket, page: int, server: Served, started: Callable[[], None]
) -> None:
    channel = await Channel.open(sock)
    bus = Bus(server.local, link, page)  # before the first connection, which misses nothing
    loop = asyncio.get_running_loop()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)
        loop.add_signal_handler(signal.SIGHUP, _ignore)
        await server.start()
        started()
        channel.send("ready")
        main = asyncio.ensure_future(_until_told(server.serve()))
        listening = asyncio.ensure_future(_listen(channel, server, main))
        try:
            await main
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    finally:
        await bus.close()
        channel.close()


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
    """SIGHUP is the supervisor's, which rolls its workers one by one."""
