"""`served`: a real server on a free port, for the length of a test, and clients of it.

Owns where the server listens meanwhile, and the clients' ends. What a server and a client are is `wireway.net`'s.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from wireway.errors import ConfigError
from wireway.net.address import Address
from wireway.net.client import Client, ClientOptions, connect
from wireway.net.server import Server
from wireway.testing.faults import FaultyLink

__all__ = ["Served", "connect_to", "served"]


class Served:
    """A server that runs, as `served` gives it."""

    def __init__(self, server: Server, link: FaultyLink | None, stack: contextlib.AsyncExitStack) -> None:
        """Made by `served`."""
        self.server = server
        """The server itself."""
        self._link, self._stack = link, stack

    @property
    def address(self) -> str:
        """Where clients connect: its first address, or that of the link before it."""
        own = self.server.addresses[0]
        if self._link is None:
            return own
        scheme, _, rest = self._link.address.partition("://")
        return f"{'tls' if own.startswith('tls://') else scheme}://{rest}"

    @property
    def port(self) -> int:
        """The TCP port of `address`."""
        return int(self.address.rpartition(":")[2])

    @property
    def link(self) -> FaultyLink:
        """What faults are set on.

        :raises ConfigError: there is none: ``served(server, faults=True)``.
        """
        if self._link is None:
            raise ConfigError("there is no link before the server: use served(server, faults=True)")
        return self._link

    async def connect(self, **options: Unpack[ClientOptions]) -> Client:
        """A connected client with the server's framing. It is closed with the server, if nobody did before.

        :param options: those of `wireway.connect`.
        """
        client = connect(self.address, framing=self.server._framing, **options)
        return await self._stack.enter_async_context(client)


@contextlib.asynccontextmanager
async def served(server: Server, *, faults: bool = False) -> AsyncIterator[Served]:
    """Run a server for the length of the block, on a free port instead of its own, and on this machine only.

    :param server: with its handlers, not started. Its own addresses are as before afterwards.
    :param faults: put a `FaultyLink` before it, for all clients.
    :raises WirewayError: it runs already, or the running loop is not a `wireway.EventLoop`.

    ::

        async with served(server) as running:
            client = await running.connect()
            assert await client.request(b"hello") == b"HELLO"

    At the end clients are closed first, then the server drains. Cancelled, both are ended at once.
    """
    before = server._addresses
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="wireway-served-"))
        server._addresses = [_free(address, Path(folder) / str(number)) for number, address in enumerate(before)]
        try:
            await server.start()
        finally:
            server._addresses = before
        stack.push_async_callback(server.close)
        link = stack.enter_context(FaultyLink(server.addresses[0])) if faults else None
        clients = await stack.enter_async_context(contextlib.AsyncExitStack())
        yield Served(server, link, clients)


@contextlib.asynccontextmanager
async def connect_to(server: Server, **options: Unpack[ClientOptions]) -> AsyncIterator[Client]:
    """`served` and one client of it: ``async with connect_to(server) as client:``.

    :param options: those of `wireway.connect`.
    """
    async with served(server) as running:
        yield await running.connect(**options)


def _free(address: Address, path: Path) -> Address:
    if address.scheme == "unix":
        return replace(address, path=str(path))
    return replace(address, host="127.0.0.1", port=0)
