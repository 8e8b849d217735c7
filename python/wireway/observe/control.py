"""The control socket: what `wireway top`, `ls`, `kick` and `closed` ask a running server, and its answers.

Owns the socket and who may use it. A Unix socket in a folder that only its owner may enter; of the same user, or root.
One JSON object a line each way:

```text
   {"ask": "connections", "sort": "queued", "limit": 20}  ->  {"connections": [...], "total": 812}
```
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wireway._native import Connection
from wireway.config import Limits, Timeouts
from wireway.errors import ConfigError, WirewayError
from wireway.framing import Lines
from wireway.net.server import Server
from wireway.observe.table import describe, rows

__all__ = ["Control", "folder"]

logger = logging.getLogger("wireway.control")

_LONGEST = 64 * 1024 * 1024
_MOST = 100_000
"""Rows of one answer."""


def folder() -> Path:
    """Where the control sockets of this user are: `$XDG_RUNTIME_DIR/wireway`, or `/tmp/wireway-UID`."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "wireway" if runtime else Path(f"/tmp/wireway-{os.getuid()}")


class Control:
    """The control socket of a process, for as long as the block lasts.

    :param servers: those that it tells of.
    :param what: what the process is, in a few words.
    :param path: another place for the socket; its folder must be there.
    :raises ConfigError: the folder is not ours alone.
    :raises OSError: the socket can not be made.
    """

    def __init__(self, servers: Sequence[Server], what: str = "", path: Path | None = None) -> None:
        self._servers = list(servers)
        self._what = what
        self.path = folder() / f"{os.getpid()}.sock" if path is None else path
        self._own_folder = path is None
        self._since = time.time()
        self._server = Server(
            f"unix://{self.path.absolute()}",
            framing=Lines(max_size=_LONGEST),
            timeouts=Timeouts(idle=600.0, write_stall=30.0),
            limits=Limits(connections=20),
            stalls=None,
            drain_timeout=1.0,
        )
        self._server.on_connect(self._may)
        self._server.on_message(self._answer)

    async def __aenter__(self) -> Self:
        if self._own_folder:
            _make_private(self.path.parent)
            self.path.unlink(missing_ok=True)  # of a process that had our number before
        before = os.umask(0o177)  # the socket is made with mode 0600: nobody can come in between
        try:
            await self._server.start()
        finally:
            os.umask(before)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
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
                raise ValueError("a request is an object")
            answer = await self._do(request)
        except (ValueError, KeyError, TypeError, WirewayError) as error:
            answer = {"error": str(error) or type(error).__name__}
        await conn.send(json.dumps(answer, default=str).encode())

    async def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        match request.get("ask"):
            case "about":
                return self._about()
            case "connections":
                found, total = await rows(
                    self._servers,
                    sort=str(request.get("sort", "id")),
                    largest=bool(request.get("largest", True)),
                    limit=max(1, min(int(request.get("limit", 200)), _MOST)),
                    matching=str(request.get("matching", "")),
                )
                return {"connections": found, "total": total}
            case "describe":
                return {"connection": describe(self._find(request))}
            case "kick":
                connection = self._find(request)
                why = str(request.get("why") or "kicked by the operator")
                logger.info("connection %d is kicked: %s", connection.id, why)
                (connection.abort if request.get("abort") else connection.close)(why)
                return {"kicked": connection.id}
            case "closed":
                return self._closed(request)
            case other:
                raise ValueError(f"{other!r} can not be asked: about, connections, describe, kick, closed")

    def _about(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "what": self._what,
            "since": self._since,
            "now": time.time(),
            "servers": [
                {
                    "addresses": server.addresses,
                    "backend": server.backend,
                    "stats": {
                        name: dict(value) if hasattr(value, "items") else value
                        for name in server.stats.__dataclass_fields__
                        for value in [getattr(server.stats, name)]
                    },
                    "groups": len(server.groups),
                    "stalls": [str(stall) for stall in server.stalls[-20:]],
                }
                for server in self._servers
            ],
        }

    def _find(self, request: dict[str, Any]) -> Connection:
        wanted = int(request["id"])
        server = request.get("server")
        for number, each in enumerate(self._servers):
            if server is None or number == server:
                for connection in each.connections:
                    if connection.id == wanted:
                        return connection
        raise ValueError(f"there is no connection {wanted}")

    def _closed(self, request: dict[str, Any]) -> dict[str, Any]:
        code, last = request.get("reason"), max(1, min(int(request.get("last", 50)), _MOST))
        found = [
            {
                "at": reason.closed_at,
                "id": reason.connection,
                "server": number,
                "peer": reason.peer,
                "code": reason.code,
                "why": reason.why,
                "age": round(reason.age, 3),
                "in": reason.bytes_in,
                "out": reason.bytes_out,
                "verdict": str(reason.verdict),
            }
            for number, server in enumerate(self._servers)
            for reason in server.closed
            if code is None or reason.code == code
        ]
        found.sort(key=lambda row: row["at"], reverse=True)
        counts: dict[str, int] = {}
        for server in self._servers:
            for name, count in server.stats.closed.items():
                counts[name] = counts.get(name, 0) + count
        return {"closed": found[:last], "counts": counts}


def _make_private(place: Path) -> None:
    place.mkdir(mode=0o700, exist_ok=True)
    about = place.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise ConfigError(f"{place} is not a folder of this user alone: remove it, or set XDG_RUNTIME_DIR")
