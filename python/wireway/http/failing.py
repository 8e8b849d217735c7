"""What is done about what goes wrong: a request that is none is refused, an application that failed is told of.

Owns which errors are the application's own: not a cancellation of ours, nor what comes of a client that has gone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from wireway._native import Connection
from wireway.errors import ConnectionClosedError

__all__ = ["failed", "logger", "refuse"]

logger = logging.getLogger("wireway.http")


def failed(conn: Connection, scope: Any, error: BaseException) -> None:
    """Tell of what an application raised. What is not its own is raised again: a cancellation, the program's end."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
        raise error
    if isinstance(error, BaseExceptionGroup) and error.subgroup((KeyboardInterrupt, SystemExit)) is not None:
        raise error
    method, path = scope.get("method", "WebSocket"), scope["path"]
    if conn.is_closing and _comes_of_the_end(error):
        logger.debug("the client of %s %s has gone", method, path)
        return
    logger.error("the application failed at %s %s", method, path, exc_info=error)


def _comes_of_the_end(error: BaseException | None) -> bool:
    """Whether an error is ours that says that the client has gone, or was made of it."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ConnectionClosedError):
            return True
        if isinstance(error, BaseExceptionGroup):
            return all(_comes_of_the_end(each) for each in error.exceptions)
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def refuse(conn: Connection, status: int, text: str, *more: str) -> None:
    """Answer what is no request of HTTP/1.1, and close: what comes after it means nothing.

    :param more: further lines of the head.
    """
    body = f"{text}\n".encode()
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Bad Request')}",
        "content-type: text/plain; charset=utf-8",
        f"content-length: {len(body)}",
        "connection: close",
        *more,
    ]
    try:
        conn.send_nowait("".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body)
    except ConnectionClosedError:
        return
    conn.close(f"bad request: {status}: {text}")


_REASONS = {
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}
