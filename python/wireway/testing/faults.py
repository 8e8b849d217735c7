"""`FaultyLink`: a proxy between a client and a server that can be made slow, broken or silent while a test runs.

What a user names; the thread that does it is `wireway.testing.relay`. Knows no event loop and no back end.
"""

from __future__ import annotations

import contextlib
import math
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from wireway.errors import AddressError, ConfigError
from wireway.net.address import parse
from wireway.testing.bridge import Direction, Rules
from wireway.testing.relay import Counts, Listening, Relay

__all__ = ["Fault", "FaultyLink"]

Where = Literal["both", "upstream", "downstream"]
"""Upstream: from the clients to the target. Downstream: back."""
_DIRECTIONS: dict[str, tuple[Direction, ...]] = {
    "both": ("upstream", "downstream"),
    "upstream": ("upstream",),
    "downstream": ("downstream",),
}


class Fault:
    """A fault of a `FaultyLink`. It holds until `lift`, or to the end of the ``with`` block that it opens.

    Thread rule: as for the link.
    """

    def __init__(self, link: FaultyLink, name: str, directions: tuple[Direction, ...], **settings: Any) -> None:
        """Made by the methods of `FaultyLink`."""
        self._link, self._name, self._directions = link, name, directions
        self._listening: Listening | None = settings.pop("listening", None)
        self._settings = settings

    def lift(self) -> None:
        """End it. Bytes that it held back go on. Returns when the link obeys; does nothing the second time."""
        self._link._lift(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.lift()

    def __repr__(self) -> str:
        return f"<{self._name} {'/'.join(self._directions)}>"


class FaultyLink:
    """A proxy on the loopback whose faults a test sets and lifts while bytes flow.

    :param target: where the link leads: ``tcp://host:port`` or ``unix:///path``. It is connected for each client.
    :param buffer: bytes of each of the kernel's buffers on the way (`SO_RCVBUF`, `SO_SNDBUF`; the kernel doubles
        them, socket(7)). What a stalled link swallows before its sender notices is bounded by them.
    :param seed: of the jitter. The same seed gives the same delays.
    :raises AddressError: `target` is no address, or its host is unknown.
    :raises ConfigError: an option is wrong.

    ::

        with FaultyLink("tcp://127.0.0.1:9000") as link:
            client = socket.create_connection(("127.0.0.1", link.port))
            with link.delay(0.2):
                ...
            link.reset()

    A fault holds for connections that are open and for those to come. When a method returns, the link obeys. Of two
    faults of one kind the later one holds; when it is lifted, the earlier one holds again.

    The link works with plain sockets in a thread of its own, so it does not matter which loop runs the system under
    test, or whether it has one. It sees what a program can see of TCP: the kernel acknowledges for it. To lose
    packets, cut a wire or take an address away, use a network namespace.

    Thread rule: all methods may be called from any thread. They block for the moment that the link's thread needs.
    """

    def __init__(self, target: str, *, buffer: int = 64 * 1024, seed: int = 0) -> None:
        """Listen, and begin to pass on."""
        if not (isinstance(buffer, int) and buffer >= 1):
            raise ConfigError(f"FaultyLink: buffer is {buffer!r}, it must be at least 1 byte")
        self._faults: list[Fault] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        where = _resolve(target)
        with contextlib.ExitStack() as stack:
            if where[0] == socket.AF_UNIX:
                self._folder = tempfile.TemporaryDirectory(prefix="wireway-link-")
                stack.enter_context(self._folder)
                path = str(Path(self._folder.name) / "socket")
                self._address = f"unix://{path}"
                self._relay = Relay(socket.AF_UNIX, path, where, buffer, seed)
            else:
                self._relay = Relay(socket.AF_INET, ("127.0.0.1", 0), where, buffer, seed)
                self._address = f"tcp://127.0.0.1:{self.port}"
            self._relay.start()
            stack.pop_all()

    # --- where it is, and what it saw -------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The URL for clients: of the same kind as the target's, ``tcp://127.0.0.1:port`` or ``unix:///path``."""
        return self._address

    @property
    def port(self) -> int:
        """Its TCP port, for clients that take no URL.

        :raises AddressError: it is a Unix socket.
        """
        if self._relay.family == socket.AF_UNIX:
            raise AddressError(f"{self._address} has no port")
        port: int = self._relay.name_of_socket[1]
        return port

    @property
    def counts(self) -> Counts:
        """What it has seen so far, also after its end."""
        return self._relay.counts()

    @property
    def faults(self) -> list[Fault]:
        """The faults that hold, the oldest first."""
        return list(self._faults)

    def wait(self, condition: Callable[[Counts], bool], timeout: float = 10.0) -> Counts:
        """Block until the counts satisfy `condition`, and return them. In a coroutine: ``asyncio.to_thread``.

        :param condition: called with the counts, in this thread.
        :param timeout: seconds.
        :raises TimeoutError: they did not; the text has the counts.
        """
        return self._relay.wait(condition, timeout)

    def retarget(self, target: str) -> None:
        """Lead new connections elsewhere, of the same family or another: a server that came back on another port.

        :raises AddressError: as in the constructor.
        """
        where = _resolve(target)
        self._relay.do(lambda: setattr(self._relay, "target", where))

    # --- faults that hold ---------------------------------------------------------------------------------

    def slice(self, size: int, every: float | None = None, *, direction: Where = "both") -> Fault:
        """Cut the stream into pieces of at most `size` bytes, each sent by itself.

        :param every: seconds between two pieces. Without it they follow each other at once, and a receiver that is
            late finds several of them joined: that is how TCP works.
        """
        _positive("slice", size=size, every=every)
        return self._set("slice", direction, size=size, every=every or 0.0)

    def delay(self, seconds: float, jitter: float = 0.0, *, direction: Where = "both") -> Fault:
        """Let each piece wait, in its order.

        :param seconds: how long, at least.
        :param jitter: up to how much longer, in seconds, evenly distributed.

        At most 256 KiB of each direction wait; beyond it the sender is not read.
        """
        _not_negative("delay", seconds=seconds, jitter=jitter)
        return self._set("delay", direction, delay=seconds, jitter=jitter)

    def bandwidth(self, bytes_per_second: float, *, direction: Where = "both") -> Fault:
        """Pass on at most so much of each connection, in pieces of a hundredth of a second."""
        _positive("bandwidth", bytes_per_second=bytes_per_second)
        return self._set("bandwidth", direction, rate=float(bytes_per_second))

    def blackhole(self, *, accept: bool = True, direction: Where = "both") -> Fault:
        """Take nothing, give nothing, notice no end; connections stay. As if a cable were cut.

        :param accept: whether new connections are established, by the kernel, and then find silence. With False
            their SYNs are dropped, so that they hang in connecting, and go on with a SYN sent again, a second or
            more after the fault is lifted. TCP only, and both directions only.
        :raises ConfigError: ``accept=False`` with a Unix socket, or with one direction.
        """
        if not accept and (self._relay.family == socket.AF_UNIX or direction != "both"):
            raise ConfigError("blackhole(accept=False) is for TCP and for both directions: it drops SYNs")
        listening: Listening | None = None if direction != "both" else "silent" if accept else "deaf"
        return self._set("blackhole", direction, listening=listening, silent=True)

    def zero_window(self, *, direction: Where = "both") -> Fault:
        """Stop reading the senders of a direction, so that their windows close. What was taken is still passed on.

        A sender notices after about four times `buffer` and 256 KiB; its end is not noticed.
        """
        return self._set("zero_window", direction, reads=False)

    def refuse(self) -> Fault:
        """Refuse new connections: ECONNREFUSED. The port stays taken. Those that are open stay."""
        return self._set("refuse", "both", listening="refusing")

    # --- faults that happen -------------------------------------------------------------------------------

    def reset(self, after_bytes: int | None = None, *, direction: Where = "both") -> Fault:
        """Reset connections: RST to both sides (`SO_LINGER` of 0 seconds, socket(7)).

        :param after_bytes: None: those that are open, now, and it is over. A number: each connection once so many
            bytes passed in `direction`, from now on or from its beginning; they all arrive. 0: at once, new ones too.

        A Unix socket knows no RST: its peer sees the end, or ECONNRESET if it had sent what nobody read.
        """
        if after_bytes is None:
            self._relay.do(self._relay.reset_all)
            return Fault(self, "reset", _directions(direction))
        _not_negative("reset", after_bytes=after_bytes)
        return self._set("reset", direction, reset_after=after_bytes)

    def half_close(self, *, direction: Where = "upstream") -> int:
        """End the stream in one direction, now, after what is on its way; the other flows on. What the sender still
        sends is thrown away. Returns how many connections are open."""
        directions = _directions(direction)
        return self._relay.do(lambda: self._relay.end_all(directions))

    def drop_connections(self) -> int:
        """Close the open connections in order (FIN), now; what is on its way is lost. Returns how many they were."""
        return self._relay.do(self._relay.close_all)

    def lift(self) -> None:
        """Lift every fault that holds."""
        self._faults.clear()
        self._obey()

    # --- end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections, the listening socket and the thread. The second time does nothing."""
        if self._relay.is_alive():
            with contextlib.suppress(ConnectionError):
                self._relay.do(self._relay.stop)
            self._relay.join()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FaultyLink {self._address} {self._faults}>"

    # --- the faults together ----------------------------------------------------------------------------------

    def _set(self, name: str, direction: Where, **settings: Any) -> Fault:
        fault = Fault(self, name, _directions(direction), **settings)
        self._faults.append(fault)
        self._obey()
        return fault

    def _lift(self, fault: Fault) -> None:
        if fault in self._faults:
            self._faults.remove(fault)
            self._obey()

    def _obey(self) -> None:
        listening: Listening = "open"
        settings: dict[Direction, dict[str, Any]] = {"upstream": {}, "downstream": {}}
        for fault in self._faults:
            listening = fault._listening or listening
            for direction in fault._directions:
                settings[direction].update(fault._settings)
        rules: dict[Direction, Rules] = {direction: Rules(**given) for direction, given in settings.items()}
        if self._relay.is_alive():
            self._relay.do(lambda: self._relay.obey(rules, listening))


def _resolve(target: str) -> tuple[int, Any]:
    address = parse(target)
    if address.scheme == "unix":
        return socket.AF_UNIX, address.path
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise AddressError(f"host {address.host!r} is unknown: {error.strerror}") from error
    return found[0][0], found[0][4]


def _directions(direction: str) -> tuple[Direction, ...]:
    if direction not in _DIRECTIONS:
        raise ConfigError(f"direction is {direction!r}, allowed are 'both', 'upstream' and 'downstream'")
    return _DIRECTIONS[direction]


def _positive(fault: str, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
            raise ConfigError(f"{fault}: {name} is {value!r}, it must be more than 0")


def _not_negative(fault: str, **values: float) -> None:
    for name, value in values.items():
        if not (isinstance(value, int | float) and 0 <= value < math.inf):
            raise ConfigError(f"{fault}: {name} is {value!r}, it must be at least 0")
