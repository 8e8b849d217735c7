"""What the command line said, as a value. Owns nothing else; knows no connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import wireway
from wireway.cli.talking.words import Input, View

__all__ = ["Plan", "Web"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Web:
    """The WebSocket that is spoken over the connection."""

    url: str
    """As the user wrote it: ws://host:port/path."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with the handshake, in this order."""
    subprotocols: tuple[str, ...] = ()
    max_size: int = 16 * 1024 * 1024
    """Bytes of the largest message that is taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What the command line said."""

    url: str
    """Of the connection beneath: tcp, tls or unix."""
    framing: wireway.Framing
    web: Web | None = None
    listen: bool = False
    keep: bool = False
    """Listening: one connection after the other."""
    reconnect: bool = False
    """Connecting: again, when it was lost or nobody was there."""
    tls: wireway.Tls | None = None
    timeout: float | None = None
    """Seconds for all of it; at a terminal until there is a connection."""
    wait: float | None = None
    """Seconds without a byte in either direction after which it ends."""
    half_close: bool = True
    """Our half ends with stdin."""
    sends: tuple[bytes, ...] = ()
    expects: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    input: Input = Input.TEXT
    view: View = View.TEXT
    eol: bytes = b""
    stamps: frozenset[str] = field(default_factory=frozenset)
    """Out of ``clock`` and ``elapsed``."""
    explain: bool = False
    verbose: bool = False
    quiet: bool = False
    history: Path | None = None
