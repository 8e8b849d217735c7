"""The control socket: where `wireway top`, `ls`, `kick`, `closed`, `capture` and `trace` ask a running server.

Owns the socket and who may use it. A Unix socket in a folder that only its owner may enter; of the same user, or root.
One JSON object a line each way; what is asked and answered stands in `answers.py` and in docs/reference/control.md:

```text
   {"ask": "connections", "sort": "queued", "limit": 20}  ->  {"connections": [...], "total": 812}
```
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wireway._native import Connection
from wireway.config import Limits, Timeouts
from wireway.errors import ConfigError, ConnectionClosedError, WirewayError
from wireway.framing import Lines
from wireway.net.closing import CloseReason
from wireway.net.server import Server
from wireway.observe.answers import Answers
from wireway.observe.table import Seen
from wireway.observe.tapping import Trace

__all__ = ["Control", "folder"]

logger = logging.getLogger("wireway.control")

_LONGEST = 1024 * 1024
"""Bytes of a question, and of a line of an answer."""
_ASKERS = 20


def folder() -> Path:
    """Where the control sockets of this user are: `$XDG_RUNTIME_DIR/wireway`, or `/tmp/wireway-UID`."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "wireway" if runtime else Path(f"/tmp/wireway-{os.getuid()}")


class Control:
    """The control socket of a process, for as long as the block lasts.

    :param servers: those that it tells of. They have started.
    :param what: what the process is, in a few words.
    :param path: another place for the socket; its folder must be there.
    :raises ConfigError: the folder is not ours alone.
    :raises OSError: the socket can not be made.
    """

    def __init__(self, servers: Sequence[Server], what: str = "", path: Path | None = None) -> None:
        self._servers = list(servers)
        self._what = what
        self.path = self.usual_path() if path is None else path
        self._own_folder = path is None
        self._traces: dict[Connection, tuple[Trace, asyncio.Task[None]]] = {}
        self._lookers: set[Connection] = set()
        self._server: Server | None = None

    @staticmethod
    def usual_path() -> Path:
        """Where that of this process is unless told."""
        return folder() / f"{os.getpid()}.sock"

    async def __aenter__(self) -> Self:
        if self._own_folder:
            _make_private(self.path.parent)
            sweep(self.path.parent)
            number = 1
            while self.path.exists():  # another of this process, or of another namespace with our number
                number += 1
                self.path = self.path.with_name(f"{os.getpid()}-{number}.sock")
        self._answers = Answers(self._servers, self._what)
        self._server = server = Server(
            f"unix://{self.path.absolute()}",
            framing=Lines(max_size=_LONGEST),
            timeouts=Timeouts(write_stall=600.0),  # somebody may read a trace with a pager
            limits=Limits(connections=_ASKERS),
            stalls=None,
            drain_timeout=1.0,
        )
        server.on_connect(self._may)
        server.on_message(self._answer)
        server.on_close(self._gone)
        before = os.umask(0o177)  # the socket is made with mode 0600: nobody can come in between
        try:
            await server.start()
        finally:
            os.umask(before)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        self._answers.close()
        tasks = [task for _, task in self._traces.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.close()

    def _may(self, conn: Connection) -> bool:
        """Only this user, and root: unix(7), SO_PEERCRED."""
        with socket.socket(fileno=os.dup(conn.fileno())) as sock:
            _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        allowed = uid in (0, os.getuid())
        if not allowed:
            logger.warning("user %d was refused at the control socket", uid)
        return allowed

    async def _answer(self, conn: Connection, line: bytes) -> None:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError("a question is a JSON object")
            if request.get("ask") == "trace":
                self._begin_trace(conn, request)
                return
            async for part in self._answers.answer(request, conn.state):
                if isinstance(part, Seen):
                    self._looks(conn, part)
                else:
                    await _tell(conn, part)
        except ConnectionClosedError:
            raise
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, WirewayError) as error:
            text = f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
            await _tell(conn, {"error": text})

    def _looks(self, conn: Connection, seen: Seen) -> None:
        conn.state = seen  # for its next look
        self._lookers.add(conn)
        self._watch()

    def _watch(self) -> None:
        for server in self._servers:
            if server._core is not None:
                server._core._watch(bool(self._lookers))

    def _begin_trace(self, conn: Connection, request: dict[str, Any]) -> None:
        if conn in self._traces:
            raise ValueError("a trace runs already on this connection")
        trace = self._answers.trace(request)
        # Not in the handler: the end of who asked is noticed meanwhile.
        self._traces[conn] = (trace, asyncio.ensure_future(_follow(conn, trace)))

    def _gone(self, conn: Connection, reason: CloseReason) -> None:
        self._lookers.discard(conn)
        self._watch()
        running = self._traces.pop(conn, None)
        if running is not None:
            running[1].cancel()


async def _follow(conn: Connection, trace: Trace) -> None:
    try:
        await _tell(conn, {"tracing": trace.begun})
        async for line in trace.lines():
            await _tell(conn, line)
    except ConnectionClosedError:
        return
    finally:
        trace.close()
    conn.close("the trace is over")


async def _tell(conn: Connection, answer: dict[str, Any]) -> None:
    await conn.send(json.dumps(answer, default=str).encode())


def _make_private(place: Path) -> None:
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        about = place.lstat()
    except FileExistsError:
        about = place.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise ConfigError(f"{place} is not a folder of this user alone: remove it, or set XDG_RUNTIME_DIR")


def sweep(place: Path) -> None:
    """Remove the sockets of processes that are no more: those that refuse a connection."""
    for each in place.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)
            try:
                sock.connect(str(each))
            except ConnectionRefusedError:
                each.unlink(missing_ok=True)
            except OSError:
                continue  # it is gone, or its queue is full: it lives
