"""The thread behind a `FaultyLink`: a listening socket, a selector, and the connections through the link.

Owns the descriptors of the link and the order of things. Knows no event loop and no back end: what is under test may
block, may run on any loop, may be another process. Does not know what is done to bytes: that is `bridge`.
All of `Relay` but `do` and `wait` belongs to its own thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from wireway.errors import WirewayError
from wireway.testing.bridge import NEVER, TICK, Bridge, Direction, Rules

__all__ = ["Counts", "Listening", "Relay"]

_BACKLOG = 128
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Listening = Literal["open", "silent", "deaf", "refusing"]
"""Accepting; established by the kernel and left there; not even established; refused."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Counts:
    """What a link has seen so far."""

    accepted: int = 0
    """Connections that came."""
    open: int = 0
    """Those that are open now."""
    unreachable: int = 0
    """Those that were reset because the target could not be connected."""
    reset: int = 0
    """Those that ended with RST."""
    upstream: int = 0
    """Bytes passed on from clients to the target."""
    downstream: int = 0
    """Bytes passed on from the target to clients."""


class Relay(threading.Thread):
    """The thread. See the head of this file."""

    def __init__(self, family: int, name: Any, target: tuple[int, Any], buffer: int, seed: int) -> None:
        super().__init__(name=f"wireway-link-{name}", daemon=True)
        self.family, self.target, self.buffer = family, target, buffer
        self.random = random.Random(seed)
        self.rules: dict[Direction, Rules] = {"upstream": Rules(), "downstream": Rules()}
        self.listening: Listening = "open"
        self.bridges: dict[Bridge, None] = {}
        self.accepted = self.unreachable = self.resets = 0
        self.bytes: dict[Direction, int] = {"upstream": 0, "downstream": 0}
        self._changed = threading.Condition()
        self._commands: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._over = False
        self._retry_at = NEVER
        self._fillers: list[socket.socket] = []
        self._filler_names: set[Any] = set()
        """Our own connections that fill the kernel's queue: they are no clients."""
        with contextlib.ExitStack() as stack:
            # Holds the port while nobody listens: a socket that is bound only has connections refused.
            self._guard = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if family != socket.AF_UNIX:
                self._guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._guard.bind(name)
                name = self._guard.getsockname()
            self.name_of_socket = name
            self._listener: socket.socket | None = stack.enter_context(self._listen())
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            stack.callback(os.close, self._wake)
            self._selector = stack.enter_context(contextlib.closing(selectors.DefaultSelector()))
            self._selector.register(self._wake, selectors.EVENT_READ, lambda _mask: self._woken())
            self._watch_listener()
            stack.pop_all()

    # --- for the other threads ------------------------------------------------------------------------

    def do(self, action: Callable[[], _T]) -> _T:
        """Call `action` in the thread, and return or raise what it does. When this returns, it holds.

        :raises WirewayError: the thread has ended.
        """
        future: Future[_T] = Future()
        with self._changed:
            if self._over:
                raise WirewayError("the link is closed")
            self._commands.append((action, future))
            os.eventfd_write(self._wake, 1)
        return future.result(30.0)

    def wait(self, condition: Callable[[Counts], bool], timeout: float) -> Counts:
        """Wait until the counts satisfy `condition`; `TimeoutError` with the counts otherwise."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self.counts()), timeout):
                raise TimeoutError(f"after {timeout:g} s the link has only {self.counts()}")
            return self.counts()

    def counts(self) -> Counts:
        """A snapshot."""
        passed = self.bytes
        return Counts(
            self.accepted, len(self.bridges), self.unreachable, self.resets, passed["upstream"], passed["downstream"]
        )

    # --- the thread -----------------------------------------------------------------------------------

    def run(self) -> None:
        """Turn until `stop`."""
        try:
            while not self._over:
                self._turn()
        finally:
            self._end()

    def stop(self) -> None:
        """End the thread after this turn."""
        self._over = True

    def _turn(self) -> None:
        now = time.monotonic()
        due = min([self._retry_at, *(bridge.wake_at for bridge in self.bridges)])
        for key, mask in self._selector.select(None if due == NEVER else max(0.0, due - now)):
            key.data(mask)
        now = time.monotonic()
        if self._retry_at <= now:
            self._retry_at = NEVER
            self._watch_listener()
        for bridge in list(self.bridges):
            if not bridge.closed:
                bridge.work(now)
        with self._changed:
            self._changed.notify_all()

    def _woken(self) -> None:
        os.eventfd_read(self._wake)
        while self._commands:
            action, future = self._commands.popleft()
            try:
                future.set_result(action())
            except Exception as error:  # noqa: BLE001 - it belongs to who asked
                future.set_exception(error)

    def _end(self) -> None:
        with self._changed:
            self._over = True
            left = list(self._commands)
            self._commands.clear()
        for _action, future in left:
            future.set_exception(WirewayError("the link is closed"))
        for bridge in list(self.bridges):
            bridge.close()
        self._unfill()
        for sock in (self._listener, self._guard):
            if sock is not None:
                sock.close()
        self._selector.close()
        os.close(self._wake)
        with self._changed:
            self._changed.notify_all()

    def watch(self, sock: socket.socket, events: int, callback: Callable[[int], None] | None) -> None:
        """Watch a socket for `events`; for none at all, forget it: a hang-up would wake the thread again and again."""
        key = self._selector.get_map().get(sock)
        if key is None:
            if events:
                self._selector.register(sock, events, callback)
        elif not events:
            self._selector.unregister(sock)
        elif key.events != events:
            self._selector.modify(sock, events, callback)

    def forget(self, bridge: Bridge) -> None:
        """A bridge is closed."""
        self.bridges.pop(bridge, None)

    # --- what the link asks ---------------------------------------------------------------------------

    def obey(self, rules: dict[Direction, Rules], listening: Listening) -> None:
        """Take new rules. Bytes that are on their way come under them, too."""
        for bridge in self.bridges:
            for pipe in (bridge.up, bridge.down):
                if rules[pipe.direction].reset_after != pipe.rules.reset_after:
                    pipe.marked = pipe.passed
        self.rules = rules
        if listening == self.listening:
            return
        self.listening = listening
        if listening == "deaf":
            self._fill()
        else:
            self._unfill()
        if listening == "refusing":
            assert self._listener is not None
            self.watch(self._listener, 0, None)
            self._listener.close()
            self._listener = None
        elif self._listener is None:
            self._listener = self._listen()
        self._watch_listener()

    def reset_all(self) -> int:
        """RST for every connection; how many."""
        bridges = list(self.bridges)
        for bridge in bridges:
            bridge.reset()
        return len(bridges)

    def close_all(self) -> int:
        """FIN for every connection; how many."""
        bridges = list(self.bridges)
        for bridge in bridges:
            bridge.close()
        return len(bridges)

    def end_all(self, directions: Sequence[Direction]) -> int:
        """The end of the stream in some directions of every connection; of how many connections."""
        for bridge in self.bridges:
            for pipe in (bridge.up, bridge.down):
                if pipe.direction in directions:
                    pipe.end()
        return len(self.bridges)

    # --- accepting ------------------------------------------------------------------------------------

    def _listen(self) -> socket.socket:
        sock = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            self._prepare(sock)
            if self.family == socket.AF_UNIX:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.name_of_socket)  # noqa: PTH108 - bytes or str, as it was given
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(self.name_of_socket)
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def _prepare(self, sock: socket.socket) -> None:
        """Buffers before the handshake: they decide about the window. Accepted sockets inherit them."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.buffer)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _watch_listener(self) -> None:
        if self._listener is not None:
            accepts = self.listening == "open" and self._retry_at == NEVER
            self.watch(self._listener, selectors.EVENT_READ if accepts else 0, lambda _mask: self._accept())

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, name = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._retry_at = time.monotonic() + TICK
            self._watch_listener()
            return
        if name and name in self._filler_names:
            self._filler_names.discard(name)
            client.close()
            return
        client.setblocking(False)
        self.accepted += 1
        self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        family, name = self.target
        target: socket.socket | None = None
        try:
            target = socket.socket(family, socket.SOCK_STREAM)
            self._prepare(target)
            code = target.connect_ex(name)
        except OSError as error:
            code = error.errno or errno.EIO
        if target is None or code not in (0, errno.EINPROGRESS):
            self.unreachable += 1
            self.resets += 1
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            if target is not None:
                target.close()
            return
        self.bridges[Bridge(self, client, target, connecting=code != 0)] = None

    def _fill(self) -> None:
        """Fill the kernel's queue with connections of our own: Linux drops a SYN when it is full (tcp_conn_request)."""
        assert self._listener is not None
        self._listener.listen(0)
        for _ in range(2 * _BACKLOG):
            sock = socket.socket(self.family, socket.SOCK_STREAM)
            self._fillers.append(sock)
            sock.setblocking(False)
            sock.connect_ex(self.name_of_socket)
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            if not poll.poll(50):  # the handshake over the loopback is done within `connect`, unless it is dropped
                return
            self._filler_names.add(sock.getsockname())

    def _unfill(self) -> None:
        if self._fillers and self._listener is not None:
            self._listener.listen(_BACKLOG)
        for sock in self._fillers:
            sock.close()
        self._fillers.clear()
