"""Stdin and stdout on the loop, whatever they are: pipes, files, terminals, devices.

Owns reading and writing without a thread and without making them non-blocking: that flag would be shared with the
shell and with whoever else has them (open(2)).
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import AsyncIterator

__all__ = ["read_lines", "read_pieces", "write_all"]

_PIECE = 64 * 1024
_SURE = 4096
"""Bytes that a pipe takes without blocking once it is ready: PIPE_BUF, pipe(7)."""


def _always_ready(fd: int) -> bool:
    """A file or a device such as /dev/null: nothing to be watched."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (stat.S_ISCHR(mode) and not os.isatty(fd))


async def _ready(fd: int, *, to_write: bool) -> None:
    if _always_ready(fd):
        await asyncio.sleep(0)
        return
    poll = select.poll()
    poll.register(fd, select.POLLOUT if to_write else select.POLLIN)
    if poll.poll(0):
        if not to_write:
            await asyncio.sleep(0)
        return
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if to_write else (loop.add_reader, loop.remove_reader)

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    add(fd, tell)
    try:
        await ready
    finally:
        remove(fd)


async def read_pieces(fd: int) -> AsyncIterator[bytes]:
    """What comes, up to 64 KiB at a time, until its end."""
    while True:
        await _ready(fd, to_write=False)
        piece = os.read(fd, _PIECE)
        if not piece:
            return
        yield piece


async def read_lines(fd: int) -> AsyncIterator[bytes]:
    r"""Each line without its end (``\n`` or ``\r\n``), also a last one that has none."""
    begun: list[bytes] = []
    async for piece in read_pieces(fd):
        first, *more = piece.split(b"\n")
        begun.append(first)
        for line in more:
            yield b"".join(begun).removesuffix(b"\r")
            begun = [line]
    if last := b"".join(begun):
        yield last.removesuffix(b"\r")


async def write_all(fd: int, data: bytes) -> None:
    """Write all; waits while nobody takes it.

    :raises BrokenPipeError: nobody reads it any more.
    """
    view = memoryview(data)
    sure = len(data) if _always_ready(fd) else _SURE
    while view:
        await _ready(fd, to_write=True)
        view = view[os.write(fd, view[:sure]) :]
