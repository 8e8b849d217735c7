"""Owns when a client tries again: `Reconnect`, its delays, and when they begin anew.

Sans I/O: time and randomness are passed in. Knows neither sockets nor tasks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from wireway.errors import ConfigError

__all__ = ["Backoff", "Reconnect", "delays"]

Random = Callable[[], float]
"""A number of at least 0 and below 1, as `random.random`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconnect:
    """When a client that lost its connection tries again. Each attempt resolves the name anew.

    :raises ConfigError: an option is wrong.
    """

    strategy: Literal["exponential", "linear", "fixed"] = "exponential"
    """How the delay grows with each failed attempt: see `first`, `most` and `factor`."""
    first: float = 0.5
    """Seconds before the first attempt. 0 tries at once, and with ``"exponential"`` and ``"linear"`` ever again."""
    most: float = 30.0
    """Seconds that no delay exceeds: how late a server that is back is found. At least `first`."""
    factor: float = 2.0
    """How many times longer each delay is than the last, with ``"exponential"``. At least 1."""
    jitter: float = 0.5
    """The part of each delay, 0 to 1, of which a random share is left out: else the clients of a server that
    restarts all come back at the same moment."""
    attempts: int | None = None
    """Failed attempts in a row after which the client gives up and is closed; None never gives up."""
    reset_after: float = 10.0
    """Seconds that a connection must hold before delays and attempts are counted anew: a server that accepts and
    closes at once is asked less and less often, too."""
    at_start: bool = False
    """Whether the first connection is tried again as well. Else a wrong address is an error at once."""

    def __post_init__(self) -> None:
        if self.strategy not in ("exponential", "linear", "fixed"):
            raise self._refuse("strategy", "allowed are 'exponential', 'linear' and 'fixed'")
        for name in ("first", "most", "reset_after"):
            if not _at_least(getattr(self, name), 0):
                raise self._refuse(name, "it must be at least 0 seconds")
        if self.most < self.first:
            raise self._refuse("most", f"it must be at least first={self.first:g} seconds")
        if not _at_least(self.factor, 1):
            raise self._refuse("factor", "it must be at least 1")
        if not (_at_least(self.jitter, 0) and self.jitter <= 1):
            raise self._refuse("jitter", "it must be a part of the delay, 0 to 1")
        if self.attempts is not None and (type(self.attempts) is not int or self.attempts < 1):
            raise self._refuse("attempts", "it must be at least 1, or None for no end")
        if not isinstance(self.at_start, bool):
            raise self._refuse("at_start", "it must be True or False")

    def _refuse(self, name: str, allowed: str) -> ConfigError:
        return ConfigError(f"Reconnect: {name} is {getattr(self, name)!r}, {allowed}")


def _at_least(value: object, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= least


def delays(reconnect: Reconnect, random: Random = random.random) -> Iterator[float]:
    """The seconds to wait before each attempt, as many as there may be attempts in a row.

    Full delays are ``first``, ``2 * first``, ``3 * first`` … (linear), ``first``, ``factor * first``,
    ``factor² * first`` … (exponential) or ``first`` always (fixed), never above ``most``. Each loses a random share
    of up to ``jitter``, so that the clients of a server that restarts do not all come back at once.
    """
    full, number = reconnect.first, 0
    while reconnect.attempts is None or number < reconnect.attempts:
        full = min(full, reconnect.most)
        yield full * (1.0 - reconnect.jitter * random())
        number += 1
        if reconnect.strategy == "exponential":
            full *= reconnect.factor
        elif reconnect.strategy == "linear":
            full = reconnect.first * (number + 1)


class Backoff:
    """The delays of one client. They begin anew once a connection has held for `reset_after` seconds.

    So a server that accepts and closes at once is not asked again and again without a pause.
    """

    def __init__(self, reconnect: Reconnect, random: Random = random.random) -> None:
        self._reconnect, self._random = reconnect, random
        self._delays = delays(reconnect, random)
        self._opened: float | None = None

    def opened(self, now: float) -> None:
        """A connection is made, at loop time `now`."""
        self._opened = now

    def closed(self, now: float) -> None:
        """The connection is lost, at loop time `now`."""
        if self._opened is not None and now - self._opened >= self._reconnect.reset_after:
            self._delays = delays(self._reconnect, self._random)
        self._opened = None

    def next(self) -> float | None:
        """Seconds until the next attempt, or None: there have been as many in a row as there may be."""
        return next(self._delays, None)
