"""HTTP stands above the contract of the drivers: the two back ends that auto chooses are enough here."""

from __future__ import annotations

import pytest

from support.backends import CHOSEN


@pytest.fixture(params=[name for name in CHOSEN if name in ("io_uring", "epoll")])
def backend(request: pytest.FixtureRequest) -> str:
    """Those of the chosen back ends that auto would choose."""
    return str(request.param)
