"""Which back end runs, and why.

Knows the names and the choice; the loop and the drivers know the rest.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from wireway._native import BACKENDS, is_up_to_date, probe
from wireway.errors import BackendUnavailableError, UnknownBackendError

__all__ = ["AUTO", "Choice", "choose"]

AUTO: tuple[str, ...] = ("io_uring", "epoll")
"""What ``auto`` tries, best first. The order is measured: see docs/decisions."""


class Choice(NamedTuple):
    """A back end that can be had here, and the sentence that says why it was chosen."""

    backend: str
    reason: str


def choose(backend: str = "auto") -> Choice:
    """The back end for a new loop.

    :param backend: a name of `BACKENDS`, or ``"auto"``: then the environment variable
        ``WIREWAY_BACKEND`` decides, and without it the first of `AUTO` that the kernel allows and is new enough for.
    :raises UnknownBackendError: there is no such back end.
    :raises BackendUnavailableError: the kernel does not allow the one asked for.
    """
    asked, reason = backend, "asked for"
    if asked == "auto" and (wanted := os.environ.get("WIREWAY_BACKEND")):
        asked, reason = wanted, "WIREWAY_BACKEND asks for it"
    if asked != "auto":
        return Choice(_allowed(asked), reason)
    refused = ""
    for name in AUTO:
        error = probe(name)
        if error is not None:
            refused = f"{name} is not allowed here ({error.strerror})"
        elif not is_up_to_date(name):
            refused = f"the {name} of this kernel is too old to be the faster one"
        else:
            return Choice(name, f"auto: {refused or 'the fastest that this kernel has'}")
    return Choice(_allowed("poll"), f"auto: {refused}")


def _allowed(name: str) -> str:
    if name not in BACKENDS:
        known = ", ".join(("auto", *BACKENDS))
        raise UnknownBackendError(f"unknown back end {name!r}; there are: {known}")
    error = probe(name)
    if error is None:
        return name
    text = f"the kernel refuses the {name} back end: {error.strerror}"
    if name == "io_uring" and error.errno in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        text += (
            ". Containers often forbid it (seccomp), and kernel.io_uring_disabled can; use backend='auto' or 'epoll'"
        )
    raise BackendUnavailableError(error.errno, text)
