"""What a running server answers to those who ask at its control socket: every question, and its answer as JSON objects.

Owns the questions. Knows no socket: `control.py` takes the questions and sends the answers.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from wireway._native import Connection
from wireway.config import Capture
from wireway.net.closing import CloseReason
from wireway.net.evidence import CODES
from wireway.net.server import Server
from wireway.observe.capturing import Captures
from wireway.observe.table import Seen, Wanted, describe, look, text_of
from wireway.observe.tapping import ROOM, Trace, Whom, framing_as_dict

__all__ = ["ASKED", "Answers"]

logger = logging.getLogger("wireway.control")

ASKED = ("about", "connections", "describe", "kick", "closed", "capture", "trace")
_MOST = 100_000
"""Rows of one answer."""
_PAGE = 100
"""Rows of one line of an answer: those that follow say ``more``."""


class Answers:
    """What some servers of a process answer. Belongs to the loop's thread.

    :param what: what the process is, in a few words.
    """

    def __init__(self, servers: Sequence[Server], what: str) -> None:
        self._servers = servers
        self._what = what
        self._since = time.time()
        self._captures = Captures(servers)

    async def answer(self, request: dict[str, Any], seen: Seen | None) -> AsyncIterator[dict[str, Any] | Seen]:
        """The lines of the answer to all but `trace`. Of a look that is remembered, `Seen` comes last.

        :raises ValueError: what is asked can not be answered, and why.
        """
        match request.get("ask"):
            case "about":
                yield self._about()
            case "connections":
                wanted = Wanted(
                    sort=str(request.get("sort", "id")),
                    largest=bool(request.get("largest", True)),
                    limit=max(1, min(int(request.get("limit", 200)), _MOST)),
                    matching=str(request.get("matching", "")),
                )
                before = (seen or Seen()) if request.get("rates") else None
                made, total, now = await look(self._servers, wanted, before)
                page: list[dict[str, Any]] = []
                async for row in made:
                    if len(page) == _PAGE:
                        yield {"connections": page, "more": True}
                        page = []
                    page.append(row)
                yield {"connections": page, "total": total}
                if before is not None:
                    yield now
            case "describe":
                number, connection = self._find(request)
                yield {
                    "connection": {
                        **describe(connection, number),
                        "listens": self._servers[number].addresses,
                        "messages": self._captures.of(connection),
                    },
                    "framing": framing_as_dict(self._servers[number]._framing),
                }
            case "kick":
                _, connection = self._find(request)
                why = str(request.get("why") or "kicked by the operator")[:1000]
                logger.info("connection %d is kicked: %s", connection.id, why)
                (connection.abort if request.get("abort") else connection.close)(why)
                yield {"kicked": connection.id}
            case "closed":
                async for each in self._closed(request):
                    yield each
            case "capture":
                yield {"capturing": self._capture(request)}
            case other:
                raise ValueError(f"{other!r} can not be asked: {', '.join(ASKED)}")

    def trace(self, request: dict[str, Any]) -> Trace:
        """Begin to watch.

        :raises ValueError: it is not said whom, or there is no connection of that number.
        """
        whom = Whom.of(request)
        if whom.id is not None:
            self._find(request)
        return Trace(self._servers, whom, int(request.get("room", ROOM)))

    def close(self) -> None:
        """Nothing is captured any more."""
        self._captures.end(None)

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
                        for stats in [server.stats]
                        for name in stats.__dataclass_fields__
                        for value in [getattr(stats, name)]
                    },
                    "groups": len(server.groups),
                    "stalls": [str(stall) for stall in server.stalls[-20:]],
                }
                for server in self._servers
                if server._core is not None
            ],
        }

    def _find(self, request: dict[str, Any]) -> tuple[int, Connection]:
        wanted, only = int(request["id"]), request.get("server")
        if wanted >= 0:
            found = [
                (number, connection)
                for number, server in enumerate(self._servers)
                if only in (None, number)
                for connection in [server.find(wanted)]
                if connection is not None
            ]
            if len(found) > 1:
                numbers = ", ".join(str(number) for number, _ in found)
                raise ValueError(f"several servers of this process have a connection {wanted}: say which ({numbers})")
            for each in found:
                return each
        raise ValueError(f"there is no connection {wanted}")

    async def _closed(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        code, last = request.get("reason"), max(1, min(int(request.get("last", 50)), _MOST))
        if code is not None and code not in CODES:
            near = difflib.get_close_matches(str(code), CODES, 1)
            guess = f"; did you mean {near[0]}?" if near else f": {', '.join(sorted(CODES))}"
            raise ValueError(f"no connection closes with {str(code)!r}{guess}")
        since, after = request.get("since"), request.get("after") or {}
        found: list[tuple[int, CloseReason]] = []
        marks: dict[str, float] = {}
        counts: dict[str, int] = {}
        for number, server in enumerate(self._servers):
            for name, count in server.stats.closed.items():
                counts[name] = counts.get(name, 0) + count
            mark = float(after.get(str(number), float("-inf")))
            newest = server.ended(last=1)
            marks |= {str(number): reason.evidence.get("at", mark) for reason in newest}
            for skip in range(0, last, _PAGE):
                reasons = server.ended(last=min(_PAGE, last - skip), code=code, after=mark, skip=skip)
                wanted = [each for each in reasons if since is None or each.closed_at >= float(since)]
                found += [(number, each) for each in reversed(wanted)]
                if len(wanted) < _PAGE:
                    break
                await asyncio.sleep(0)
        found.sort(key=lambda each: each[1].closed_at, reverse=True)
        page: list[dict[str, Any]] = []
        for number, reason in found[:last]:
            if len(page) == _PAGE:
                yield {"closed": page, "more": True}
                page = []
                await asyncio.sleep(0)
            page.append(_ended(number, reason))
        yield {"closed": page, "counts": counts, "after": marks}

    def _capture(self, request: dict[str, Any]) -> int:
        connection = None if request.get("id") is None else self._find(request)[1]
        if not request.get("on", True):
            return self._captures.end(connection)
        told = {name: int(request[name]) for name in ("messages", "shown", "room") if name in request}
        return self._captures.begin(connection, Capture(**told))


def _ended(server: int, reason: CloseReason) -> dict[str, Any]:
    return {
        "at": reason.closed_at,
        "id": reason.connection,
        "server": server,
        "peer": text_of(reason.peer),
        "code": reason.code,
        "why": reason.why,
        "age": round(reason.age, 3),
        "in": reason.bytes_in,
        "out": reason.bytes_out,
        "messages_in": reason.evidence.get("messages_in", 0),
        "messages_out": reason.evidence.get("messages_out", 0),
        "verdict": str(reason.verdict),
    }
