"""Owns the words between a supervisor and a worker: lines of JSON over a Unix socket pair. Knows no process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, Self

__all__ = ["Channel"]


class Channel:
    """One end. The end of the stream is the end of whoever is on the other side.

    Everything belongs to the thread that runs the loop.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Self:
        """Take over a connected socket."""
        sock.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=sock))

    def send(self, kind: str, **data: Any) -> None:
        """Say something. To nobody, if the other side is gone."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"kind": kind, **data}).encode() + b"\n")

    async def words(self) -> AsyncIterator[dict[str, Any]]:
        """What the other side says, until it is gone."""
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                yield json.loads(line)

    def close(self) -> None:
        """End it."""
        self._writer.close()
