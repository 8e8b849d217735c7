"""Owns worker processes: one process that calls a blocking handler, one message after the other, and what it is told.

A `Worker` belongs to one thread, which may block. It knows no loop and no connection; the process inherits none, since
it comes from a fork server (multiprocessing's, started without our descriptors), not from a fork of a program with
threads. As with all of multiprocessing, the handler's module is imported there: guard `server.run()` with
``if __name__ == "__main__":``.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import ForkServerProcess
from typing import Any

from wireway.errors import WorkerDiedError

__all__ = ["PeerInfo", "Worker", "pieces_of"]

logger = logging.getLogger("wireway.server")

_STARTING = threading.Lock()
"""multiprocessing reaps children whenever one starts, which two threads must not do at once."""

_PATIENCE = 5.0
"""Seconds that a process without work gets to end by itself."""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What a handler in another process knows of the connection whose message it handles."""

    id: int
    """As `Connection.id`."""
    peer: Any
    """As `Connection.peer`."""


def pieces_of(result: Any, name: str) -> Iterable[bytes]:
    """The messages in what the handler `name` returned; None is none.

    :raises TypeError: it is, or holds, something else than bytes.
    """
    if result is None:
        return
    if isinstance(result, bytes | bytearray | memoryview):
        yield bytes(result)
        return
    if isinstance(result, str) or not isinstance(result, Iterable):
        raise TypeError(f"{name} returned {type(result).__name__}: bytes, an iterable of bytes, or None can be sent")
    for piece in result:
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise TypeError(f"{name} returned an iterable with {type(piece).__name__} in it: only bytes can be sent")
        yield bytes(piece)


class Worker:
    """One process, and a new one whenever it died."""

    def __init__(self, function: Callable[[PeerInfo, bytes], Any]) -> None:
        """Start nothing yet."""
        self._function = function
        self._process: ForkServerProcess | None = None
        self._pipe: Pipe | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._calling = False
        self._last_words = "ended"

    def start(self) -> None:
        """Start the process. Returns before it is ready; what it can not import it says on stderr."""
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe()
        with _STARTING:
            process = context.Process(target=_serve, args=(theirs, self._function), daemon=True)
            process.start()
        theirs.close()
        self._process, self._pipe = process, ours

    def call(self, peer: PeerInfo, message: bytes) -> list[bytes]:
        """Have one message handled.

        :raises WorkerDiedError: the process ended meanwhile. The next call starts another.
        :raises Exception: what the handler raised, with the traceback of there as a note.
        """
        process, pipe = self._alive()
        with self._lock:
            if self._stopped:
                raise WorkerDiedError("the server has stopped")
            self._calling = True
        try:
            pipe.send((peer, message))
            answer = pipe.recv_bytes()
        except (EOFError, OSError) as error:
            number = process.pid
            self.end()
            text = f"worker process {number} {self._last_words} while it handled a message"
            logger.warning("%s; another takes its place", text)
            raise WorkerDiedError(text) from error
        finally:
            with self._lock:
                self._calling = False
        good, value = pickle.loads(answer)
        if good:
            return list(value)
        assert isinstance(value, BaseException)
        raise value

    def _alive(self) -> tuple[ForkServerProcess, Pipe]:
        """The process, a new one if it is not there any more."""
        if self._process is not None and not self._process.is_alive():
            number = self._process.pid
            self.end()
            logger.warning("worker process %s %s without work; another takes its place", number, self._last_words)
        if self._process is None or self._pipe is None:
            self.start()
        assert self._process is not None
        assert self._pipe is not None
        return self._process, self._pipe

    def stop(self) -> None:
        """From another thread: begin no call any more. It is killed if it is in one, which raises `WorkerDiedError`."""
        with self._lock:
            self._stopped = True
            if self._calling and self._process is not None:
                self._process.kill()

    def end(self) -> None:
        """End the process, which has no work or is dead, and wait until it is gone."""
        process, pipe = self._process, self._pipe
        self._pipe = None
        if pipe is not None:
            pipe.close()  # it reads the end of the stream, and returns
        if process is None:
            return
        with _STARTING:
            process.join(_PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
        status = process.exitcode or 0
        self._last_words = f"was ended by {_signal(-status)}" if status < 0 else f"ended with status {status}"
        with self._lock:
            self._process = None
        process.close()


def _signal(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _serve(pipe: Pipe, function: Callable[[PeerInfo, bytes], Any]) -> None:
    """The process: calls the handler until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group: the server drains
    name = getattr(function, "__qualname__", type(function).__name__)
    with contextlib.suppress(EOFError, OSError):
        while True:
            peer, message = pipe.recv()
            try:
                answer = pickle.dumps((True, list(pieces_of(function(peer, message), name))))
            except BaseException as error:  # noqa: BLE001 - told to the server, whose connection ends with it
                answer = _failure(error, name)
            pipe.send_bytes(answer)


def _failure(error: BaseException, name: str) -> bytes:
    """The exception as the other side can read it, with its traceback as a note."""
    text = "".join(traceback.format_exception(error)).rstrip()
    try:
        error.add_note(f"in a worker process:\n{text}")
        answer = pickle.dumps((False, error))
        if isinstance(pickle.loads(answer)[1], Exception):
            return answer
    except Exception:  # noqa: BLE001 - an exception with a constructor of its own may do anything here
        pass
    told = RuntimeError(f"{name} raised {type(error).__name__}: {error}")
    told.add_note(f"in a worker process:\n{text}")
    return pickle.dumps((False, told))
