"""Descriptors: taking them all away, and finding those that were left open.

Owns `no_descriptors` and `no_leaks`. Knows /proc/self/fd and RLIMIT_NOFILE; knows no back end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from wireway.errors import ConfigError, WirewayError

__all__ = ["DescriptorTable", "LeakError", "no_descriptors", "no_leaks", "open_descriptors"]

_FILES = "/proc/self/fd"
_MOST = 1 << 20


class LeakError(WirewayError, AssertionError):
    """Something was left open. The text names each thing, `left` has the names."""

    def __init__(self, left: list[str]) -> None:
        """Name them, one a line."""
        super().__init__("left over:" + "".join(f"\n  {name}" for name in left))
        self.left = left


# --- none to be had ----------------------------------------------------------------------------------------------


class DescriptorTable:
    """The process's descriptors, as `no_descriptors` holds them: all are taken."""

    def __init__(self) -> None:
        """Made by `no_descriptors`."""
        self._taken: list[int] = []

    def take(self) -> int:
        """Take all that are free; how many they were."""
        before = len(self._taken)
        source = self._taken[0] if self._taken else None
        try:
            while True:
                self._taken.append(os.open(os.devnull, os.O_RDONLY) if source is None else os.dup(source))
                source = self._taken[-1]
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
        self._taken.sort(reverse=True)
        return len(self._taken) - before

    def free(self, count: int) -> None:
        """Let `count` more be opened: those with the lowest numbers, which every back end can watch.

        :raises ConfigError: fewer are held.
        """
        if not 0 <= count <= len(self._taken):
            raise ConfigError(f"free({count}): {len(self._taken)} descriptors are held")
        for _ in range(count):
            os.close(self._taken.pop())


@contextlib.contextmanager
def no_descriptors(leave: int = 0) -> Iterator[DescriptorTable]:
    """Within the block, opening anything fails with EMFILE: no file, no socket, no accept.

    :param leave: how many can still be opened.
    :raises ConfigError: `leave` is negative, or more than there were.

    Descriptors are really taken, up to the soft limit (RLIMIT_NOFILE), at about 5 million a second: lowering the
    limit would not stop an accept that io_uring has armed, which keeps the limit of that moment (``io_accept.nofile``,
    io_uring/net.c). Only a soft limit above 1,048,576 is lowered to that for the block, and then a server on
    io_uring must start within it. The whole process is meant: log files, name lookups and imports, too.

    The `DescriptorTable` that it gives lets single ones go (`free`) and takes what has come free (`take`), also after
    a program has raised its soft limit.
    """
    if not (isinstance(leave, int) and leave >= 0):
        raise ConfigError(f"no_descriptors: leave is {leave!r}, it must be at least 0")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = soft == resource.RLIM_INFINITY or soft > _MOST
    table = DescriptorTable()
    try:
        if lowered:
            resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST, hard))
        table.take()
        table.free(leave)
        yield table
    finally:
        if lowered:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        table.free(len(table._taken))


# --- none left over ----------------------------------------------------------------------------------------------


def open_descriptors() -> dict[int, str]:
    """Each open descriptor of the process and what it is: a path, or a socket with its addresses."""
    found = {}
    for name in os.listdir(_FILES):  # noqa: PTH208 - the directory's own descriptor is closed after this, and gone
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = _described(int(name), os.readlink(f"{_FILES}/{name}"))  # noqa: PTH115 - no paths, often
    return found


def _described(number: int, target: str) -> str:
    if not target.startswith("socket:"):
        return target
    try:
        sock = socket.socket(fileno=number)
    except OSError:
        return target
    try:
        kind = f"{sock.family.name} {sock.type.name}".replace("AF_", "").replace("SOCK_", "")
        where = _address(sock.getsockname)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return f"{target} {kind} listening on {where}"
        return f"{target} {kind} {where} to {_address(sock.getpeername)}"
    except OSError:
        return target
    finally:
        sock.detach()


def _address(get: Any) -> str:
    try:
        name = get()
    except OSError:  # not connected (any more)
        return "nobody"
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) and len(name) >= 2 else repr(name)


class no_leaks:  # noqa: N801 - used as a function: `with no_leaks():`
    """Fail if the block leaves descriptors, threads, or Tasks of the running loop behind.

    :param within: seconds that what is about to end gets to do so, 1 unless told. Nothing waits when all is gone.
    :raises LeakError: at the end of the block, with each thing that was left. An exception of the block itself goes
        first: then nothing is compared.

    ``with no_leaks():`` is for blocking tests and around a whole run of a loop. Inside of a coroutine use ``async
    with no_leaks():``, which lets the loop turn while it waits: a transport closes its descriptor in a turn after
    the call of ``close()``.

    Threads of the standard library's executors are not counted: they end with their loop or with the program.
    Descriptors are compared by number and by what they are, so one that was closed and opened again is seen.
    Thread rule: the thread that enters it leaves it; what other threads open meanwhile counts.
    """

    def __init__(self, within: float = 1.0) -> None:
        """Nothing is compared before the block begins."""
        if not (isinstance(within, int | float) and within >= 0):
            raise ConfigError(f"no_leaks: within is {within!r}, it must be at least 0 seconds")
        self._within = within

    def __enter__(self) -> Self:
        self._files = open_descriptors()
        self._threads = set(threading.enumerate())
        self._tasks = _tasks()
        return self

    def left(self) -> list[str]:
        """What is open now and was not when the block began."""
        files = [
            f"descriptor {number}: {what}"
            for number, what in open_descriptors().items()
            if not _same(self._files.get(number), what)
        ]
        threads = [
            f"thread {one.name}"
            for one in threading.enumerate()
            if one not in self._threads and not one.name.startswith(("asyncio_", "ThreadPoolExecutor-"))
        ]
        tasks = [f"task {one.get_name()}: {one.get_coro()!r}" for one in _tasks() - self._tasks if not one.done()]
        return sorted(files) + sorted(threads) + sorted(tasks)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            return
        end = time.monotonic() + self._within
        while left := self._left_after_collection():
            if time.monotonic() >= end:
                raise LeakError(left)
            time.sleep(0.005)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            return
        end = time.monotonic() + self._within
        while left := self._left_after_collection():
            if time.monotonic() >= end:
                raise LeakError(left)
            await asyncio.sleep(0.005)

    def _left_after_collection(self) -> list[str]:
        if left := self.left():
            gc.collect()  # a cycle may hold them
            left = self.left()
        return left


def _same(before: str | None, now: str) -> bool:
    """The number after `socket:` is the inode: it alone tells whether it is the same socket."""
    return before is not None and before.partition(" ")[0] == now.partition(" ")[0]


def _tasks() -> set[asyncio.Task[Any]]:
    try:
        return set(asyncio.all_tasks())
    except RuntimeError:
        return set()
