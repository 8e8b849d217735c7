"""Owns the asking: traces of several servers at once, until they, the clock or Ctrl-C end it. Knows no format."""

from __future__ import annotations

import contextlib
import json
import selectors
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wireway.cli.tracing.streams import Stream
from wireway.errors import WirewayError
from wireway.observe.asking import AskedError, Asker, pid_of

__all__ = ["Following"]


class Following:
    """Traces that run. Ends them at the servers when the block is left.

    :param paths: the control sockets.
    :param whom: what of connections each server is asked for.
    :raises AskedError: no server has such a connection, or the question is wrong.
    """

    def __init__(self, paths: Sequence[Path], whom: dict[str, Any]) -> None:
        self._askers: list[Asker] = []
        self._streams: dict[tuple[int, int], Stream] = {}
        self.at_once = 0
        """How many connections were there when it began."""
        refused: AskedError | None = None
        try:
            for path in paths:
                self._askers.append(Asker(path))
            for asker in list(self._askers):
                try:
                    answer = asker.ask("trace", **whom)
                except AskedError as error:
                    refused = error
                    self._askers.remove(asker)
                    asker.close()
                    continue
                self._open(asker, answer["tracing"])
            self.at_once = len(self._streams)
            if not self._askers and refused is not None:
                raise refused
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The servers watch no more: they see that we are gone."""
        for asker in self._askers:
            asker.close()
        self._askers.clear()

    @property
    def streams(self) -> list[Stream]:
        """All connections that were seen."""
        return list(self._streams.values())

    def _open(self, asker: Asker, told: Sequence[dict[str, Any]]) -> None:
        for about in told:
            pid = pid_of(asker.path)
            who = f"#{about['id']}" if len(self._askers) == 1 else f"{pid}#{about['id']}"
            self._streams[asker.fileno(), about["key"]] = Stream({**about, "pid": pid, "who": who})

    def events(self, until: float | None, quiet: float) -> Iterator[tuple[Stream, list[Any]] | None]:
        """Each event and the connection it is of; None when nothing has come for `quiet` seconds.

        :param until: when it is over, on the monotonic clock.
        """
        with selectors.DefaultSelector() as selector:
            for asker in self._askers:
                selector.register(asker, selectors.EVENT_READ)
            for asker in self._askers:
                yield from self._events(asker)  # came with the answer
            while selector.get_map():
                left = quiet if until is None else min(quiet, until - time.monotonic())
                if left <= 0:
                    return
                ready = selector.select(left)
                if not ready:
                    yield None
                for key, _ in ready:
                    [asker] = [each for each in self._askers if each.fileno() == key.fd]
                    with contextlib.suppress(ConnectionError):
                        if asker.receive():
                            yield from self._events(asker)
                            continue
                    selector.unregister(asker)  # the server ended, or the one connection did

    def _events(self, asker: Asker) -> Iterator[tuple[Stream, list[Any]]]:
        for line in asker.lines():
            said = json.loads(line)
            if "error" in said:
                raise WirewayError(said["error"])
            self._open(asker, said.get("connections", ()))
            for event in said.get("events", ()):
                yield self._streams[asker.fileno(), event[1]], event
