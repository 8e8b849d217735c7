"""A trace: which connections somebody watches, and what is told of them, as JSON. The seeing itself is native (`Tap`).

Owns the choice of connections, those to come among them, and the words of the events. Knows no socket.

```text
   native: Tap, bounded --wake--> lines(): a batch of events a line --> who asked
      ^ what does not fit is lost, and a gap says so
   connections that match, by id, address or user
```
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections.abc import AsyncIterator, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Self

from wireway._native import Connection, Tap
from wireway.framing import CustomFraming, Framing
from wireway.net.server import Server
from wireway.observe.table import text_of

__all__ = ["Trace", "Whom", "framing_as_dict"]

ROOM = 4 * 1024 * 1024
"""Bytes of events that may wait for who asked: what a trace costs at most."""
_BATCH = 64 * 1024
"""Bytes of events in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Whom:
    """Which connections. What is None says nothing; all that is said must be so.

    :raises ValueError: nothing is said, or `host` is no IP address.
    """

    id: int | None = None
    server: int | None = None
    host: str | None = None
    port: int | None = None
    user: str | None = None

    @classmethod
    def of(cls, request: dict[str, Any]) -> Self:
        """What a request says."""
        number = {name: request.get(name) for name in ("id", "server", "port")}
        user = request.get("user")
        host = request.get("host")
        if (number["id"], host, user) == (None, None, None):
            raise ValueError("whom to trace is not said: id, host (and port), or user")
        return cls(
            **{name: None if value is None else int(value) for name, value in number.items()},
            host=None if host is None else "unix" if host == "unix" else str(_ip(str(host))),
            user=None if user is None else str(user),
        )

    def matches(self, connection: Connection, server: int) -> bool:
        """Whether it is one of them."""
        if self.server not in (None, server) or self.id not in (None, connection.id):
            return False
        if self.user is not None and connection.user != self.user:
            return False
        if self.host is None:
            return True
        peer = connection.peer
        if not isinstance(peer, tuple):
            return self.host == "unix" and peer is not None
        return self.host != "unix" and str(_ip(peer[0])) == self.host and self.port in (None, peer[1])


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


class Trace:
    """What some connections receive and send, from now until `close`. Belongs to the loop's thread.

    :param servers: whose.
    :param whom: which.
    :param room: bytes of events that may wait; what comes beyond them is lost, and said to be.
    """

    def __init__(self, servers: Sequence[Server], whom: Whom, room: int = ROOM) -> None:
        self._whom = whom
        self._some = asyncio.Event()
        self._tap = Tap(max(64 * 1024, min(room, ROOM)), wake=self._some.set)
        self._watched: dict[int, Connection] = {}
        self._of: set[tuple[int, int]] = set()
        self._told: list[dict[str, Any]] = []
        self._listening = []
        for number, server in enumerate(servers):
            core = server._core
            if core is None:
                continue
            if whom.id is not None:
                found = server.find(whom.id)
                if found is not None:
                    self._consider(server, number, found)
                continue
            for connection in server.connections:
                self._consider(server, number, connection)

            def noticed(connection: Connection, server: Server = server, number: int = number) -> None:
                self._consider(server, number, connection)

            core._notice(noticed)
            self._listening.append((core, noticed))

    def _consider(self, server: Server, number: int, connection: Connection) -> None:
        name = (number, connection.id)
        if name in self._of or not self._whom.matches(connection, number):
            return
        key = len(self._of)
        self._of.add(name)
        self._watched[key] = connection
        self._told.append(_about(server, number, key, connection))
        connection._tap(self._tap, key)
        self._some.set()

    @property
    def begun(self) -> list[dict[str, Any]]:
        """The connections that were found at once. Takes them."""
        told, self._told = self._told, []
        return told

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """What happens, in order: new connections, then batches of events.

        Ends with the connection, if it was asked for by its id.
        """
        while True:
            await self._some.wait()
            self._some.clear()
            while True:
                events = self._tap.take(_BATCH)
                begun = self.begun
                if begun:
                    yield {"connections": begun}
                if not events:
                    break
                for _, key, kind, *_ in events:
                    if kind == "ended":
                        self._watched.pop(key, None)
                yield {"events": [_event(*event) for event in events]}
                if self._whom.id is not None and not self._watched:
                    return
                await asyncio.sleep(0)

    @property
    def queued(self) -> int:
        """Bytes of events that wait."""
        return self._tap.size

    def close(self) -> None:
        """Nothing is seen any more. Safe to call again."""
        for core, noticed in self._listening:
            core._ignore(noticed)
        self._listening = []
        for connection in self._watched.values():
            connection._untap(self._tap)
        self._watched.clear()


def _about(server: Server, number: int, key: int, connection: Connection) -> dict[str, Any]:
    peer, local = connection.peer, connection.local
    return {
        "key": key,
        "id": connection.id,
        "server": number,
        "peer": text_of(peer),
        "local": text_of(local),
        "peer_name": list(peer[:2]) if isinstance(peer, tuple) else None,
        "local_name": list(local[:2]) if isinstance(local, tuple) else None,
        "user": connection.user,
        "tls": connection.tls is not None,
        "listens": server.addresses,
        "framing": framing_as_dict(server._framing),
        "new": connection.stats["bytes_in"] == 0 and connection.stats["messages_out"] == 0,
    }


def framing_as_dict(framing: Framing) -> dict[str, Any] | None:
    """A framing's name and what it was told, for another process to make one like it. None for functions."""
    if isinstance(framing, CustomFraming):
        return None
    told: dict[str, Any] = {}
    for item in fields(framing):
        value = getattr(framing, item.name)
        if not item.kw_only or item.default is MISSING or value != item.default:
            told[item.name] = {"hex": value.hex()} if isinstance(value, bytes) else value
    return {"kind": type(framing).__name__, **told}


_FACTS = {"in": 1, "out": 1, "queued": 1, "header": 1, "cut": 2, "ended": 2, "gap-in": 3, "gap-out": 3}
"""How much each kind of event says, besides when it was and of whom."""


def _event(at: int, key: int, kind: str, *facts: Any) -> list[Any]:
    told = facts[: _FACTS[kind]]
    return [at, key, kind, *(base64.b64encode(each).decode() if isinstance(each, bytes) else each for each in told)]
