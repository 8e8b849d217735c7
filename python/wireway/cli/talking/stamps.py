"""What stands before a line: the time of day, and the seconds since the message before. Time is passed in."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

__all__ = ["Stamps"]


class Stamps:
    """The front of each line.

    :param kinds: out of ``clock`` and ``elapsed``.
    :param now: seconds since the epoch.
    """

    def __init__(self, kinds: frozenset[str], now: Callable[[], float] = time.time) -> None:
        self.kinds = kinds
        self._now = now
        self._last: float | None = None

    def note(self) -> str:
        """The front of a line that is no message: it has a time, and counts for nothing."""
        return self._clock(self._now()) if "clock" in self.kinds else ""

    def message(self) -> str:
        """The front of a message, from which the next one counts."""
        now = self._now()
        since, self._last = now - (now if self._last is None else self._last), now
        clock = self._clock(now) if "clock" in self.kinds else ""
        return f"{clock}{f'+{since:.6f} ' if 'elapsed' in self.kinds else ''}"

    @staticmethod
    def _clock(now: float) -> str:
        return f"{datetime.fromtimestamp(now).astimezone().strftime('%H:%M:%S.%f')[:-3]} "
