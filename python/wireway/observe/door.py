"""`Door`: accepts from a listening socket that several processes share, by readiness.

A multishot accept of io_uring waits exclusively: the kernel wakes one of those who wait, and if that one is stopped or
stuck nobody comes to the door. Who waits for readiness is woken with all others, and the first takes it.
"""

from __future__ import annotations

import socket

from wireway._native import ServerCore
from wireway.loop import EventLoop

__all__ = ["Door"]

_PAUSE = 1.0
"""Seconds until it is tried again, if the process has no descriptor left."""


class Door:
    """In the place of a `Listener`, for few connections a second. Belongs to the loop's thread.

    :param most: connections at once; who comes beyond is closed.
    """

    def __init__(self, loop: EventLoop, sock: socket.socket, core: ServerCore, most: int) -> None:
        self._loop, self._sock, self._core, self._most = loop, sock, core, most
        self._open = True
        self._watch()

    def _watch(self) -> None:
        if self._open:
            self._loop.add_reader(self._sock.fileno(), self._ready)

    def _ready(self) -> None:
        try:
            conn, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return  # another process was first, or the peer has gone
        except OSError:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.call_later(_PAUSE, self._watch)
            return
        if len(self._core.connections()) >= self._most:
            conn.close()
            return
        conn.setblocking(False)
        self._core.adopt(conn.detach())

    def close(self) -> int:
        """Accept no more. Nobody is on the way in."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
        return 0
