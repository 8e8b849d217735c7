"""Owns the handover: a program started anew, or a worker's successor, has the live connections from then on.

::

    old                                              new
     |  starts the command of this process again      |
     |----------------------------------------------->|  imports, reaches run(), checks itself
     |<------------------------------------- ready ---|
     |  accepts nobody; lets handlers finish          |
     |  ......... from here on its loop stands still: nothing is sent that would be on both sides .........
     |  sockets, pictures, descriptors (SCM_RIGHTS)   |
     |----------------------------------------------->|  has them all, and touches none
     |<------------------------------------- taken ---|
     |  go: the commit point                          |
     |----------------------------------------------->|  serves
     |  drains what could not move, and ends          |

Of workers the supervisor starts the successor, and gives its predecessor the other end of the exchange; the listening
sockets are inherited. What other workers published meanwhile reaches each connection once: the position on the bus goes
with the connections.

Until "go" the old program has everything: whatever happens to the new one, it goes on as if nothing had been. The
kernel keeps what peers send and who connects meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from wireway.errors import WirewayError
from wireway.serve.lasting import legacy
from wireway.serve.passing import MOST, expect, receive, send

if TYPE_CHECKING:
    from wireway._native import Connection
    from wireway.config import Handover

__all__ = ["VARIABLE", "Heir", "Moveable", "Position", "Replayed", "hand_over", "hand_to_successor"]

logger = logging.getLogger("wireway.handover")

VARIABLE = "WIREWAY_SUCCESSION"
"""The descriptor of the new program's end."""
_READY, _TAKEN, _GO = b"R1", b"T1", b"G1"
"""Each with the version of the exchange: programs that do not understand each other part before anything moves."""
_PATIENCE = 10.0
"""Seconds that one step of the exchange may take while the old program stands still."""


class Moveable(Protocol):
    """What is asked of a server here."""

    handover: Handover

    @property
    def sockets(self) -> list[socket.socket]: ...  # Those that it listens on.
    @property
    def connections(self) -> list[Connection]: ...  # The open ones.

    async def stop_accepting(self) -> None: ...  # Let nobody in for now.
    def accept(self) -> None: ...  # Let peers in.
    def forget_files(self) -> None: ...  # The files of its Unix sockets are somebody else's.
    # Start on these, or on those it has, and let nobody in yet.
    async def start_held(self, sockets: Iterable[socket.socket] | None) -> None: ...
    def adopt(self, fd: int, picture: dict[str, Any], state: Any) -> Connection: ...  # Have one, standing still.


Position = dict[str, int]
"""How far each worker's messages were heard: by name, the number of the last."""


class Replayed(Protocol):
    """What is asked of a worker's bus here."""

    def position(self) -> Position: ...  # What was delivered here so far.
    def release(self, position: Position) -> None: ...  # Deliver what was held back, without what is in `position`.


# --- the old program ----------------------------------------------------------------------------------------------


async def hand_over(server: Moveable) -> int | None:
    """Start the program anew and hand everything to it. Its process id; None if this one goes on: the log says why."""
    try:
        process, sock = _start()
    except OSError as error:
        logger.error("hot restart: %s can not be started: %s; this program goes on", sys.orig_argv, error.strerror)
        return None
    with sock:
        try:
            await _ready(sock, server.handover.ready)
            await _hand(server, sock, f"hot restart: process {process.pid}", server.sockets, {})
        except (OSError, EOFError, WirewayError) as error:
            how = await asyncio.to_thread(_end, process)
            gone = isinstance(error, ConnectionError | EOFError)
            what = "it ended in the middle" if gone else error
            logger.error("hot restart: the new program (process %d) %s: %s; this one goes on", process.pid, how, what)
            return None
    process.returncode = 0  # it is nobody's child from now on
    return process.pid


async def hand_to_successor(server: Moveable, sock: socket.socket, bus: Replayed) -> None:
    """Hand the connections to a worker's successor, which is at the other end. If that fails they stay."""
    with sock:
        try:
            await _ready(sock, server.handover.ready)
            await _hand(server, sock, "roll: the successor", [], bus)
        except (OSError, EOFError, WirewayError) as error:
            gone = isinstance(error, ConnectionError | EOFError)
            # The supervisor tells of a roll that fails.
            logger.debug("roll: connections stay here: %s", "the successor ended in the middle" if gone else error)


def _start() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        more = legacy()
        environment = {**os.environ, **more.environment, VARIABLE: str(theirs.fileno())}
        try:
            command = [sys.executable, *sys.orig_argv[1:]]
            process = subprocess.Popen(command, env=environment, pass_fds=(theirs.fileno(), *more.descriptors))
        except OSError:
            ours.close()
            raise
    return process, ours


async def _ready(sock: socket.socket, seconds: float) -> None:
    sock.setblocking(False)
    try:
        async with asyncio.timeout(seconds):
            said = await asyncio.get_running_loop().sock_recv(sock, len(_READY))
    except TimeoutError:
        raise WirewayError(f"it was not ready within {seconds:g} s") from None
    if said != _READY:
        raise WirewayError("it ended before it was ready" if not said else "it is of another version of wireway")


async def _hand(
    server: Moveable, sock: socket.socket, who: str, sockets: list[socket.socket], bus: Replayed | Position
) -> None:
    loop = asyncio.get_running_loop()
    await server.stop_accepting()
    candidates = server.connections
    moved: list[Connection] = []
    stays: Counter[str] = Counter()
    try:
        for connection in candidates:
            connection._hush()
        await _finished(candidates, server.handover.handlers)
        candidates = server.connections
        began = time.monotonic()
        sock.settimeout(_PATIENCE)
        position = bus if isinstance(bus, dict) else bus.position()
        send(sock, json.dumps(position).encode(), [each.fileno() for each in sockets])
        for batch in _batches(candidates, server.handover, stays):
            moved += (connection for connection, _, _ in batch)
            send(sock, pickle.dumps([told for _, _, told in batch]), [fd for _, fd, _ in batch])
        send(sock, b"", [])
        expect(sock, _TAKEN)
        sock.sendall(_GO)
    except BaseException:
        for connection in candidates:
            loop.call_soon(connection._unhush)
        server.accept()
        raise
    for connection in moved:
        connection._moved()
    stood = time.monotonic() - began
    server.forget_files()
    for connection in server.connections:
        loop.call_soon(connection._unhush)
    text = "%s has %d connections, which stood still for %.3f s; %d stay here and are drained%s"
    reasons = "".join(f"; {count}: {why}" for why, count in stays.most_common())
    logger.info(text, who, len(moved), stood, stays.total(), reasons)


async def _finished(connections: list[Connection], seconds: float) -> None:
    """Wait until no handler of theirs runs."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for connection in connections:
                while connection._stays() == "a handler runs":  # noqa: ASYNC110 - many small waits, rarely any
                    await asyncio.sleep(0.005)


_Told = tuple[dict[str, Any], bytes | None]
"""The picture of a connection, and its state."""


def _batches(
    connections: list[Connection], options: Handover, stays: Counter[str]
) -> Iterable[list[tuple[Connection, int, _Told]]]:
    batch = []
    for connection in connections:
        if (why := connection._stays()) is not None:
            stays[why] += 1
            continue
        try:
            state = connection.state
            encoded = None if state is None else (options.encode or pickle.dumps)(state)
        except Exception as error:  # noqa: BLE001 - whatever the user's objects raise
            stays[f"its state can not be encoded: {type(error).__name__}: {error}"] += 1
            continue
        try:
            fd, picture = connection._export()
        except (RuntimeError, OSError) as error:
            stays[str(error)] += 1
            continue
        batch.append((connection, fd, (picture, encoded)))
        if len(batch) == MOST:
            yield batch
            batch = []
    if batch:
        yield batch


def _end(process: subprocess.Popen[bytes]) -> str:
    """How it ended; it is killed if it has not by itself."""
    try:
        status = process.wait(0.5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "was killed"
    return f"exited with status {status}" if status >= 0 else f"was ended by {signal.Signals(-status).name}"


# --- the new program ----------------------------------------------------------------------------------------------


class Heir:
    """The new program's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @classmethod
    def of_environment(cls) -> Heir | None:
        """This program's, if it was started to succeed another. It is asked for once, then forgotten."""
        number = os.environ.pop(VARIABLE, "")
        if not number.isdecimal():
            return None
        sock = socket.socket(fileno=int(number))
        sock.set_inheritable(False)
        return cls(sock)

    def close(self) -> None:
        """Take nothing."""
        self._sock.close()

    async def prepare(self, server: Moveable) -> None:
        """Start a worker's `server`, which lets nobody in yet. Its predecessor knows nothing of it, and goes on.

        :raises WirewayError: it does not start.
        """
        if server.handover.check is not None:
            server.handover.check()
        await server.start_held(None)

    async def succeed(self, server: Moveable, bus: Replayed) -> None:
        """Let a worker's prepared `server` serve, with the connections of its predecessor if that answers.

        :raises WirewayError: the predecessor goes on, and this one has to end.
        """
        self._sock.sendall(_READY)
        if await _readable(self._sock, server.handover.handlers + _PATIENCE):
            await self._take(server, bus)
            return
        self._sock.close()
        logger.warning("roll: the predecessor does not answer; its connections stay with it")
        bus.release({})
        server.accept()

    async def take(self, server: Moveable) -> None:
        """Start `server` with all that the old program has.

        :raises WirewayError: the old program goes on alone, and this one has to end.
        """
        if server.handover.check is not None:
            server.handover.check()
        self._sock.sendall(_READY)
        await self._take(server, None)

    async def _take(self, server: Moveable, bus: Replayed | None) -> None:
        loop = asyncio.get_running_loop()
        adopted: list[Connection] = []
        with self._sock as sock:
            try:
                sock.settimeout(None)  # the old program bounds it
                body, listening = receive(sock)
                position: Position = json.loads(body)
                if bus is None:
                    await server.start_held(_listening(listening))
                while True:
                    body, descriptors = receive(sock)
                    if not descriptors:
                        break
                    self._adopt(server, body, descriptors, adopted)
                sock.sendall(_TAKEN)
                expect(sock, _GO)
            except BaseException as error:
                for connection in adopted:
                    connection._moved()  # without a word to its peer: it is the old program's
                server.forget_files()
                if isinstance(error, OSError | EOFError):
                    raise WirewayError(f"the old program did not hand over: {error}") from error
                raise
        if bus is not None:
            bus.release(position)
        for connection in adopted:
            loop.call_soon(connection._unhush)
        server.accept()

    def _adopt(self, server: Moveable, body: bytes, descriptors: list[int], adopted: list[Connection]) -> None:
        left = iter(descriptors)
        try:
            told: list[_Told] = pickle.loads(body)
            if len(told) != len(descriptors):
                raise EOFError(f"{len(descriptors)} of {len(told)} descriptors came: too few are free in this process")
            for picture, encoded in told:
                decode = server.handover.decode or pickle.loads
                state = None if encoded is None else decode(encoded)
                fd = next(left)
                try:
                    adopted.append(server.adopt(fd, picture, state))
                except ValueError:
                    os.close(fd)
                    raise
        finally:
            for fd in left:
                os.close(fd)


async def _readable(sock: socket.socket, seconds: float) -> bool:
    """Whether there is something to read, or an end, within so many seconds."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(sock.fileno(), there.set)
    try:
        async with asyncio.timeout(seconds):
            await there.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(sock.fileno())
    return True


def _listening(descriptors: list[int]) -> list[socket.socket]:
    sockets = [socket.socket(fileno=fd) for fd in descriptors]
    for sock in sockets:
        sock.setblocking(False)
    return sockets
