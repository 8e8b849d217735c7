"""Owns the fixtures that all tests share: the back end as an axis, a bounded run on it, and the search for leaks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

import wireway
from support.backends import CHOSEN

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Run(Protocol):
    """`run(main, *args, limit=30.0, debug=None)`: call `main(*args)`, run the coroutine, return its result."""

    def __call__(
        self, main: Callable[..., Coroutine[Any, Any, T]], *args: Any, limit: float = 30.0, debug: bool | None = None
    ) -> T: ...


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "keeps_descriptors: the test leaves descriptors open on purpose")
    config.addinivalue_line("markers", "alone: judges who had the processor; `make test` runs nothing beside it")


@pytest.fixture(params=CHOSEN)
def backend(request: pytest.FixtureRequest) -> str:
    """Each back end in turn."""
    return str(request.param)


@pytest.fixture
def loop_factory(backend: str) -> LoopFactory:
    """What makes a loop of the back end under test."""
    return functools.partial(wireway.new_event_loop, backend=backend)


@pytest.fixture
def run(loop_factory: LoopFactory) -> Run:
    """Run a coroutine function on a fresh loop of the back end under test, within a hard time limit.

    The test fails when it takes longer than `limit` seconds (SIGALRM ends a loop that no longer turns), and when
    anything reached the loop's exception handler: an exception that nobody awaited is a defect too. A test that
    expects one sets a handler of its own.
    """

    def run(
        main: Callable[..., Coroutine[Any, Any, T]], *args: Any, limit: float = 30.0, debug: bool | None = None
    ) -> T:
        unseen: list[dict[str, Any]] = []

        async def bounded() -> T:
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
            async with asyncio.timeout(limit):
                return await main(*args)

        before = signal.signal(signal.SIGALRM, _stuck)
        signal.setitimer(signal.ITIMER_REAL, min(limit, 120.0) + 5.0)  # a `FakeClock` moves the limit, and not this
        try:
            with asyncio.Runner(loop_factory=loop_factory, debug=debug) as runner:
                result = runner.run(bounded())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
        assert not unseen, f"reached the loop's exception handler: {unseen}"
        return result

    return run


def _stuck(_number: int, _frame: object) -> None:
    raise TimeoutError("the loop did not turn any more: its own timeout did not fire")


@pytest.fixture(autouse=True)
def no_descriptor_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a descriptor open. What wider fixtures open is open before: pytest makes those first."""
    if request.node.get_closest_marker("keeps_descriptors"):
        yield
        return
    before = _descriptors()
    yield
    if _descriptors().keys() - before.keys():
        gc.collect()  # a cycle may hold them: that is for ResourceWarning to tell, which is an error here too
    left = {number: name for number, name in _descriptors().items() if number not in before}
    assert not left, f"left open: {left}"


def _descriptors() -> dict[int, str]:
    """What is open, without what only looks: this listing, and the stall watch's thread at its loop's."""
    found, looking = {}, f"/proc/{os.getpid()}/"
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            name = str(Path(entry.path).readlink())
            if not name.startswith(looking):
                found[int(entry.name)] = name
    return found
