"""The end of a loop: closed, forgotten, and what it then lets go of. Subclasses."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

import pytest

import wireway

LoopFactory = Callable[[], AbstractEventLoop]

CLOSED = "^Event loop is closed$"


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def nothing() -> None:
    """Is called."""


def test_close_twice_is_no_error(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()


def test_a_running_loop_does_not_close(loop: AbstractEventLoop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"^Cannot close a running event loop$"):
            loop.close()

    loop.run_until_complete(main())
    assert not loop.is_closed()


@pytest.mark.parametrize(
    "use",
    [
        lambda loop: loop.run_forever(),
        lambda loop: loop.call_soon(nothing),
        lambda loop: loop.call_soon_threadsafe(nothing),
        lambda loop: loop.call_later(1, nothing),
        lambda loop: loop.call_at(1, nothing),
        lambda loop: loop.add_reader(0, nothing),
        lambda loop: loop.add_writer(0, nothing),
        lambda loop: loop.run_in_executor(None, nothing),
    ],
)
def test_a_closed_loop_says_so(loop: AbstractEventLoop, use: Callable[[AbstractEventLoop], object]) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match=CLOSED):
        use(loop)


def test_a_closed_loop_takes_no_coroutine(loop: AbstractEventLoop) -> None:
    loop.close()
    coroutine = answer()
    with pytest.raises(RuntimeError, match=CLOSED):
        loop.run_until_complete(coroutine)
    with pytest.raises(RuntimeError, match=CLOSED):
        loop.create_task(coroutine)
    coroutine.close()


def test_a_closed_loop_forgets_its_readers(loop: AbstractEventLoop) -> None:
    loop.close()
    assert loop.remove_reader(0) is False
    assert loop.remove_writer(0) is False


def test_what_waits_when_the_loop_is_closed_never_runs(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    soon, later = loop.call_soon(calls.append, 1), loop.call_later(0, calls.append, 2)
    loop.close()
    soon.cancel()
    later.cancel()
    assert calls == []


def test_a_handle_may_be_cancelled_when_its_loop_is_gone(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    handles = [loop.call_later(60, nothing) for _ in range(1000)]
    loop.close()
    del loop
    for handle in handles:
        handle.cancel()


def test_a_loop_that_was_forgotten_warns(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    shown = re.escape(repr(loop))
    del loop
    with pytest.warns(ResourceWarning, match=f"unclosed event loop {shown}"):
        gc.collect()


def test_a_forgotten_loop_is_freed_with_all_that_waits(loop_factory: LoopFactory) -> None:
    class Waits:
        def callback(self) -> None:
            raise AssertionError

    loop, waits = loop_factory(), Waits()
    reading, writing = os.pipe()
    loop.call_soon(waits.callback)
    loop.call_later(60, waits.callback)
    loop.add_reader(reading, waits.callback)
    gone = [weakref.ref(loop), weakref.ref(waits)]
    del loop, waits
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        gc.collect()
    assert [reference() for reference in gone] == [None, None]
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("method", ["call_soon", "call_later"])
def test_who_keeps_a_handle_of_its_own_is_freed_after_the_loop(loop_factory: LoopFactory, method: str) -> None:
    class Waits:
        handle: asyncio.Handle

        def callback(self) -> None:
            raise AssertionError

    loop, waits = loop_factory(), Waits()
    waits.handle = getattr(loop, method)(*[60] * (method == "call_later"), waits.callback)
    loop.close()
    assert not waits.handle.cancelled()
    gone = weakref.ref(waits)
    del waits
    gc.collect()
    assert gone() is None


def test_a_closed_loop_is_freed_without_the_collector(loop_factory: LoopFactory, ours: str) -> None:
    loop = loop_factory()
    loop.run_until_complete(answer())
    loop.close()
    gone = weakref.ref(loop)
    del loop
    assert gone() is None


# --- subclasses ---


def test_a_subclass_may_replace_call_soon(backend: str, ours: str) -> None:
    class Counting(wireway.EventLoop):
        calls = 0

        def call_soon(self, *args: Any, **keywords: Any) -> asyncio.Handle:
            self.calls += 1
            return super().call_soon(*args, **keywords)

    loop = Counting(backend)
    try:
        assert loop.run_until_complete(answer()) == 42
        assert loop.calls >= 2
    finally:
        loop.close()


def test_a_subclass_chooses_its_back_end_in_new(ours: str) -> None:
    class Named(wireway.EventLoop):
        def __new__(cls, _name: str) -> Named:
            return super().__new__(cls, ours)  # type: ignore[return-value]

        def __init__(self, name: str) -> None:
            super().__init__(ours)
            self.name = name

    loop = Named("name")
    try:
        assert (loop.name, loop.backend) == ("name", ours)
        assert loop.run_until_complete(answer()) == 42
    finally:
        loop.close()


def test_a_back_end_that_init_asks_for_too_late_is_refused(ours: str) -> None:
    class Late(wireway.EventLoop):
        def __init__(self) -> None:
            super().__init__("poll" if self.backend != "poll" else "select")

    with pytest.raises(wireway.ConfigError, match="Late must define __new__"):
        Late()
