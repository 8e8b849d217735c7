"""Fixtures for pytest: it finds them by itself where wireway is installed, or by `pytest_plugins`.

Owns their names and their scopes; what they give is defined beside this file, and imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from wireway._native import BACKENDS, probe

if TYPE_CHECKING:
    from wireway.loop import EventLoop
    from wireway.testing.clock import FakeClock
    from wireway.testing.faults import FaultyLink

__all__ = ["wireway_backend", "wireway_clock", "wireway_faults", "wireway_loop_factory", "wireway_no_leaks"]


@pytest.fixture(params=BACKENDS)
def wireway_backend(request: pytest.FixtureRequest) -> str:
    """Each back end in turn, by name; those that the kernel refuses here are skipped, with its reason."""
    name = str(request.param)
    if (error := probe(name)) is not None:
        pytest.skip(f"the kernel refuses the {name} back end: {error.strerror}")
    return name


@pytest.fixture
def wireway_loop_factory(wireway_backend: str) -> Callable[[], EventLoop]:
    """What makes a loop of each back end in turn: for ``asyncio.Runner(loop_factory=...)``."""
    from functools import partial

    from wireway.loop import new_event_loop

    return partial(new_event_loop, wireway_backend)


@pytest.fixture
def wireway_clock() -> type[FakeClock]:
    """`FakeClock`, to be entered in the coroutine: ``with wireway_clock() as clock: await clock.advance(30)``."""
    from wireway.testing.clock import FakeClock

    return FakeClock


@pytest.fixture
def wireway_faults() -> Iterator[Callable[[str], FaultyLink]]:
    """``wireway_faults("tcp://127.0.0.1:9000")``: a `FaultyLink` to that address, closed after the test. Its jitter
    has the same seed in each run."""
    from contextlib import ExitStack

    from wireway.testing.faults import FaultyLink

    with ExitStack() as stack:
        yield lambda target: stack.enter_context(FaultyLink(target))


@pytest.fixture
def wireway_no_leaks() -> Iterator[None]:
    """Fail the test if it leaves descriptors or threads. Name it first: fixtures made after it end before it."""
    from wireway.testing.descriptors import no_leaks

    with no_leaks():
        yield
