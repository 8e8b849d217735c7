"""`memory_pair` makes two connections that are each other's peer, without a socket; `handle` serves one of them.

Knows what a server does for one connection: which handler is called when, and what its exceptions become.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from wireway.errors import ConfigError
from wireway.framing import Framing, Raw
from wireway.net.closing import CloseReason
from wireway.net.requests import Correlate
from wireway.testing.memory import Cut, MemoryConnection

__all__ = ["handle", "memory_pair"]


def memory_pair(
    framing: Framing | None = None,
    *,
    cut: Cut = None,
    low: int = 16 * 1024,
    high: int = 64 * 1024,
    requests: Correlate | None = None,
) -> tuple[MemoryConnection, MemoryConnection]:
    """Two connections that are each other's peer, without a socket: what one sends, the other receives.

    :param framing: of both sides; `Raw` unless told.
    :param cut: how bytes are cut on their way, as TCP may at any time: a number cuts into pieces of so many bytes; a
        sequence of sizes holds in turn, again and again; a function gets each frame and returns its pieces. None
        leaves each frame whole.
    :param low: bytes at which a waiting `send` goes on.
    :param high: bytes above which ``await conn.send()`` waits for the other side.
    :param requests: how the answers to `request` are told apart, as for a `Server`; None: by their order.
    :raises ConfigError: an option is wrong.

    ::

        left, right = memory_pair(LengthPrefix(4), cut=1)
        await my_handler(right, b"hello")
        assert await left.receive() == b"HELLO"

    Without waiting it needs no loop: `send_nowait` and `receive_nowait`.
    """
    framing = Raw() if framing is None else framing
    if not isinstance(framing, Framing):
        raise ConfigError(f"memory_pair: framing is {framing!r}, it must be a framing such as LengthPrefix(4)")
    if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high):
        raise ConfigError(f"memory_pair: 0 <= low <= high must hold, got low={low!r} and high={high!r} bytes")
    left, right = (MemoryConnection(number, framing, cut, low, high, requests) for number in (1, 2))
    left._other, right._other = right, left
    return left, right


async def handle(
    conn: MemoryConnection,
    on_message: Callable[[Any, bytes], Awaitable[None] | None],
    *,
    on_connect: Callable[[Any], Awaitable[object] | object] | None = None,
    on_close: Callable[[Any, CloseReason], object] | None = None,
) -> CloseReason:
    """Serve one side of a pair as a `Server` would: call the handler for each message until the connection ends.

    :param on_message: ``on_message(conn, message)``, a plain function or ``async def``.
    :param on_connect: called first; False refuses.
    :param on_close: called last.
    :returns: why it ended. What a handler raised is in the reason, with code ``handler-error``, and not raised.

    Cancelled, it aborts the connection, with code ``handler-cancelled``.
    """
    try:
        if on_connect is not None and await _called(on_connect(conn)) is False:
            conn._end("refused", "refused by on_connect")
        while (message := await conn._next()) is not None:
            await _called(on_message(conn, message))
    except asyncio.CancelledError:
        conn._end("handler-cancelled", "the handler was cancelled")
        raise
    except Exception as error:  # noqa: BLE001 - as the server: it closes this connection, and is told
        conn._end("handler-error", f"the handler raised {type(error).__name__}: {error}", error)
    conn._end("peer-closed", "the peer closed the connection")
    assert conn.reason is not None
    if on_close is not None:
        on_close(conn, conn.reason)
    return conn.reason


async def _called(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result
