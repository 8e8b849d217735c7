"""Names of parametrized tests: the same in each process, so that the suite can be dealt to several."""

from __future__ import annotations

import re

__all__ = ["stable"]


def stable(value: object) -> str:
    """`repr`, or `str` of a string, without where functions stand in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", value if isinstance(value, str) else repr(value))
