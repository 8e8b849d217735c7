"""Which back ends the tests run over: all, unless `WIREWAY_TEST_BACKENDS` names some, as ``io_uring,epoll``."""

from __future__ import annotations

import os

from wireway._native import BACKENDS

__all__ = ["CHOSEN"]

_NAMED = os.environ.get("WIREWAY_TEST_BACKENDS", ",".join(BACKENDS)).split(",")
CHOSEN = tuple(name for name in BACKENDS if name in _NAMED)
"""In the order of `BACKENDS`."""
assert CHOSEN, f"WIREWAY_TEST_BACKENDS names none of {', '.join(BACKENDS)}"
