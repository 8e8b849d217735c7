"""No more requests at once than a server takes: who comes beyond is answered 503.

Owns the count. WebSockets do not count: they stay, and connections are limited by `wireway.Limits`.
"""

from __future__ import annotations

from wireway.http.options import Application, Receive, Scope, Send

__all__ = ["bounded"]

_HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"1")]


def bounded(app: Application, most: int) -> Application:
    """An application that serves so many requests at once."""
    count = 0

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal count
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif count >= most:
            await send({"type": "http.response.start", "status": 503, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": b"Service Unavailable\n"})
        else:
            count += 1
            try:
                await app(scope, receive, send)
            finally:
                count -= 1

    return served
