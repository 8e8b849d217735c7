"""`wireway.run` and `asyncio.Runner`: what they take, what they give back, what they clean up."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import pytest

import wireway

T = TypeVar("T")
LoopFactory = Callable[[], AbstractEventLoop]
Run = Callable[..., Any]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def run(backend: str) -> Run:
    """`wireway.run` on the back end under test; `asyncio.run` for the reference."""
    return asyncio.run if backend == "asyncio" else partial(wireway.run, backend=backend)


async def answer() -> int:
    return 42


def test_the_result_is_given_back(run: Run) -> None:
    assert run(answer()) == 42


def test_an_exception_is_raised(run: Run) -> None:
    async def fails() -> None:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        run(fails())


def test_the_loop_is_the_one_asked_for(ours: str) -> None:
    async def main() -> tuple[object, str, bool]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, wireway.EventLoop)
        return type(loop), loop.backend, loop.get_debug()

    assert wireway.run(main(), backend=ours) == (wireway.EventLoop, ours, False)
    assert wireway.run(main(), backend=ours, debug=True) == (wireway.EventLoop, ours, True)


def test_every_option_is_given_by_its_name() -> None:
    kinds = {name: parameter.kind for name, parameter in inspect.signature(wireway.run).parameters.items()}
    assert kinds.pop("main") is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert kinds == dict.fromkeys(["backend", "debug"], inspect.Parameter.KEYWORD_ONLY)


def test_an_unknown_back_end() -> None:
    coroutine = answer()
    with pytest.raises(wireway.UnknownBackendError, match="'kqueue'"):
        wireway.run(coroutine, backend="kqueue")
    coroutine.close()


@pytest.mark.parametrize("wrong", [42, answer, None])
def test_only_coroutines_run(run: Run, wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="coroutine"):
        run(wrong)


def test_no_run_inside_a_run(run: Run) -> None:
    async def main() -> None:
        coroutine = answer()
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            run(coroutine)
        coroutine.close()

    run(main())


def test_what_is_left_is_cancelled_closed_and_joined(run: Run) -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("task")

    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    async def main() -> tuple[AbstractEventLoop, object, object]:
        task = asyncio.create_task(background())
        generator = generate()
        await anext(generator)
        await asyncio.to_thread(ended.append, "thread")
        return asyncio.get_running_loop(), task, generator

    loop, task, _ = run(main())
    assert ended == ["thread", "task", "generator"]
    assert isinstance(task, asyncio.Task)
    assert task.cancelled()
    assert loop.is_closed()
    assert loop._default_executor is None or loop._default_executor._shutdown


def test_a_task_that_fails_while_it_is_cancelled_is_reported(run: Run) -> None:
    reports: list[dict[str, Any]] = []

    async def background() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise LookupError("lost") from None

    async def main() -> object:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
        task = asyncio.create_task(background())
        await asyncio.sleep(0)
        return task

    task = run(main())
    assert [(report["message"], report["task"]) for report in reports] == [
        ("unhandled exception during asyncio.run() shutdown", task)
    ]


def test_system_exit_leaves(run: Run) -> None:
    async def main() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        run(main())
    assert caught.value.code == 3


def test_a_runner_keeps_its_loop_and_its_context(loop_factory: LoopFactory) -> None:
    async def main(value: str) -> tuple[str, AbstractEventLoop]:
        before = variable.get()
        variable.set(value)
        return before, asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        first, second = runner.run(main("first")), runner.run(main("second"))
        assert (first[0], second[0]) == ("unset", "first")
        assert first[1] is second[1] is runner.get_loop()
        other = contextvars.copy_context()
        assert runner.run(main("third"), context=other)[0] == "unset"
        assert other[variable] == "third"
    assert runner_is_closed(runner)
    assert variable.get() == "unset"


def runner_is_closed(runner: asyncio.Runner) -> bool:
    coroutine: Coroutine[Any, Any, Any] = answer()
    with pytest.raises(RuntimeError, match="Runner is closed"):
        runner.run(coroutine)
    coroutine.close()
    return True


def test_nested_timeouts_and_groups(run: Run) -> None:
    async def main() -> list[str]:
        seen = []
        try:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60))
                async with asyncio.timeout(0.001):
                    await asyncio.sleep(60)
        except* TimeoutError:
            seen.append("the inner one")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(60), 0.001)
        async with asyncio.timeout(60):
            assert await asyncio.shield(asyncio.create_task(answer())) == 42
        return seen

    assert run(main()) == ["the inner one"]
