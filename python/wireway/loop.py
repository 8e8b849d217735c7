"""`EventLoop`: a complete asyncio loop over the native one.

What is hot is native (`LoopCore`): scheduling, polling, accepting, TCP and Unix stream transports.
Everything else is the standard library's unix selector loop, inherited. This module is where the two
meet: it makes native transports where the standard library makes its own, and serves debug mode.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import ssl
import weakref
from asyncio import base_events, events, sslproto
from asyncio.log import logger
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Self, TypeVar

from wireway._native import Listener, LoopCore, StreamTransport
from wireway.backend import choose
from wireway.errors import ConfigError

__all__ = ["EventLoop", "new_event_loop", "run"]

_T = TypeVar("_T")


class _Selector:
    """Stands where the standard library keeps its selector, and answers what is asked of it there.

    The selecting is done by the native half.
    """

    def __init__(self, loop: LoopCore) -> None:
        self._loop = weakref.ref(loop)

    def close(self) -> None:
        """Nothing to close: the native half closes what it owns."""

    def get_key(self, fd: int) -> selectors.SelectorKey:
        """The events that a descriptor is watched for, with its handles.

        :raises KeyError: it is not watched.
        """
        loop = self._loop()
        handles = None if loop is None else loop._watched(fd)
        if handles is None:
            raise KeyError(f"{fd!r} is not registered")
        reader, writer = handles
        events = (selectors.EVENT_READ if reader else 0) | (selectors.EVENT_WRITE if writer else 0)
        return selectors.SelectorKey(fd, fd, events, handles)


class _Transports(weakref.WeakValueDictionary[int, Any]):
    """The loop's transports by descriptor: native ones are looked up natively, others are kept here."""

    def __init__(self, loop: LoopCore) -> None:
        super().__init__()
        self._native = weakref.ref(loop)
        self._lent: set[int] = set()
        """Descriptors that `sendfile` uses directly: it takes the transport out for that time."""

    def _lookup(self, fd: int) -> StreamTransport | None:
        loop = self._native()
        return None if loop is None else loop._native_transport(fd)

    def __getitem__(self, fd: int) -> Any:
        transport = None if fd in self._lent else self._lookup(fd)
        return super().__getitem__(fd) if transport is None else transport

    def get(self, key: int, default: Any = None) -> Any:
        """What Python 3.13 asks instead of `__getitem__`."""
        try:
            return self[key]
        except KeyError:
            return default

    def __setitem__(self, fd: int, transport: Any) -> None:
        if fd in self._lent:
            self._lent.discard(fd)
        else:
            super().__setitem__(fd, transport)

    def __delitem__(self, fd: int) -> None:
        if self._lookup(fd) is None:
            super().__delitem__(fd)
        else:
            self._lent.add(fd)


class EventLoop(LoopCore, asyncio.SelectorEventLoop):
    """An asyncio event loop with a native core.

    :param backend: ``"auto"``, ``"io_uring"``, ``"epoll"``, ``"poll"``, ``"select"`` or ``"sigio"``.
    :raises UnknownBackendError: there is no such back end.
    :raises BackendUnavailableError: the kernel does not allow the one asked for.

    The back end is chosen in ``__new__``: a subclass with arguments of its own defines that, too.

    Thread rule: as for every asyncio loop, all methods belong to the thread that runs the loop, except
    `call_soon_threadsafe`. Others are refused with `RuntimeError` while the loop runs, in and out of
    debug mode.
    """

    backend_reason: str
    """Why this back end runs."""
    _current_handle: asyncio.Handle | None

    def __new__(cls, backend: str = "auto") -> Self:
        """Choose the back end and make the native half."""
        choice = choose(backend)
        loop = super().__new__(cls, choice.backend)
        loop.backend_reason = choice.reason
        return loop

    def __init__(self, backend: str = "auto") -> None:
        """Make the inherited half."""
        self._listeners: dict[int, Listener] = {}
        asyncio.SelectorEventLoop.__init__(self, _Selector(self))  # type: ignore[arg-type]
        self._transports = _Transports(self)
        if backend not in ("auto", self.backend):
            self.close()
            raise ConfigError(
                f"__init__ asks for the {backend} back end, but __new__ has made one with {self.backend}: "
                f"{type(self).__name__} must define __new__ and give the back end there"
            )

    def __repr__(self) -> str:
        return (
            f"<wireway.EventLoop backend={self.backend} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    def run_forever(self) -> None:
        """Run until `stop` is called.

        :raises RuntimeError: this loop, or another in this thread, runs already.
        """
        # Python 3.13.0 to 3.13.2 look too late, and end the run that is under way (gh-130145).
        self._check_closed()  # type: ignore[attr-defined]
        self._check_running()  # type: ignore[attr-defined]
        super().run_forever()

    def close(self) -> None:
        """Close the loop and every descriptor that it owns. It must not be running."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        super().close()
        self._listeners.clear()
        self._close_native()

    # --- where the standard library makes transports ------------------------------------------------

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> StreamTransport:
        self._ensure_fd_no_transport(sock)  # type: ignore[attr-defined]
        base_events._set_nodelay(sock)  # type: ignore[attr-defined]
        return StreamTransport(self, sock, protocol, waiter, extra=extra, server=server)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        **timeouts: Any,
    ) -> Any:
        self._ensure_fd_no_transport(rawsock)  # type: ignore[attr-defined]
        base_events._set_nodelay(rawsock)  # type: ignore[attr-defined]
        factory: Any = sslproto.SSLProtocol
        ssl_protocol = factory(self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts)
        StreamTransport(self, rawsock, ssl_protocol, extra=extra, server=server)
        return ssl_protocol._app_transport

    def _start_serving(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: ssl.SSLContext | None = None,
        server: Any = None,
        backlog: int = 100,
        *args: Any,
        **timeouts: Any,
    ) -> None:
        names = ("ssl_handshake_timeout", "ssl_shutdown_timeout")
        timeouts.update(zip(names, args, strict=False))
        # Accepted sockets inherit it (tcp(7)): one call here instead of one for each connection.
        base_events._set_nodelay(sock)  # type: ignore[attr-defined]
        if sslcontext is None:
            listener = Listener(self, sock, factory=protocol_factory, server=server)
        else:
            accept = partial(self._accept_tls, protocol_factory, sslcontext, server, timeouts)
            listener = Listener(self, sock, callback=accept)
        self._listeners[sock.fileno()] = listener

    def _accept_tls(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sslcontext: ssl.SSLContext,
        server: Any,
        timeouts: dict[str, Any],
        sock: socket.socket,
    ) -> None:
        waiter = self.create_future()
        try:
            transport = self._make_ssl_transport(
                sock,
                protocol_factory(),
                sslcontext,
                waiter,
                server_side=True,
                extra={"peername": sock.getpeername()},
                server=server,
                **timeouts,
            )
        except BaseException:
            sock.close()
            raise
        waiter.add_done_callback(partial(self._tls_accepted, transport))

    def _tls_accepted(self, transport: Any, waiter: asyncio.Future[None]) -> None:
        error = None if waiter.cancelled() else waiter.exception()
        if error is None:
            return
        transport.close()
        if self.get_debug():
            message = "Error on transport creation for incoming connection"
            self.call_exception_handler({"message": message, "exception": error, "transport": transport})

    def _stop_serving(self, sock: socket.socket) -> None:
        listener = self._listeners.pop(sock.fileno(), None)
        if listener is not None:
            listener.close()
        # Closes it and, since Python 3.13, removes the file of a Unix socket.
        super()._stop_serving(sock)  # type: ignore[misc]

    # --- debug mode ---------------------------------------------------------------------------------

    def _debug_handle(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Any, method: str
    ) -> asyncio.Handle:
        if method == "call_soon":
            self._check_thread()  # type: ignore[attr-defined]
        self._check_callback(callback, method)  # type: ignore[attr-defined]
        handle = events.Handle(callback, args, self, context)
        if handle._source_traceback:  # type: ignore[attr-defined]
            del handle._source_traceback[-1]  # type: ignore[attr-defined]
        return handle

    def _debug_timer(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], context: Any, method: str
    ) -> asyncio.TimerHandle:
        self._check_thread()  # type: ignore[attr-defined]
        self._check_callback(callback, method)  # type: ignore[attr-defined]
        handle = events.TimerHandle(when, callback, args, self, context)
        if handle._source_traceback:  # type: ignore[attr-defined]
            del handle._source_traceback[-1]  # type: ignore[attr-defined]
        handle._scheduled = True  # type: ignore[attr-defined]
        return handle

    def _debug_run(self, handle: asyncio.Handle) -> None:
        start = self.time()
        self._current_handle = handle
        try:
            handle._run()
        finally:
            self._current_handle = None
        self._debug_slow(base_events._format_handle(handle), self.time() - start)  # type: ignore[attr-defined]

    def _debug_slow(self, what: object, seconds: float) -> None:
        if seconds >= self.slow_callback_duration:
            logger.warning("Executing %s took %.3f seconds", what, seconds)


def new_event_loop(backend: str = "auto") -> EventLoop:
    """A new loop. See `EventLoop` for the argument and the errors."""
    return EventLoop(backend)


def run(main: Coroutine[Any, Any, _T], *, backend: str = "auto", debug: bool | None = None) -> _T:
    """Run a coroutine on a new loop, as `asyncio.run` does, and return its result.

    :param backend: see `EventLoop`.
    :param debug: asyncio's debug mode; None asks the environment (PYTHONASYNCIODEBUG).
    :raises RuntimeError: a loop runs already in this thread.
    """
    # Before a loop is made: it could not be closed in the proper way.
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("wireway.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=partial(new_event_loop, backend)) as runner:
        return runner.run(main)
