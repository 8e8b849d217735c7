"""Capture: the last messages of connections, kept so that somebody who looks sees what was said before.

Owns what is kept, and for whom. The keeping itself is native (`Tap`). Belongs to the loop's thread.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from wireway._native import Connection, ServerCore, Tap
from wireway.config import Capture
from wireway.net.server import Server

__all__ = ["Captures"]


class Captures:
    """What is captured of the connections of some servers."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._all: Capture | None = None
        self._taps: WeakKeyDictionary[Connection, Tap] = WeakKeyDictionary()
        self._listening: list[ServerCore] = []
        for server in servers:
            if server.capture is not None:
                self._all = server.capture
                self._listen(server)
                for each in server.connections:
                    self._noticed(each)

    def begin(self, connection: Connection | None, how: Capture) -> int:
        """Capture a connection, or all and those to come. What was captured so far is gone. Returns how many are."""
        if connection is not None:
            self._tap(connection, how)
            return len(self._taps)
        self._all = how
        for server in self._servers:
            self._listen(server)
            for each in server.connections:
                self._tap(each, how)
        return len(self._taps)

    def end(self, connection: Connection | None) -> int:
        """No longer, and forget what was captured: of one, or of all. Returns how many are still captured."""
        if connection is None:
            self._all = None
            for core in self._listening:
                core._ignore(self._noticed)
            self._listening.clear()
        for each in [connection] if connection is not None else list(self._taps):
            tap = self._taps.pop(each, None)
            if tap is not None:
                each._untap(tap)
        return len(self._taps)

    def of(self, connection: Connection) -> list[dict[str, Any]] | None:
        """The last messages of it, the oldest first; None if it is not captured."""
        tap = self._taps.get(connection)
        if tap is None:
            return None
        return [
            {"at": at / 1e9, "way": way, "length": length, "data": base64.b64encode(data).decode()}
            for at, _, way, data, length, _ in tap.events()
            if way in ("in", "out")
        ]

    def _listen(self, server: Server) -> None:
        core = server._core
        if core is not None and core not in self._listening:
            core._notice(self._noticed)
            self._listening.append(core)

    def _noticed(self, connection: Connection) -> None:
        if self._all is not None and connection not in self._taps:
            self._tap(connection, self._all)

    def _tap(self, connection: Connection, how: Capture) -> None:
        former = self._taps.pop(connection, None)
        if former is not None:
            connection._untap(former)
        self._taps[connection] = tap = Tap(how.room, messages=how.messages, snap=how.shown)
        connection._tap(tap, connection.id)
