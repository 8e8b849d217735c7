"""Owns what can be chosen of the HTTP half of a web server. What is TCP's is in `wireway.config`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from wireway.errors import ConfigError
from wireway.units import Bytes, Seconds

__all__ = ["Application", "Event", "HttpOptions", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
"""What ASGI 3 calls an application."""

_SMALLEST_HEAD = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpOptions:
    """How much of a request is taken before it is refused, and how long it may take.

    :raises ConfigError: a value is out of its range.
    """

    head_size: Bytes = 64 * 1024
    """Bytes of a request's line and fields together, and of trailers; 431 beyond."""
    head_fields: int = 100
    """Fields of a request; 431 beyond."""
    body_size: Bytes | None = None
    """Bytes of a request's body; 413 beyond. None: as many as the application reads."""
    head_timeout: Seconds | None = 15.0
    """Seconds from the first byte of a request to the end of its head; 408 after. The guard against clients that send a
    byte now and then. None: no bound."""
    body_timeout: Seconds | None = 30.0
    """Seconds without a byte of the body while the application waits for it; 408 after. None: no bound."""
    keep_alive: Seconds | None = 65.0
    """Seconds that a connection may rest between two requests, or say nothing at all; it is closed then. Longer than
    that of the proxy in front (60 s as a rule), else the proxy meets closed connections. None: for ever."""
    ping: Seconds | None = 20.0
    """WebSocket: seconds between pings. A peer that answers none of two is gone. None: no pings."""
    message_size: Bytes = 16 * 1024 * 1024
    """WebSocket: bytes of a message; closed with 1009 beyond."""
    compression: bool = True
    """WebSocket: compress messages (permessage-deflate) if the client offers it. Costs time and 32 KB a connection."""
    root_path: str = ""
    """Where the application is mounted: `root_path` of its scope (ASGI)."""
    access_log: bool = False
    """Log each request at INFO to `wireway.access`; `record.fields` has what it says as a dict."""
    forwarded_allow: tuple[str, ...] = ("127.0.0.1", "::1")
    """Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed: addresses and networks of proxies; `"unix"`: who
    comes over a Unix socket; `"*"`: everybody, where nobody else can connect. Empty: nobody's."""
    requests: int | None = None
    """Requests that are served at once; 503 beyond. A WebSocket does not count. None: no bound."""
    server_header: bool = True
    """Say `Server: wireway`."""
    date_header: bool = True
    """Say `Date`. A server with a clock must (RFC 9110, 6.6.1); a proxy in front may do it instead."""

    def __post_init__(self) -> None:
        if self.head_size < _SMALLEST_HEAD:
            raise ConfigError(
                f"head_size is {self.head_size}, it must be at least {_SMALLEST_HEAD} bytes", option="head_size"
            )
        if self.head_fields < 1:
            raise ConfigError(f"head_fields is {self.head_fields}, it must be at least 1", option="head_fields")
        if self.requests is not None and self.requests < 1:
            raise ConfigError(f"requests is {self.requests}, it must be at least 1, or None", option="requests")
        object.__setattr__(self, "forwarded_allow", tuple(self.forwarded_allow))
        for name, value in (("body_size", self.body_size), ("message_size", self.message_size)):
            if value is not None and value < 0:
                raise ConfigError(f"{name} is {value}, it must be a number of bytes", option=name)
        for name, seconds in (
            ("head_timeout", self.head_timeout),
            ("body_timeout", self.body_timeout),
            ("keep_alive", self.keep_alive),
            ("ping", self.ping),
        ):
            if seconds is not None and not seconds > 0:
                raise ConfigError(f"{name} is {seconds}, it must be seconds above 0, or None", option=name)
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ConfigError(
                f"root_path is {self.root_path!r}, it must begin with a slash and end without one", option="root_path"
            )
