"""Owns the descriptor budget: how many connections this process has descriptors for, and what to do when they are few.

A connection is a descriptor. The soft limit of a process is 1024 on most systems, since select(2) can watch no more,
while the hard one is 524,288 under systemd (its `DefaultLimitNOFILE`). Raising soft to hard needs no privilege
(setrlimit(2)). Subprocesses inherit it; a program that calls `select.select` itself must keep below 1024 descriptors.
"""

from __future__ import annotations

import logging
import os
import resource
from dataclasses import dataclass

__all__ = ["DescriptorBudget", "budget", "raise_soft_limit", "warn_of_what_does_not_fit"]

logger = logging.getLogger("wireway.server")

RESERVED = 24
"""Descriptors left for what the program opens later: files, name lookups, database connections, the loop's own."""

CEILINGS = {"select": 1024}
"""Back ends that take descriptors below a number only: FD_SETSIZE, select(2)."""


@dataclass(frozen=True, slots=True)
class DescriptorBudget:
    """How many descriptors there are, and for what. Numbers of descriptors, of one moment."""

    soft: int
    """`RLIMIT_NOFILE`, what holds now."""
    hard: int
    """What it may be raised to without privilege."""
    in_use: int
    """Open now."""
    backend: str
    """The back end of the loop."""

    @property
    def usable(self) -> int:
        """Descriptors that can be watched: the soft limit, or less on a back end that takes no high numbers."""
        return min(self.soft, CEILINGS.get(self.backend, self.soft))

    @property
    def room(self) -> int:
        """Connections that still fit, with `RESERVED` descriptors to spare."""
        return max(self.usable - self.in_use - RESERVED, 0)

    @property
    def remedy(self) -> str:
        """How to get more."""
        if self.usable < self.soft:
            return f"{self.backend} takes no descriptor from {self.usable:,} up: choose backend='epoll'"
        if self.soft < self.hard:
            return f"`ulimit -n {self.hard}` raises it without privileges"
        return "raise the hard limit: `LimitNOFILE=` of systemd, `--ulimit nofile=` of docker, limits.conf"


def raise_soft_limit() -> None:
    """Raise the soft limit to the hard one. What the kernel refuses stays as it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # seccomp; or a hard limit above fs.nr_open
        logger.warning(
            "the soft limit of %d descriptors can not be raised to the hard one of %d: %s", soft, hard, error
        )


def budget(backend: str) -> DescriptorBudget:
    """What there is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with os.scandir("/proc/self/fd") as entries:
        in_use = sum(1 for _ in entries) - 1  # the directory's own
    return DescriptorBudget(soft, hard, in_use, backend)


def warn_of_what_does_not_fit(budget: DescriptorBudget, connections: int | None) -> None:
    """One line of the logger `wireway.server` when `connections` do not fit, or when none does."""
    wanted = 1 if connections is None else connections
    if wanted > budget.room:
        logger.warning(
            "%s connections are allowed, but there are descriptors for about %s: limit %s, in use %s, reserved %s; %s",
            "any number of" if connections is None else f"{connections:,}",
            *(f"{number:,}" for number in (budget.room, budget.usable, budget.in_use, RESERVED)),
            budget.remedy,
        )
