"""OpenTelemetry: a span for each message that a handler is called with. The extra `wireway[otel]`.

Owns what a span says. Which of them are kept is OpenTelemetry's sampler's business.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from wireway._native import Connection
from wireway.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ["traced"]

_H = TypeVar("_H", bound=Callable[[Connection, bytes], Awaitable[None] | None])


def traced(handler: _H, *, name: str | None = None, tracer: Tracer | None = None) -> _H:
    """The same handler, with a span around each call. It is the current span meanwhile, also over `await`.

    Attributes: `network.peer.address`, `network.peer.port` (OpenTelemetry's names), `wireway.connection.id`,
    `wireway.message.size` (bytes). An exception is recorded, and makes the span's status an error.

    :param name: of the span; the handler's unless told.
    :param tracer: OpenTelemetry's global one unless told.
    :raises ConfigError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.trace import SpanKind, get_tracer
    except ImportError:
        raise ConfigError("traced needs OpenTelemetry: pip install 'wireway[otel]'") from None
    spans = get_tracer("wireway") if tracer is None else tracer
    title = name or str(getattr(handler, "__name__", "on_message"))

    def span(conn: Connection, message: bytes) -> Any:
        peer = conn.peer
        attributes: dict[str, Any] = {"wireway.connection.id": conn.id, "wireway.message.size": len(message)}
        if isinstance(peer, tuple):
            attributes["network.peer.address"], attributes["network.peer.port"] = peer[0], peer[1]
        return spans.start_as_current_span(title, kind=SpanKind.SERVER, attributes=attributes)

    if inspect.iscoroutinefunction(handler):

        @wraps(handler)
        async def later(conn: Connection, message: bytes) -> None:
            with span(conn, message):
                await handler(conn, message)

        return later  # type: ignore[return-value]

    @wraps(handler)
    def at_once(conn: Connection, message: bytes) -> None:
        with span(conn, message):
            handler(conn, message)

    return at_once  # type: ignore[return-value]
