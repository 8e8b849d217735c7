"""Owns what is told of a loop that does not turn: `Stall`, the log, the hook, and the thread that reads stacks.

The native monitor sees that a turn lasts too long, and what the kernel says of the loop's thread. One Python thread
for the process, the reader, is told; it takes the GIL, reads the stack of the loop's thread and logs while the stall
lasts. When the loop turns again it hears of the stall there. Knows no socket.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import linecache
import logging
import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from wireway._native import LoopCore, StallMonitor, stall_mark
from wireway.config import Stalls
from wireway.events import Event, LoopStalled, logged

__all__ = ["Stall", "Watching"]

logger = logging.getLogger("wireway.stalls")

_Event = tuple[int, str, int, int, float, float, str, str]
_Place = tuple[str, int, str]
"""File, line, function."""

_DEPTH = 60
"""Frames of a stack that are kept: the innermost."""
_OURS = (f"{Path(__file__).parents[1]}/", f"{Path(asyncio.__file__).parent}/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stall:
    """A turn of the loop that lasted too long: meanwhile nobody was served."""

    when: float
    """When it began, seconds since the epoch."""
    seconds: float
    """How long it lasted."""
    cause: str
    """What took most of it: ``"busy"`` (Python code that computes), ``"blocked"`` (a call that waits, like
    `time.sleep`), ``"gc"`` (garbage collection), ``"native"`` (native code that keeps the GIL), ``"gil"`` (another
    thread keeps it), ``"starved"`` (no processor for the thread), ``"stopped"`` (the whole process did not run)."""
    detail: str
    """The cause in words."""
    handler: str | None = None
    """The function that the loop ran, if it is known."""
    connection: int | None = None
    """The `Connection.id` that it worked for, if it worked for one."""
    peer: Any = None
    """That connection's peer."""
    stack: tuple[str, ...] = ()
    """The Python stack below the loop, the innermost call last: ``file:line in function: source``. Of several looks,
    what was seen most often. Empty if it could not be read, or `Stalls.stack` is off."""
    count: int = 0
    """How often the stack was read."""

    def __str__(self) -> str:
        who = self.handler or "the loop"
        peer = "" if self.connection is None else f" for connection {self.connection} from {self.peer}"
        return f"{self.seconds:.2f} s in {who}{peer}: {self.cause}, {self.detail}"


class Handlers(Protocol):
    """What a server calls: see `wireway.net.callbacks.Callbacks`."""

    on_connect: Any
    on_message: Any
    on_batch: Any
    on_close: Any
    on_stall: Callable[[Stall], object] | None

    @property
    def heard(self) -> bool: ...  # Whether anybody listens to events.
    def tell(self, event: Event) -> None: ...  # Hand one to who listens.


class Watching:
    """The stall watch of one server, made on the thread of its loop. What it kept stays after `close`."""

    def __init__(self, loop: LoopCore, options: Stalls, handlers: Handlers, addresses: Sequence[str]) -> None:
        """Begin to watch."""
        self._loop, self._options, self._handlers = loop, options, handlers
        self._name = ", ".join(addresses)
        self._thread = threading.get_ident()
        self._kept: deque[Stall] = deque(maxlen=options.keep)
        self._count, self._seconds = 0, 0.0
        self._seen = _Seen()
        self._watch = _readers.enter(self, loop, options.after)

    def stalls(self) -> list[Stall]:
        """Those that are over, the newest last."""
        return list(self._kept)

    def counts(self) -> dict[str, Any]:
        """For `ServerStats`."""
        return {"stalls": self._count, "stall_seconds": self._seconds}

    def close(self) -> None:
        """End it. A stall that lasts is over with it."""
        self._watch.close()
        _readers.leave(self._watch.number)

    # --- on the reader's thread -------------------------------------------------------------------------

    def hear(self, event: _Event) -> None:
        """What a stall does."""
        _, kind, turn, token, began, seconds, cause, detail = event
        if kind == "begins":
            self._seen = _Seen()
        seen = self._seen
        if kind != "over":
            if self._watch.still(turn):
                self._look(seen, token)
            if kind == "begins":
                self._log_begin(seen, seconds, cause, detail)
            return
        if seen.connection is None:
            self._name_party(seen, token, None)
        stall = Stall(
            when=time.time() - time.monotonic() + began,
            seconds=seconds,
            cause=cause,
            detail=detail,
            handler=seen.handler,
            connection=seen.connection,
            peer=seen.peer,
            stack=_lines(seen.most()) if self._options.stack else (),
            count=seen.looks,
        )
        self._seen = _Seen()
        extra = logged(self._event(stall))
        logger.warning("%s: the loop turns again after %s", self._name, stall, extra=extra)
        try:
            self._loop.call_soon_threadsafe(self._over, stall)
        except RuntimeError:  # closed meanwhile
            self._keep(stall)

    def _look(self, seen: _Seen, token: int) -> None:
        frame = sys._current_frames().get(self._thread)
        places, codes = _below_loop(frame)
        del frame
        task = None
        with suppress(RuntimeError):
            task = asyncio.current_task(self._loop)  # type: ignore[arg-type]
        seen.looks += 1
        seen.stacks[places] += 1
        if seen.connection is None:
            self._name_party(seen, token, task)
        own = {code: name for name, code in map(_name_and_code, self._functions()) if code is not None}
        named = next((own[code] for code in codes if code in own), None)
        strange = next((place[2] for place in places if not place[0].startswith(_OURS)), None)
        seen.handler = named or seen.handler or strange

    def _name_party(self, seen: _Seen, token: int, task: object | None) -> None:
        connection = self._watch.party(token, task)
        if connection is not None:
            seen.connection, seen.peer = connection.id, connection.peer
            function = self._handlers.on_message or self._handlers.on_batch or self._handlers.on_connect
            if seen.handler is None and not seen.looks and function is not None:
                seen.handler = _name_and_code(function)[0]

    def _functions(self) -> list[Any]:
        handlers = self._handlers
        every = (handlers.on_message, handlers.on_batch, handlers.on_connect, handlers.on_close)
        return [function for function in every if function is not None]

    def _log_begin(self, seen: _Seen, seconds: float, cause: str, detail: str) -> None:
        who = seen.handler or "its thread"
        peer = "" if seen.connection is None else f" for connection {seen.connection} from {seen.peer}"
        lines = "\n  ".join(("", *_lines(seen.most()))) if self._options.stack else ""
        text = "%s: the loop has not turned for %.2f s, in %s%s: %s, %s%s"
        logger.warning(text, self._name, seconds, who, peer, cause, detail, lines)

    # --- on the loop's thread ---------------------------------------------------------------------------

    def _over(self, stall: Stall) -> None:
        self._keep(stall)
        if self._handlers.heard:
            self._handlers.tell(self._event(stall))
        if self._handlers.on_stall is not None:
            self._handlers.on_stall(stall)

    def _event(self, stall: Stall) -> LoopStalled:
        return LoopStalled(
            at=stall.when + stall.seconds,
            server=self._name,
            seconds=stall.seconds,
            cause=stall.cause,
            handler=stall.handler,
            connection=stall.connection,
            peer=stall.peer,
        )

    def _keep(self, stall: Stall) -> None:
        self._kept.append(stall)
        self._count += 1
        self._seconds += stall.seconds


class _Seen:
    """What was seen of a stall while it lasts."""

    def __init__(self) -> None:
        self.handler: str | None = None
        self.connection: int | None = None
        self.peer: Any = None
        self.looks = 0
        self.stacks: Counter[tuple[_Place, ...]] = Counter()

    def most(self) -> tuple[_Place, ...]:
        """The stack that was seen most often, of those that were not empty."""
        for places, _ in self.stacks.most_common():
            if places:
                return places
        return ()


def _below_loop(frame: FrameType | None) -> tuple[tuple[_Place, ...], list[object]]:
    """The stack below the loop, the innermost call last, and its code objects."""
    places: list[_Place] = []
    codes: list[object] = []
    while frame is not None:
        code = frame.f_code
        if code.co_name == "run_forever" and code.co_filename.startswith(_OURS):
            break
        places.append((code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_qualname))
        codes.append(code)
        frame = frame.f_back
    places = places[:_DEPTH]
    return tuple(reversed(places)), codes[::-1]


def _lines(places: Sequence[_Place]) -> tuple[str, ...]:
    return tuple(f"{file}:{line} in {name}: {linecache.getline(file, line).strip()}" for file, line, name in places)


def _name_and_code(function: Any) -> tuple[str, object]:
    """The name of a handler, and the code that runs it; None if it is not Python."""
    inner = getattr(function, "func", function)  # a partial
    if not hasattr(inner, "__qualname__"):
        inner = type(inner).__call__
    name = str(getattr(inner, "__qualname__", inner))
    return name, getattr(getattr(inner, "__func__", inner), "__code__", None)


class _Readers:
    """The one thread that reads, while there is something to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watching: dict[int, Watching] = {}
        self._monitor: StallMonitor | None = None
        self._thread: threading.Thread | None = None

    def enter(self, watching: Watching, loop: LoopCore, after: float) -> Any:
        """Watch a loop, the one of this thread."""
        with self._lock:
            if self._monitor is None:
                self._monitor = StallMonitor()
                self._thread = threading.Thread(
                    target=self._read, args=(self._monitor, self._watching), name="wireway-stalls", daemon=True
                )
                self._thread.start()
                gc.callbacks.append(stall_mark)
            watch = self._monitor.watch(loop, after)
            self._watching[watch.number] = watching
            return watch

    def leave(self, number: int) -> None:
        """Forget one; the thread ends with the last, when it has told what there was to tell."""
        with self._lock:
            if number in self._watching and len(self._watching) == 1:
                self._end()
            self._watching.pop(number, None)

    def end(self) -> None:
        """The interpreter ends: no thread may ask for the GIL from now on."""
        with self._lock:
            self._end()

    def forget(self) -> None:
        """In a forked child neither thread is there."""
        self.__init__()  # type: ignore[misc]
        with suppress(ValueError):
            gc.callbacks.remove(stall_mark)

    def _end(self) -> None:
        monitor, thread, self._monitor, self._thread = self._monitor, self._thread, None, None
        watching, self._watching = self._watching, {}
        if monitor is None or thread is None:
            return
        with suppress(ValueError):
            gc.callbacks.remove(stall_mark)
        monitor.stop()
        if thread is not threading.current_thread():
            thread.join(5.0)
        watching.clear()

    @staticmethod
    def _read(monitor: StallMonitor, watching: dict[int, Watching]) -> None:
        while (event := monitor.next()) is not None:
            one = watching.get(event[0])
            if one is not None:
                try:
                    one.hear(event)
                except Exception:
                    logger.exception("the stall watch failed")


_readers = _Readers()
atexit.register(_readers.end)
os.register_at_fork(after_in_child=_readers.forget)
