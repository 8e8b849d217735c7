"""What happens to servers and their processes, as values: for hooks (`server.on_event`, `listen`), and in JSON logs.

Owns the kinds of events and how they reach who listens. Imports nothing of wireway: who emits knows this file, not the
other way round. An event that nobody listens to is not made.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

__all__ = [
    "CertificatesRead",
    "CertificatesRefused",
    "ConnectionClosed",
    "ConnectionOpened",
    "ConnectionRefused",
    "DrainBegan",
    "DrainEnded",
    "Event",
    "EventHandler",
    "LoopStalled",
    "ServerStarted",
    "ServerStopped",
    "TlsHandshakeFailed",
    "WorkerDied",
    "WorkerStarted",
    "WorkersReplaced",
    "heard",
    "listen",
    "logged",
    "tell",
    "unlisten",
]

logger = logging.getLogger("wireway.events")


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened. Immutable; any thread."""

    name: ClassVar[str] = "event"
    """Which kind, as logs have it."""
    at: float = field(default_factory=time.time)
    """When, seconds since the epoch."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``event`` is the name; addresses of peers are ``host:port``."""
        told: dict[str, Any] = {"event": self.name}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "peer":
                value = f"{value[0]}:{value[1]}" if isinstance(value, tuple) else value
            told[each.name] = value
        return told


@dataclass(frozen=True, kw_only=True, slots=True)
class _OfServer(Event):
    server: str = ""
    """Its first address."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerStarted(_OfServer):
    """It listens."""

    name: ClassVar[str] = "server-started"
    addresses: tuple[str, ...] = ()
    """All of them."""
    backend: str = ""
    """Of its loop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainBegan(_OfServer):
    """It accepts no more, and lets what is open finish."""

    name: ClassVar[str] = "drain-began"
    open: int = 0
    """Connections that are open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainEnded(_OfServer):
    """What could finish has."""

    name: ClassVar[str] = "drain-ended"
    seconds: float = 0.0
    """How long it took."""
    aborted: int = 0
    """Connections that did not finish in time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerStopped(_OfServer):
    """No connection is left."""

    name: ClassVar[str] = "server-stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class _OfConnection(_OfServer):
    connection: int = 0
    """Its `Connection.id`."""
    peer: Any = None
    """Host and port; None on a Unix socket."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionOpened(_OfConnection):
    """A peer was let in, after its TLS handshake if there is one; before `on_connect`."""

    name: ClassVar[str] = "connection-opened"


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionRefused(_OfConnection):
    """A peer was accepted and not let in: a limit, a ban, or who it is."""

    name: ClassVar[str] = "connection-refused"
    code: str = ""
    """As `CloseReason.code`: ``limit-address``, ``banned``."""
    why: str = ""
    """For people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionClosed(_OfConnection):
    """A connection ended. `code` says how: ``slow-consumer``, ``idle-timeout``, ``peer-reset``."""

    name: ClassVar[str] = "connection-closed"
    code: str = ""
    """See `CloseReason.code`."""
    side: str = ""
    """Who ended it: ``local``, ``peer``, ``kernel`` or ``network``."""
    why: str = ""
    """For people."""
    age: float = 0.0
    """Seconds that it was open."""
    bytes_in: int = 0
    """Bytes received."""
    bytes_out: int = 0
    """Bytes that the kernel took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsHandshakeFailed(ConnectionClosed):
    """It ended before its TLS handshake was done."""

    name: ClassVar[str] = "tls-handshake-failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopStalled(_OfServer):
    """The loop did not turn for too long, and turns again."""

    name: ClassVar[str] = "loop-stalled"
    seconds: float = 0.0
    """How long."""
    cause: str = ""
    """See `Stall.cause`."""
    handler: str | None = None
    """What ran."""
    connection: int | None = None
    """For which connection, if for one."""
    peer: Any = None
    """Of that connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificatesRead(_OfServer):
    """Certificates were read again, and hold from now on."""

    name: ClassVar[str] = "certificates-read"


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificatesRefused(_OfServer):
    """Certificates were read again and can not be used: those from before stay."""

    name: ClassVar[str] = "certificates-refused"
    why: str = ""
    """For people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerStarted(Event):
    """A worker serves. Told in the process that keeps the workers."""

    name: ClassVar[str] = "worker-started"
    worker: int = 0
    """Its number, from 1."""
    pid: int = 0
    """Its process."""
    generation: int = 0
    """How many had its number before, and 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerDied(Event):
    """A worker ended that should not have; another is started. Told in the process that keeps the workers."""

    name: ClassVar[str] = "worker-died"
    worker: int = 0
    """Its number, from 1."""
    pid: int = 0
    """Its process."""
    how: str = ""
    """``killed by SIGKILL``, for people."""
    lived: float = 0.0
    """Seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkersReplaced(Event):
    """A reload is over. Told in the process that keeps the workers."""

    name: ClassVar[str] = "workers-replaced"
    whole: bool = True
    """Whether all were; else it ended at one that did not start, and the others go on."""


EventHandler = Callable[[Event], object]
_H = TypeVar("_H", bound=EventHandler)
_listeners: list[EventHandler] = []


def listen(handler: _H) -> _H:
    """Call ``handler(event)`` for every event of this process: of each server that starts from now on, of workers.

    It is called on the loop's thread, must not block, and is a plain function. What it raises is logged, and changes
    nothing. A decorator.
    """
    _listeners.append(handler)
    return handler


def unlisten(handler: EventHandler) -> None:
    """Call it no more. One that is not called is no error."""
    if handler in _listeners:
        _listeners.remove(handler)


def heard() -> bool:
    """Whether anybody listens to all events."""
    return bool(_listeners)


def tell(event: Event, own: EventHandler | None = None) -> None:
    """Hand an event to who listens: to `own`, that of its server, first."""
    for handler in (*((own,) if own is not None else ()), *_listeners):
        try:
            handler(event)
        except Exception:
            logger.exception("a hook failed at the event %s", event.name)


def logged(event: Event) -> dict[str, Any]:
    """``extra`` of a log line that says the same for people: `wireway serve --log json` writes its fields."""
    return {"fields": event.as_dict()}
