"""Sending files: piece by piece, read in threads, the next while one is on its way.

Owns how much of a file is in memory at once: two pieces for each answer. Knows nothing of what is said of a file.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, Any

from wireway.http.options import Event, Send

if TYPE_CHECKING:
    from wireway._native import HttpExchange

__all__ = ["PIECE", "FileChangedError", "send_path", "send_pieces"]

PIECE = 256 * 1024
"""Bytes that are read at once."""


class FileChangedError(Exception):
    """A file became shorter while it was sent: what was said of its size can not be kept."""


async def send_pieces(fd: int, start: int, end: int, send: Send, *, more: bool = False) -> None:
    """Send bytes `start` to `end` of a file as the body of an answer.

    Waits where the client does not read. Cancelling it leaves half an answer.

    :param more: something of the body follows.
    :raises FileChangedError: the file ends before.
    """
    at = start
    ahead = _read(fd, at, end)
    try:
        while True:
            piece = await ahead
            if not piece and at < end:
                raise FileChangedError(f"it has {at} bytes now, and {end} were wanted")
            at += len(piece)
            if at >= end:
                await send({"type": "http.response.body", "body": piece, "more_body": more})
                return
            ahead = _read(fd, at, end)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    finally:
        # The descriptor is its caller's to close: nobody may read it any more.
        if not ahead.done():
            await asyncio.wait([ahead])
        elif not ahead.cancelled():
            ahead.exception()


def _read(fd: int, at: int, end: int) -> asyncio.Future[bytes]:
    return asyncio.get_running_loop().run_in_executor(None, os.pread, fd, min(PIECE, end - at), at)


async def send_path(exchange: HttpExchange, event: Event) -> None:
    """The event `http.response.pathsend`: the body is the file at `path`, all of it."""
    path: Any = event["path"]
    fd, size = await asyncio.to_thread(_open, path)
    try:
        await send_pieces(fd, 0, size, exchange.send)
    finally:
        os.close(fd)


def _open(path: str) -> tuple[int, int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise IsADirectoryError(f"{path} is no regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd, about.st_size
