"""Running and stopping a loop, tasks and executors, in asyncio's order and words."""

from __future__ import annotations

import asyncio
import re
import threading
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

LoopFactory = Callable[[], AbstractEventLoop]
Reports = list[dict[str, Any]]

RUNNING = "^This event loop is already running$"
NESTED = "^Cannot run the event loop while another loop is running$"


async def answer(value: object = 42) -> object:
    await asyncio.sleep(0)
    return value


def nothing() -> None:
    """Is called."""


# --- run and stop -------------------------------------------------------------------------------------------------


def test_run_until_complete_gives_the_result(loop: AbstractEventLoop) -> None:
    assert loop.run_until_complete(answer()) == 42
    assert loop.run_until_complete(loop.create_task(answer(1))) == 1
    future = loop.create_future()
    loop.call_soon(future.set_result, 2)
    assert loop.run_until_complete(future) == 2
    assert loop.run_until_complete(future) == 2


def test_run_until_complete_raises_what_was_raised(loop: AbstractEventLoop) -> None:
    async def fails() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        loop.run_until_complete(fails())
    task = loop.create_task(answer())
    loop.call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_run_until_complete_refuses_what_can_not_be_awaited(loop: AbstractEventLoop) -> None:
    with pytest.raises(TypeError, match="coroutine"):
        loop.run_until_complete(42)  # type: ignore[arg-type]


def test_a_loop_that_is_stopped_before_its_future_is_done(loop: AbstractEventLoop) -> None:
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(future)
    assert not loop.is_running()
    future.cancel()


def test_stop_before_the_run_ends_it_after_one_turn(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    loop.call_soon(calls.append, 1)
    loop.call_soon(loop.call_soon, calls.append, 2)
    loop.stop()
    loop.run_forever()
    assert calls == [1]
    loop.stop()
    loop.run_forever()
    assert calls == [1, 2]


def test_a_stop_does_not_outlive_its_run(loop: AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.run_until_complete(answer()) == 42


def test_a_stop_from_another_thread(loop: AbstractEventLoop) -> None:
    started = threading.Event()
    loop.call_soon(started.set)
    thread = threading.Thread(target=lambda: started.wait(30) and loop.call_soon_threadsafe(loop.stop))
    thread.start()
    loop.run_forever()
    thread.join()


def test_what_a_loop_says_while_it_runs(loop: AbstractEventLoop) -> None:
    def look() -> None:
        seen.append((loop.is_running(), asyncio.get_running_loop() is loop, asyncio._get_running_loop() is loop))
        loop.stop()

    seen: list[tuple[bool, ...]] = []
    loop.call_soon(look)
    assert not loop.is_running()
    loop.run_forever()
    assert seen == [(True, True, True)]
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None


@pytest.mark.asyncio_fails("gh-130145, a refused run ends the running one", since=(3, 13), before=(3, 13, 3))
def test_a_running_loop_does_not_run_again(loop: AbstractEventLoop) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=RUNNING):
            loop.run_forever()
        coroutine = answer()
        with pytest.raises(RuntimeError, match=RUNNING):
            loop.run_until_complete(coroutine)
        coroutine.close()
        assert asyncio.get_running_loop() is loop

    loop.run_until_complete(main())


@pytest.mark.asyncio_fails("gh-130145, a refused run ends the running one", since=(3, 13), before=(3, 13, 3))
def test_no_loop_runs_inside_another(loop: AbstractEventLoop, loop_factory: LoopFactory) -> None:
    async def main() -> None:
        inner = loop_factory()
        try:
            with pytest.raises(RuntimeError, match=NESTED):
                inner.run_forever()
            assert not inner.is_running()
        finally:
            inner.close()
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_another_thread_may_not_run_a_running_loop(loop: AbstractEventLoop) -> None:
    async def main() -> str:
        def run() -> str:
            with pytest.raises(RuntimeError) as caught:
                loop.run_forever()
            return str(caught.value)

        return await asyncio.to_thread(run)

    assert re.search(RUNNING, loop.run_until_complete(main()))


# --- what the end of a run takes care of --------------------------------------------------------------------------


def test_shutdown_asyncgens_closes_those_that_were_left(loop: AbstractEventLoop) -> None:
    ended: list[int] = []

    async def count(number: int) -> AsyncIterator[int]:
        try:
            yield number
            yield number
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    async def main() -> list[AsyncIterator[int]]:
        left = [count(number) for number in range(3)]
        for generator in left:
            await anext(generator)
        return left

    left = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert sorted(ended) == [0, 1, 2]
    assert len(left) == 3


def test_shutdown_asyncgens_reports_one_that_fails(loop: AbstractEventLoop, reports: Reports) -> None:
    async def fails() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise LookupError("at the end")

    async def main() -> AsyncIterator[int]:
        generator = fails()
        await anext(generator)
        return generator

    generator = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert [report["message"] for report in reports] == [
        f"an error occurred during closing of asynchronous generator {generator!r}"
    ]
    assert str(reports[0]["exception"]) == "at the end"
    assert reports[0]["asyncgen"] is generator


def test_a_generator_that_begins_after_the_shutdown_warns(loop: AbstractEventLoop) -> None:
    async def one() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        async for _ in one():
            pass

    loop.run_until_complete(loop.shutdown_asyncgens())
    with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown_asyncgens"):
        loop.run_until_complete(main())


def test_shutdown_default_executor(loop: AbstractEventLoop) -> None:
    assert loop.run_until_complete(asyncio.wait_for(run_in(loop, None), 30)) == "in a thread"
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match=r"^Executor shutdown has been called$"):
        loop.run_until_complete(run_in(loop, None))


async def run_in(loop: AbstractEventLoop, executor: ThreadPoolExecutor | None) -> str:
    main = threading.get_ident()
    where = await loop.run_in_executor(executor, threading.get_ident)
    return "in a thread" if where != main else "here"


def test_executors(loop: AbstractEventLoop) -> None:
    with ThreadPoolExecutor(2) as executor:
        assert loop.run_until_complete(run_in(loop, executor)) == "in a thread"
    loop.set_default_executor(ThreadPoolExecutor(1))
    assert loop.run_until_complete(run_in(loop, None)) == "in a thread"
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor instance"):
        loop.set_default_executor(object())  # type: ignore[arg-type]
    loop.run_until_complete(loop.shutdown_default_executor())


# --- tasks and futures --------------------------------------------------------------------------------------------


def test_the_factory_of_tasks(loop: AbstractEventLoop) -> None:
    made: list[asyncio.Task[Any]] = []

    def factory(loop: AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        made.append(asyncio.Task(coroutine, loop=loop, **options))
        return made[-1]

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    task = loop.create_task(answer(), name="named")
    assert (made, task.get_name()) == ([task], "named")
    assert loop.run_until_complete(task) == 42
    loop.set_task_factory(None)
    assert loop.run_until_complete(loop.create_task(answer())) == 42
    assert made == [task]
    with pytest.raises(TypeError, match="task factory must be a callable or None"):
        loop.set_task_factory(1)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="since Python 3.12")
def test_eager_tasks(loop: AbstractEventLoop) -> None:
    async def main() -> None:
        assert loop.create_task(asyncio.sleep(0, "at once")).done() is False
        task = loop.create_task(at_once())
        assert (task.done(), task.result()) == (True, task)
        assert asyncio.current_task() is not task
        assert await asyncio.gather(answer(1), answer(2)) == [1, 2]

    async def at_once() -> object:
        return asyncio.current_task()

    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    loop.run_until_complete(main())


def test_a_future_belongs_to_its_loop(loop: AbstractEventLoop) -> None:
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    future.cancel()
