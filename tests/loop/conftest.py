"""Owns the reference: each test in this folder runs on asyncio's own loop too, so none asks for more than asyncio does.

`backend` has one value more here, "asyncio". What only our loop promises asks for the fixture `ours`.
"""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wireway
from support.backends import CHOSEN
from support.streams import KINDS

REFERENCE = "asyncio"
LIMIT = 60.0
"""Seconds that a test with `loop` may take."""


def pytest_configure(config: pytest.Config) -> None:
    text = "asyncio_fails(why, since, before): a defect of asyncio's own loop, which ours does not share"
    config.addinivalue_line("markers", text)


@pytest.fixture(params=(*CHOSEN, REFERENCE))
def backend(request: pytest.FixtureRequest) -> str:
    """Each back end in turn, and asyncio's own loop."""
    if request.param == REFERENCE:
        for mark in request.node.iter_markers("asyncio_fails"):
            if mark.kwargs.get("since", (3,)) <= sys.version_info < mark.kwargs.get("before", (4,)):
                pytest.skip(f"a defect of asyncio: {mark.args[0]}")
    return str(request.param)


@pytest.fixture
def ours(backend: str) -> str:
    """The back end, without the reference: for what asyncio does not promise."""
    if backend == REFERENCE:
        pytest.skip("asyncio does not promise it")
    return backend


@pytest.fixture
def loop_factory(backend: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes a loop of the back end under test, or asyncio's own."""
    if backend == REFERENCE:
        return asyncio.SelectorEventLoop
    return functools.partial(wireway.new_event_loop, backend=backend)


@pytest.fixture
def loop(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that does not run yet and is closed after the test. A test that takes longer than `LIMIT` fails."""
    loop = loop_factory()
    before = signal.signal(signal.SIGALRM, _stuck)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    yield loop
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)
    loop.close()


def _stuck(_number: int, _frame: object) -> None:
    raise TimeoutError(f"the loop ran for {LIMIT} seconds")


@pytest.fixture
def reports(loop: asyncio.AbstractEventLoop) -> list[dict[str, Any]]:
    """What reaches the exception handler of `loop`."""
    seen: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: seen.append(context))
    return seen


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of stream: TCP and Unix, connected and accepted."""
    return str(request.param)
