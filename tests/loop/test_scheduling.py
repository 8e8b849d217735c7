"""call_soon, call_later, call_at, call_soon_threadsafe: order, arguments, contexts, what a handle says of itself."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
import threading
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Any

import pytest

from support.naming import stable

METHODS = ("call_soon", "call_soon_threadsafe", "call_later", "call_at")
Schedule = Callable[..., asyncio.Handle]


@pytest.fixture(params=METHODS)
def schedule(request: pytest.FixtureRequest, loop: AbstractEventLoop) -> Schedule:
    """Each scheduling method, as `schedule(callback, *args, context=...)`, due at once."""

    def schedule(*args: Any, **keywords: Any) -> asyncio.Handle:
        time = {"call_later": (0,), "call_at": (loop.time(),)}.get(request.param, ())
        handle: asyncio.Handle = getattr(loop, request.param)(*time, *args, **keywords)
        return handle

    return schedule


def turn(loop: AbstractEventLoop) -> None:
    """Run what is due."""
    loop.call_later(0, loop.call_soon, loop.stop)
    loop.run_forever()


def nothing(*_args: object) -> None:
    """Is called."""


# --- order and arguments --------------------------------------------------------------------------------------


def test_in_order_with_all_arguments(loop: AbstractEventLoop, schedule: Schedule) -> None:
    calls: list[tuple[object, ...]] = []
    for count in range(5):
        schedule(lambda *args: calls.append(args), *range(count))
    assert calls == []
    turn(loop)
    assert calls == [(), (0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)]


def test_one_argument_that_is_a_tuple_stays_one(loop: AbstractEventLoop, schedule: Schedule) -> None:
    calls: list[object] = []
    schedule(calls.append, (1, 2))
    schedule(calls.append, ())
    turn(loop)
    assert calls == [(1, 2), ()]


def test_what_a_callback_schedules_runs_in_the_next_turn(loop: AbstractEventLoop) -> None:
    calls: list[str] = []

    def first() -> None:
        calls.append("first")
        loop.call_soon(calls.append, "third")
        loop.stop()

    loop.call_soon(first)
    loop.call_soon(calls.append, "second")
    loop.run_forever()
    assert calls == ["first", "second"]
    turn(loop)
    assert calls == ["first", "second", "third"]


def test_deadlines_come_in_their_order(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    now = loop.time()
    for place in (3, 1, 4, 0, 2):
        loop.call_at(now - 1 + place / 10, calls.append, place)
    turn(loop)
    assert calls == [0, 1, 2, 3, 4]


def test_equal_deadlines_come_in_the_order_of_their_calls(loop: AbstractEventLoop, ours: str) -> None:
    calls: list[int] = []
    when = loop.time()
    for place in range(1000):
        loop.call_at(when, calls.append, place)
    turn(loop)
    assert calls == list(range(1000))


def test_a_deadline_is_kept(loop: AbstractEventLoop) -> None:
    start = loop.time()
    handle = loop.call_later(0.05, loop.stop)
    loop.run_forever()
    resolution: float = loop._clock_resolution  # type: ignore[attr-defined]
    assert start + 0.05 <= handle.when() <= loop.time() + resolution


def test_a_later_deadline_does_not_hold_up_an_earlier_one(loop: AbstractEventLoop) -> None:
    late = loop.call_later(3600, loop.stop)
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert loop.time() < late.when()
    late.cancel()


@pytest.mark.parametrize("delay", [-1, -0.0, float("-inf"), False])
def test_a_deadline_in_the_past_is_due(loop: AbstractEventLoop, delay: float) -> None:
    loop.call_later(delay, loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("when", [float("inf"), 1e300, 1e18, 2.0**63, 1e10])
def test_a_deadline_beyond_all_time_never_comes(loop: AbstractEventLoop, when: float) -> None:
    handle = loop.call_at(when, nothing)
    turn(loop)
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert handle.when() == when
    handle.cancel()


def test_a_thousand_deadlines_of_which_most_are_cancelled(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    handles = [loop.call_later(0.001 * (place % 7), calls.append, place) for place in range(1000)]
    for place, handle in enumerate(handles):
        if place % 10:
            handle.cancel()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert sorted(calls) == list(range(0, 1000, 10))


def test_a_callback_cancels_one_that_is_due_in_the_same_turn(loop: AbstractEventLoop, schedule: Schedule) -> None:
    calls: list[str] = []
    handles: list[asyncio.Handle] = []
    schedule(lambda: handles[0].cancel())
    handles.append(schedule(calls.append, "cancelled"))
    schedule(calls.append, "last")
    turn(loop)
    assert calls == ["last"]


def test_a_callback_may_cancel_itself(loop: AbstractEventLoop, schedule: Schedule) -> None:
    calls: list[str] = []

    def itself() -> None:
        handle.cancel()
        calls.append("ran to its end")

    handle = schedule(itself)
    turn(loop)
    assert calls == ["ran to its end"]
    assert handle.cancelled()


def test_arguments_by_name(loop: AbstractEventLoop) -> None:
    """asyncio's own names: `def call_later(self, delay, callback, *args, context=None)`."""
    calls: list[str] = []
    loop.call_soon(callback=lambda: calls.append("soon"))
    loop.call_soon_threadsafe(callback=lambda: calls.append("threadsafe"))
    loop.call_later(delay=0, callback=lambda: calls.append("later"))
    loop.call_later(0, callback=lambda: calls.append("later"))
    loop.call_at(when=loop.time(), callback=lambda: calls.append("at"))
    turn(loop)
    assert calls == ["soon", "threadsafe", "later", "later", "at"]


@pytest.mark.parametrize(
    ("method", "args", "keywords"),
    [
        ("call_soon", (), {}),
        ("call_soon_threadsafe", (), {}),
        ("call_later", (1,), {}),
        ("call_at", (), {"callback": nothing}),
        ("call_soon", (nothing,), {"contxt": None}),
        ("call_soon", (nothing,), {"callback": nothing}),
        ("call_later", (1, nothing), {"delay": 1}),
        ("call_later", ("soon", nothing), {}),
        ("call_later", (None, nothing), {}),
        ("call_at", (None, nothing), {}),
    ],
    ids=stable,
)
def test_wrong_arguments(loop: AbstractEventLoop, method: str, args: Any, keywords: Any) -> None:
    with pytest.raises(TypeError):
        getattr(loop, method)(*args, **keywords)


@pytest.mark.parametrize(
    ("method", "text"), [("call_later", "delay must not be None"), ("call_at", "when cannot be None")]
)
def test_no_time_is_refused_in_asyncios_words(loop: AbstractEventLoop, method: str, text: str) -> None:
    with pytest.raises(TypeError, match=f"^{text}$"):
        getattr(loop, method)(None, nothing)


# --- contexts -------------------------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_a_callback_runs_in_a_copy_of_the_callers_context(loop: AbstractEventLoop, schedule: Schedule) -> None:
    seen: list[str] = []

    def look_and_set() -> None:
        seen.append(variable.get())
        variable.set("changed by the callback")

    def in_context() -> None:
        variable.set("at the call")
        schedule(look_and_set)
        schedule(look_and_set)
        variable.set("after the call")

    contextvars.copy_context().run(in_context)
    turn(loop)
    assert seen == ["at the call", "at the call"]
    assert variable.get() == "unset"


def test_a_given_context_is_used_itself(loop: AbstractEventLoop, schedule: Schedule) -> None:
    context = contextvars.copy_context()
    schedule(variable.set, "set by the first", context=context)
    seen: list[str] = []
    schedule(lambda: seen.append(variable.get()), context=context)
    turn(loop)
    assert (seen, context[variable], variable.get()) == (["set by the first"], "set by the first", "unset")


def test_no_context_means_a_copy(loop: AbstractEventLoop, schedule: Schedule) -> None:
    schedule(variable.set, "lost", context=None)
    turn(loop)
    assert variable.get() == "unset"


@pytest.mark.skipif(not hasattr(asyncio.Handle, "get_context"), reason="since Python 3.12")
def test_a_handle_tells_its_context(schedule: Schedule) -> None:
    context = contextvars.copy_context()
    assert schedule(nothing, context=context).get_context() is context


# --- handles --------------------------------------------------------------------------------------------------


def test_a_handle_is_asyncios(schedule: Schedule) -> None:
    handle = schedule(nothing)
    assert isinstance(handle, asyncio.Handle)
    assert isinstance(handle, asyncio.TimerHandle) is hasattr(handle, "when")
    assert handle.cancelled() is False
    assert handle.cancel() is None  # type: ignore[func-returns-value]
    assert handle.cancelled() is True
    handle.cancel()


def test_a_timer_handle_tells_its_deadline(loop: AbstractEventLoop) -> None:
    before = loop.time()
    later, at = loop.call_later(10, nothing), loop.call_at(before + 10, nothing)
    assert at.when() == before + 10
    assert before + 10 <= later.when() <= loop.time() + 10
    later.cancel()
    assert later.when() >= before + 10
    at.cancel()


def test_what_a_handle_shows(loop: AbstractEventLoop, schedule: Schedule) -> None:
    handle = schedule(nothing, 1, key := "word")
    arguments = re.escape(repr((1, key)))
    place = rf"nothing(\({arguments[1:-1]}\)|{arguments}|\(\)) at \S*test_scheduling\.py:\d+"
    timed = "Timer" if hasattr(handle, "when") else ""
    when = rf" when={handle.when()!r}" if hasattr(handle, "when") else ""
    assert re.fullmatch(rf"<{timed}Handle{re.escape(when)} {place}>", repr(handle))
    handle.cancel()
    assert repr(handle) == f"<{timed}Handle cancelled{when}>"


@pytest.mark.parametrize("when", [100.0, 1e16, 0.1, 1e-7, float("inf")])
def test_a_deadline_is_shown_as_python_shows_it(loop: AbstractEventLoop, when: float) -> None:
    handle = loop.call_at(when, nothing)
    assert f" when={when!r} " in repr(handle)
    handle.cancel()


def test_timer_handles_compare_by_their_deadline(loop: AbstractEventLoop) -> None:
    now = loop.time() + 3600
    one, same, later = (loop.call_at(when, nothing) for when in (now, now, now + 1))
    assert one == same
    assert hash(one) == hash(same)
    assert one != later
    assert one < later
    assert one <= later
    assert one <= same
    assert later > one
    assert later >= one
    assert one != loop.call_soon(nothing)
    assert sorted([later, one]) == [one, later]
    with pytest.raises(TypeError):
        _ = one < object()
    for handle in (one, same, later):
        handle.cancel()


def test_a_cancelled_handle_lets_go_of_what_it_held(schedule: Schedule) -> None:
    class Held:
        def method(self) -> None: ...

    held = Held()
    gone = weakref.ref(held)
    handle = schedule(held.method, held)
    handle.cancel()
    del held
    gc.collect()
    assert gone() is None


def test_a_handle_can_be_referred_to_weakly(schedule: Schedule) -> None:
    handle = schedule(nothing)
    reference = weakref.ref(handle)
    assert reference() is handle


def test_nobody_makes_a_native_handle(loop: AbstractEventLoop, ours: str, schedule: Schedule) -> None:
    with pytest.raises(TypeError, match="cannot create"):
        type(schedule(nothing))()


# --- from other threads ---------------------------------------------------------------------------------------


def test_call_soon_threadsafe_wakes_a_loop_that_sleeps(loop: AbstractEventLoop) -> None:
    thread = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
    thread.start()
    loop.run_forever()
    thread.join()


def test_many_threads_at_once_lose_nothing(loop: AbstractEventLoop) -> None:
    calls: list[tuple[int, int]] = []

    def work(thread: int) -> None:
        for count in range(500):
            loop.call_soon_threadsafe(calls.append, (thread, count))
        loop.call_soon_threadsafe(done)

    def done() -> None:
        ended.append(None)
        if len(ended) == len(threads):
            loop.stop()

    ended: list[None] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join()
    for number in range(8):
        assert [count for thread, count in calls if thread == number] == list(range(500))


def test_run_coroutine_threadsafe(loop: AbstractEventLoop) -> None:
    async def answer() -> int:
        assert asyncio.get_running_loop() is loop
        return 42

    def work() -> None:
        try:
            results.append(asyncio.run_coroutine_threadsafe(answer(), loop).result(timeout=30))
        finally:
            loop.call_soon_threadsafe(loop.stop)

    results: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    loop.run_forever()
    thread.join()
    assert results == [42]
