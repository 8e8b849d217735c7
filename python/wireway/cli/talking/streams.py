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

__all__ = ["Output", "read_lines", "read_pieces"]

_PIECE = 64 * 1024
_SURE = 4096
"""Bytes that a pipe takes without blocking once it is ready: PIPE_BUF, pipe(7)."""


def _always_ready(fd: int) -> bool:
    """A file or a device such as /dev/null: nothing to be watched."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (stat.S_ISCHR(mode) and not os.isatty(fd))


async def _ready(fd: int, *, to_write: bool) -> None:
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
    at_once = _always_ready(fd)
    while True:
        await (asyncio.sleep(0) if at_once else _ready(fd, to_write=False))
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


class Output:
    """Where what comes is written. Takes as much at once as goes without blocking."""

    def __init__(self, fd: int) -> None:
        self._fd = self._own = fd
        self._at_once = _always_ready(fd)
        self.blocked = False
        """Nobody takes what is written, at present."""
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            # Opened anew, the same pipe has flags of its own (proc(5), /proc/pid/fd), and takes all that it has room
            # for; through the shared descriptor only PIPE_BUF can be written without the danger of waiting in it.
            try:
                self._own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                self._own = fd

    async def write(self, data: bytes) -> None:
        """Write all; waits while nobody takes it.

        :raises BrokenPipeError: nobody reads it any more.
        """
        view = memoryview(data)
        sure = len(data) if self._at_once or self._own != self._fd else _SURE
        while view:
            try:
                if not self._at_once:
                    self.blocked = True
                    await _ready(self._own, to_write=True)
                view = view[os.write(self._own, view[:sure]) :]
            except BlockingIOError:  # another writer was quicker
                continue
            finally:
                self.blocked = False
