"""OpenTelemetry: a span for each message that a handler is called with, and for each request of an ASGI application.

The extra `wireway[otel]`. Owns what a span says, in the words of OpenTelemetry's semantic conventions 1.27 (network,
HTTP). Which of them are kept is OpenTelemetry's sampler's business. What is not traced costs nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from wireway._native import Connection
from wireway.errors import ConfigError
from wireway.http.options import Application

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

__all__ = ["traced", "traced_app"]

_H = TypeVar("_H", bound=Callable[[Connection, Any], Awaitable[None] | None])
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})


def traced(handler: _H, *, name: str | None = None, tracer: Tracer | None = None) -> _H:
    """The same handler, with a span around each call. It is the current span meanwhile, also over `await`.

    Attributes: `network.transport`, `network.type`, `network.peer.address` and `network.peer.port`, as OpenTelemetry
    names them, `wireway.connection.id`, `wireway.message.size` (bytes) or, of `on_batch`, `wireway.batch.size`
    (messages). An exception is recorded, is `error.type`, and makes the span's status an error.

    :param name: of the span; the handler's unless told.
    :param tracer: OpenTelemetry's global one unless told.
    :raises ConfigError: OpenTelemetry is not installed.
    """
    spans, kind = _tracer("traced", tracer)
    title = name or str(getattr(handler, "__name__", "on_message"))

    @contextmanager
    def span(conn: Connection, message: Any) -> Iterator[None]:
        attributes: dict[str, Any] = {"wireway.connection.id": conn.id, **_of_peer(conn.peer)}
        if isinstance(message, list):
            attributes["wireway.batch.size"] = len(message)
        else:
            attributes["wireway.message.size"] = len(message)
        with spans.start_as_current_span(title, kind=kind, attributes=attributes) as current, _errors_of(current):
            yield

    if inspect.iscoroutinefunction(handler):

        @wraps(handler)
        async def later(conn: Connection, message: Any) -> None:
            with span(conn, message):
                await handler(conn, message)

        return later  # type: ignore[return-value]

    @wraps(handler)
    def at_once(conn: Connection, message: Any) -> Any:
        with span(conn, message):
            return handler(conn, message)

    return at_once  # type: ignore[return-value]


def traced_app(app: Application, *, tracer: Tracer | None = None) -> Application:
    """The same ASGI application, with a span around each request and each WebSocket.

    The client's `traceparent` makes it a part of the client's trace. A status of 500 and above, or an exception, makes
    it an error. Its name is the method, and the route if the application says it (`scope["route"]`, as Starlette does).

    :param tracer: OpenTelemetry's global one unless told.
    :raises ConfigError: OpenTelemetry is not installed.
    """
    spans, kind = _tracer("traced_app", tracer)
    from opentelemetry.propagate import extract
    from opentelemetry.trace import StatusCode

    async def around(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await app(scope, receive, send)
            return
        headers: dict[str, str] = {}
        for raw, value in scope["headers"]:
            field = raw.decode("latin-1").lower()
            text = value.decode("latin-1")
            headers[field] = f"{headers[field]},{text}" if field in headers else text
        attributes = _of_request(scope, headers)
        method = attributes["http.request.method"]
        title = "HTTP" if method == "_OTHER" else method
        with (
            spans.start_as_current_span(title, extract(headers), kind=kind, attributes=attributes) as span,
            _errors_of(span),
        ):

            async def tell(event: Any) -> None:
                status = {"websocket.accept": 101, "websocket.close": 403}.get(event["type"], event.get("status"))
                # Only what begins an answer has one; a close of an open WebSocket comes after its 101.
                if status is not None and "http.response.status_code" not in told:
                    told.add("http.response.status_code")
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_status(StatusCode.ERROR)
                        span.set_attribute("error.type", str(status))
                await send(event)

            told: set[str] = set()
            try:
                await app(scope, receive, tell)
            finally:
                route = getattr(scope.get("route"), "path", None)
                if route is not None:
                    span.set_attribute("http.route", route)
                    span.update_name(f"{title} {route}")

    return around


def _tracer(who: str, tracer: Tracer | None) -> tuple[Tracer, Any]:
    try:
        from opentelemetry.trace import SpanKind, get_tracer
    except ImportError:
        raise ConfigError(f"{who} needs OpenTelemetry: pip install 'wireway[otel]'") from None
    return get_tracer("wireway") if tracer is None else tracer, SpanKind.SERVER


@contextmanager
def _errors_of(span: Span) -> Iterator[None]:
    """Name what is raised. OpenTelemetry itself records it and sets the status."""
    try:
        yield
    except Exception as error:
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        span.set_attribute("error.type", name)
        raise


def _of_peer(peer: Any) -> dict[str, Any]:
    if not isinstance(peer, tuple):
        return {"network.transport": "unix"}
    host = str(peer[0])
    kind = "ipv6" if ":" in host else "ipv4"
    return {
        "network.transport": "tcp",
        "network.type": kind,
        "network.peer.address": host,
        "network.peer.port": peer[1],
    }


def _of_request(scope: Any, headers: dict[str, str]) -> dict[str, Any]:
    """What is known of a request when it comes."""
    method = scope.get("method", "GET")  # a WebSocket is one
    found = {
        **_of_peer(scope.get("client")),
        "http.request.method": method if method in _METHODS else "_OTHER",
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope["path"],
        "network.protocol.name": "http",
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    if method not in _METHODS:
        found["http.request.method_original"] = method
    if query := scope.get("query_string"):
        found["url.query"] = query.decode("latin-1")
    if scope.get("client"):
        found["client.address"] = scope["client"][0]
    if agent := headers.get("user-agent"):
        found["user_agent.original"] = agent
    host, _, port = (headers.get("host") or "").rpartition(":")
    if not host or not port.isdigit():
        host, port = headers.get("host") or "", ""
    if host:
        found["server.address"] = host.strip("[]")
    if port:
        found["server.port"] = int(port)
    return found
