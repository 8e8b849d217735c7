"""`ConnectionMemory` and `MemoryReport`: memory by owner, in bytes.

Owns the words and the sums. The native half weighs its own structures and asks the kernel; what only the interpreter
can weigh is weighed here, shallowly: what an object refers to is not followed, for nobody else can tell who owns it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wireway._native import Connection, ServerCore

__all__ = ["ConnectionMemory", "HeavyConnection", "MemoryReport"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionMemory:
    """What one connection weighs, by owner. A broadcast that waits on many connections is counted on each.

    The kernel's figures are ``getsockopt(SO_MEMINFO)`` (the fields of ``INET_DIAG_SKMEMINFO``, sock_diag(7)), with its
    bookkeeping: a byte that waits alone weighs some hundreds. It does not count the socket itself, about 2 to 4 KiB.
    """

    kernel_receive: int = 0
    """What came and the kernel keeps until we read."""
    kernel_send: int = 0
    """What we sent and the kernel keeps: not acknowledged or, on Unix sockets, not read."""
    kernel_other: int = 0
    """What the kernel reserved ahead, options and filters, packets that wait for the socket's lock."""
    core_queued: int = 0
    """What waits here to be sent: whole blocks, kept messages, the outbox of a slow peer."""
    core_received: int = 0
    """What came and was not handled: half frames, with the room of the whole message, and messages that wait."""
    core_fixed: int = 0
    """Slots in tables, and what only few connections have."""
    python: int = 0
    """The connection's object, its `state` and the Task of a suspended handler, each by `sys.getsizeof`."""

    @classmethod
    def of(cls, connection: Connection) -> ConnectionMemory:
        """Weigh a connection. One system call. Belongs to the loop's thread."""
        (receive, send, other, queued, received, fixed), companions = connection._weigh()
        state = connection.state
        objects = [connection, *companions] if state is None else [connection, state, *companions]
        objects += [task.get_coro() for task in companions if hasattr(task, "get_coro")]
        return cls(
            kernel_receive=receive,
            kernel_send=send,
            kernel_other=other,
            core_queued=queued,
            core_received=received,
            core_fixed=fixed,
            python=sum(sys.getsizeof(each, 0) for each in objects),
        )

    @property
    def kernel(self) -> int:
        """All of the kernel's."""
        return self.kernel_receive + self.kernel_send + self.kernel_other

    @property
    def core(self) -> int:
        """All of the native half's."""
        return self.core_queued + self.core_received + self.core_fixed

    @property
    def total(self) -> int:
        """All of it."""
        return self.kernel + self.core + self.python

    def __str__(self) -> str:
        return _table([(name, getattr(self, name)) for name in _OWNERS] + [("total", self.total)])


_OWNERS = tuple(each.name for each in fields(ConnectionMemory))


@dataclass(frozen=True, kw_only=True, slots=True)
class HeavyConnection:
    """One of the heaviest connections."""

    id: int
    """`Connection.id`."""
    peer: Any
    """`Connection.peer`."""
    memory: ConnectionMemory


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryReport:
    """What a server weighs, by owner, at one moment, in bytes."""

    connections: int = 0
    """Connections that were weighed."""
    sums: ConnectionMemory = ConnectionMemory()
    """All connections together."""
    per_connection: ConnectionMemory = ConnectionMemory()
    """The average of a connection, whole bytes; zeros where there is none."""
    shared_blocks: int = 0
    """Blocks that are kept for sending, of the loop: all servers on it share them."""
    shared_driver: int = 0
    """Buffers to receive into, free slots and the wheel of deadlines, of the loop. The kernel's rings are not in it."""
    shared_groups: int = 0
    """The tables of groups and users."""
    largest: tuple[HeavyConnection, ...] = ()
    """The heaviest connections, the heaviest first."""
    process_rss: int = 0
    """The process's resident memory, /proc/self/statm of proc(5): interpreter and program too, the kernel's not. 0: it
    can not be read."""

    @classmethod
    def of(cls, core: ServerCore | None, largest: int = 10) -> MemoryReport:
        """Weigh a server; None for one that does not run. One system call a connection. On the loop's thread."""
        if core is None:
            return cls(process_rss=_resident())
        weighed = [(each, ConnectionMemory.of(each)) for each in core.connections()]
        sums = {name: sum(getattr(memory, name) for _, memory in weighed) for name in _OWNERS}
        count = len(weighed)
        weighed.sort(key=lambda pair: pair[1].total, reverse=True)
        blocks, driver, groups = core._weigh_shared()
        return cls(
            connections=count,
            sums=ConnectionMemory(**sums),
            per_connection=ConnectionMemory(**{name: value // max(count, 1) for name, value in sums.items()}),
            shared_blocks=blocks,
            shared_driver=driver,
            shared_groups=groups,
            largest=tuple(
                HeavyConnection(id=each.id, peer=each.peer, memory=memory)
                for each, memory in weighed[: max(largest, 0)]
            ),
            process_rss=_resident(),
        )

    @property
    def kernel(self) -> int:
        """The kernel's, of all connections."""
        return self.sums.kernel

    @property
    def core(self) -> int:
        """The native half's, of all connections."""
        return self.sums.core

    @property
    def python(self) -> int:
        """The interpreter's, of all connections."""
        return self.sums.python

    @property
    def shared(self) -> int:
        """What no single connection owns."""
        return self.shared_blocks + self.shared_driver + self.shared_groups

    @property
    def total(self) -> int:
        """All that was accounted for."""
        return self.sums.total + self.shared

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{'owner':<16}{'bytes':>14}{'a connection':>14}"
        for name in _OWNERS:
            yield f"{name:<16}{getattr(self.sums, name):>14,}{getattr(self.per_connection, name):>14,}"
        for name in ("shared_blocks", "shared_driver", "shared_groups"):
            yield f"{name:<16}{getattr(self, name):>14,}"
        yield f"{'total':<16}{self.total:>14,}   of {self.connections:,} connections"
        yield f"{'process_rss':<16}{self.process_rss:>14,}"
        for heavy in self.largest:
            yield f"connection {heavy.id} from {heavy.peer}: {heavy.memory.total:,}"


def _table(rows: list[tuple[str, int]]) -> str:
    return "\n".join(f"{name:<16}{value:>14,}" for name, value in rows)


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
