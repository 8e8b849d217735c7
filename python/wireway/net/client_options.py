"""Owns what a client may be told, and the states that it goes through. Knows no connection."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypedDict

from wireway.config import Buffers, Heartbeat, SocketOptions, Timeouts
from wireway.net.closing import CloseReason
from wireway.net.outgoing import OutgoingQueue
from wireway.net.reconnecting import Reconnect
from wireway.net.requests import Correlate
from wireway.net.resending import Resend
from wireway.net.tls import Tls

if TYPE_CHECKING:
    from wireway.net.client import Client

__all__ = ["ClientOptions", "ClientState", "MessageHandler", "ReconnectHandler", "StateHandler"]


class ClientState(enum.StrEnum):
    """Where a client is in its life.

    ::

        idle --> connecting --> open --> closing --> closed
                  ^     |        |                     ^
                  |     v        v                     |
                  +-- waiting <--+      (attempts exhausted, or no `Reconnect`)
    """

    IDLE = "idle"
    """Made, and not awaited yet."""
    CONNECTING = "connecting"
    """An attempt is under way."""
    OPEN = "open"
    """Connected."""
    WAITING = "waiting"
    """The connection is lost; the next attempt comes after a delay."""
    CLOSING = "closing"
    """`close` was called: what is queued leaves."""
    CLOSED = "closed"
    """Over. It does not open again."""


MessageHandler = Callable[["Client", bytes], Awaitable[None] | None]
ReconnectHandler = Callable[["Client"], Awaitable[None] | None]
StateHandler = Callable[["Client", ClientState, CloseReason | None], None]


class ClientOptions(TypedDict, total=False):
    """The options of `Client` beside address and framing, for those who hand them on."""

    on_message: MessageHandler | None
    timeouts: Timeouts | None
    heartbeat: Heartbeat | None
    buffers: Buffers | None
    socket: SocketOptions | None
    local: tuple[str, int] | None
    reconnect: Reconnect | None
    on_reconnect: ReconnectHandler | None
    on_state: StateHandler | None
    queue: OutgoingQueue | None
    resend: Resend | None
    requests: Correlate | None
    tls: Tls | None
