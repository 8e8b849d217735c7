"""The checks that the options of framings share.

Each raises `ConfigError` with the option, its value and what is allowed.
"""

from __future__ import annotations

import sys

from wireway.errors import ConfigError

__all__ = ["LARGEST", "refuse_flag", "refuse_size"]

LARGEST = sys.maxsize // 2
"""What the native half takes for "no limit", in bytes."""


def refuse_size(owner: str, option: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Refuse what is no whole number of bytes within the bounds."""
    # bool is an int to Python, and a mistake here.
    if type(value) is int and value >= least and (most is None or value <= most):
        return
    unit = "byte" if least == 1 else "bytes"
    bounds = f"at least {least} {unit}" if most is None else f"{least} to {most} bytes"
    raise ConfigError(f"{owner}: {option} is {value!r}, it must be {bounds}", option=option)


def refuse_flag(owner: str, option: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if type(value) is not bool:
        raise ConfigError(f"{owner}: {option} is {value!r}, allowed are True and False", option=option)
