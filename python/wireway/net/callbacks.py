"""Owns what a server calls: the types of its handlers, and how they are gathered and checked.

They come one by one from decorators, or all together from a handler class. Knows no connection and no loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from wireway._native import Connection
from wireway.errors import ConfigError, Refused
from wireway.events import Event, EventHandler, heard, tell
from wireway.net.closing import CloseReason
from wireway.net.offload import Offload, is_async

__all__ = ["BatchHandler", "Callbacks", "CloseHandler", "ConnectHandler", "MessageHandler"]

MessageHandler = Callable[[Connection, bytes], Awaitable[None] | None]
BatchHandler = Callable[[Connection, list[bytes]], Awaitable[None] | None]
ConnectHandler = Callable[[Connection], Awaitable[Any] | Any]
CloseHandler = Callable[[Connection, CloseReason], None]

NAMES = ("on_connect", "on_message", "on_batch", "on_close", "on_stall", "on_event")


class Callbacks:
    """The handlers of one server. Each is set at most once, and before the server starts."""

    def __init__(self) -> None:
        self.on_connect: ConnectHandler | None = None
        self.on_message: MessageHandler | None = None
        self.on_batch: BatchHandler | None = None
        self.on_close: CloseHandler | None = None
        self.on_stall: Callable[[Any], object] | None = None
        self.on_event: EventHandler | None = None
        self.offload: Offload | None = None
        """`on_message` blocks: where it runs instead."""

    def set(self, name: str, handler: object, *, started: bool) -> None:
        """Take a handler.

        :raises ConfigError: it is no function, comes too late, or its place is taken.
        """
        if not callable(handler):
            raise ConfigError(f"a handler is a function, not {type(handler).__name__}")
        takes = ("on_message", "on_batch") if name in ("on_message", "on_batch") else (name,)
        if any(getattr(self, each) is not None for each in takes):
            raise ConfigError("the server has that handler already; on_message and on_batch exclude each other")
        if started:
            raise ConfigError("handlers are registered before the server starts")
        setattr(self, name, handler)

    def adopt(self, handler: object) -> Iterable[tuple[str, Any]]:
        """The handlers of a handler class: of a new instance if it is a class, else of the object itself.

        :raises ConfigError: it has none, or one with a name that no server calls.
        """
        whole = handler() if inspect.isclass(handler) else handler
        what = type(whole).__name__
        own = [name for name in dir(whole) if name.startswith("on_")]
        known = ", ".join(NAMES)
        if strange := [name for name in own if name not in NAMES]:
            raise ConfigError(f"handler {what} has {strange[0]}, which a server never calls: it calls {known}")
        if not own:
            raise ConfigError(f"handler {what} has no method that a server calls: {known}")
        return [(name, getattr(whole, name)) for name in own]

    @property
    def heard(self) -> bool:
        """Whether anybody listens to events."""
        return self.on_event is not None or heard()

    def tell(self, event: Event) -> None:
        """Hand an event to who listens."""
        tell(event, self.on_event)

    def connect(self, opened: Callable[[Connection], None] | None) -> ConnectHandler | None:
        """`on_connect` for the native half, which sees what a plain function returns, not what a coroutine does.

        :param opened: called before it, if somebody wants to know.
        """
        handler = self.on_connect
        if handler is None:
            return opened
        if not is_async(handler):
            if opened is None:
                return handler

            def meet(conn: Connection) -> Any:
                opened(conn)
                return handler(conn)

            return meet

        async def greet(conn: Connection) -> None:
            if opened is not None:
                opened(conn)
            if await handler(conn) is False:
                raise Refused("on_connect refused it")

        return greet

    def check(self) -> None:
        """Before the start: somebody must take the messages.

        :raises ConfigError: nobody does.
        """
        if self.on_message is None and self.on_batch is None and self.on_connect is None:
            raise ConfigError("the server has no handler: decorate one with @server.on_message")
        if self.offload is not None:
            self.offload.check()
