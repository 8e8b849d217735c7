"""`Runnable`: a server, as those see it who run it in processes. Knows no process: `wireway.serve` does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from wireway.net.listening import Listening, listen
from wireway.net.reach import Local

if TYPE_CHECKING:
    from wireway._native import Connection
    from wireway.config import Handover
    from wireway.net.server import Server

__all__ = ["Follower", "Runnable"]


class Runnable:
    """A server, from below. Everything belongs to the thread that runs it."""

    def __init__(self, server: Server) -> None:
        self.start, self.serve, self.stop, self.close = server.start, server.serve, server.stop, server.close
        self.check = server._check
        self.drain_timeout = float(server._drain_timeout)
        self.handover: Handover = server._handover
        self.local = Local(server)
        self._server = server

    def run_addresses(self) -> list[str]:
        """The addresses that it was made with."""
        return [str(address) for address in self._server._addresses]

    def groups(self) -> dict[str, Any]:
        """What it was made with, by the names of its arguments."""
        server = self._server
        return {
            "framing": server._framing,
            "timeouts": server._timeouts,
            "heartbeat": server._heartbeat,
            "limits": server._limits,
            "buffers": server._buffers,
            "access": server._access,
            "tls": server._securing.options,
        }

    # --- listening sockets --------------------------------------------------------------------------------

    def inherit(self, sockets: list[socket.socket]) -> None:
        """Serve on these sockets, whose files are somebody else's."""
        self._server._given = Listening(sockets)

    def listen(self, takers: int) -> list[list[socket.socket]]:
        """Open the listening sockets for so many processes: those of each."""
        options, given = self._server._socket, self._server._given
        if given is not None:
            self._server._listening = given
            return [given.sockets] * takers
        self._server._listening = listening = listen(self._server._addresses, options)
        return listening.share(options, takers)

    def close_sockets(self) -> None:
        """Close them, and remove their files."""
        self._server._listening.close()

    # --- from one process to another ------------------------------------------------------------------------

    @property
    def sockets(self) -> list[socket.socket]:
        """Those that it listens on."""
        return self._server._listening.sockets

    @property
    def connections(self) -> list[Connection]:
        """The open ones that another process could take."""
        return self._server._moveable()

    async def stop_accepting(self) -> None:
        """Let nobody in for now: who comes waits in the kernel. Who was let in already is a connection afterwards."""
        if self._server._stop_accepting():
            await asyncio.sleep(0)

    def accept(self) -> None:
        """Let peers in again, or for the first time."""
        self._server._accept()

    def forget_files(self) -> None:
        """The files of its Unix sockets are somebody else's from now on."""
        self._server._listening.forget_files()

    async def start_held(self, sockets: Iterable[socket.socket] | None) -> None:
        """Start, and let nobody in yet: on sockets of another process, whose files are ours then; or on our own."""
        if sockets is not None:
            self._server._given = listening = Listening()
            for sock in sockets:
                listening.add(sock)
        self._server._held = True
        try:
            await self._server.start()
        finally:
            self._server._held = False

    def adopt(self, fd: int, picture: dict[str, Any], state: Any) -> Connection:
        """Have a connection from its picture, standing still. See `connection/moving.rs`.

        :raises ValueError: the picture is not understood; the descriptor is still the caller's.
        """
        core = self._server._core
        assert core is not None
        connection = core._adopt(fd, picture)
        connection.state = state
        return connection


class Follower(Runnable):
    """A server that another one starts and ends with itself. It has sockets and connections of its own."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.start = self.serve = self.close = _done
        self.stop = _nothing

    def accept(self) -> None:
        """Let peers in, unless it does: see `Runnable.accept`."""
        if not self._server._listeners:
            super().accept()

    async def start_held(self, sockets: Iterable[socket.socket] | None) -> None:
        """The other one starts it."""


async def _done() -> None:
    pass


def _nothing() -> None:
    pass
