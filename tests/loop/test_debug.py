"""Debug mode: what it checks, what it warns of, and that it changes nothing else."""

from __future__ import annotations

import asyncio
import functools
import re
import socket
import subprocess
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Reports = list[dict[str, Any]]
OTHER_THREAD = "^Non-thread-safe operation invoked on an event loop other than the current one"


def nothing() -> None:
    """Is called."""


async def coroutine_function() -> None:
    """Is never called."""


@pytest.fixture
def loop(loop: AbstractEventLoop) -> AbstractEventLoop:
    """The loop in debug mode, which is patient with slow machines."""
    loop.set_debug(True)
    loop.slow_callback_duration = 3600.0
    return loop


@pytest.fixture
def slow(loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> Callable[[], Iterator[str]]:
    """Let everything count as slow. Called, it gives the warnings."""
    loop.slow_callback_duration = 0.0
    return lambda: (record.getMessage() for record in caplog.records)


def turn(loop: AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_debug_mode_is_switched(loop: AbstractEventLoop) -> None:
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False
    loop.set_debug(1)  # type: ignore[arg-type]
    assert loop.get_debug()


def test_debug_mode_is_switched_while_running(loop: AbstractEventLoop) -> None:
    async def main() -> list[bool]:
        seen = []
        for enabled in (False, True, False):
            loop.set_debug(enabled)
            await asyncio.sleep(0)
            handles = [loop.call_soon(nothing), loop.call_later(0, nothing), loop.call_soon_threadsafe(nothing)]
            seen.append(all(getattr(handle, "_source_traceback", None) is not None for handle in handles))
            await asyncio.sleep(0.001)
        return seen

    assert loop.run_until_complete(main()) == [False, True, False]


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_another_thread_is_refused(loop: AbstractEventLoop, method: str) -> None:
    async def main() -> str:
        def work() -> str:
            arguments = (nothing,) if method == "call_soon" else (0, nothing)
            with pytest.raises(RuntimeError) as caught:
                getattr(loop, method)(*arguments)
            return str(caught.value)

        return await asyncio.to_thread(work)

    assert re.search(OTHER_THREAD, loop.run_until_complete(main()))


@pytest.mark.parametrize("debug", [False, True])
def test_a_loop_at_rest_belongs_to_nobody(loop: AbstractEventLoop, debug: bool) -> None:
    loop.set_debug(debug)
    calls: list[int] = []
    thread = threading.Thread(target=lambda: [loop.call_soon(calls.append, 1), loop.call_later(0, calls.append, 2)])
    thread.start()
    thread.join()
    loop.call_later(0, loop.call_soon, loop.stop)
    loop.run_forever()
    assert sorted(calls) == [1, 2]


@pytest.mark.parametrize("debug", [False, True])
def test_our_loop_refuses_another_thread_without_debug_mode_too(
    loop: AbstractEventLoop, ours: str, debug: bool
) -> None:
    async def main() -> None:
        loop.set_debug(debug)

        def work() -> None:
            with pytest.raises(RuntimeError, match=OTHER_THREAD):
                loop.call_soon(nothing)
            with pytest.raises(RuntimeError, match=OTHER_THREAD):
                loop.call_later(1, nothing)

        await asyncio.to_thread(work)

    loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_what_can_not_be_a_callback(loop: AbstractEventLoop, method: str) -> None:
    time = () if method.startswith("call_soon") else (0,)
    # asyncio's call_later is its call_at, and says so.
    shown = "(call_at|call_later)" if method == "call_later" else method
    schedule = functools.partial(getattr(loop, method), *time)
    with pytest.raises(TypeError, match=rf"^a callable object was expected by {shown}\(\), got 'no function'$"):
        schedule("no function")
    with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {shown}\(\)$"):
        schedule(coroutine_function)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_a_handle_tells_where_it_was_made(loop: AbstractEventLoop, method: str) -> None:
    time = () if method.startswith("call_soon") else (0,)
    handle = getattr(loop, method)(*time, nothing)
    assert isinstance(handle, asyncio.Handle)
    last = handle._source_traceback[-1]  # type: ignore[attr-defined]
    assert (last.filename, last.name) == (__file__, "test_a_handle_tells_where_it_was_made")
    assert f"created at {__file__}:{last.lineno}" in repr(handle)
    handle.cancel()


def test_a_report_tells_where_the_callback_was_scheduled(loop: AbstractEventLoop, reports: Reports) -> None:
    def fails() -> None:
        raise LookupError("lost")

    loop.call_soon(fails)
    turn(loop)
    assert [str(report["exception"]) for report in reports] == ["lost"]
    assert reports[0]["source_traceback"][-1].filename == __file__


def test_timers_and_their_cancellation(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    handles = [loop.call_later(0.001 * (place % 5), calls.append, place) for place in range(300)]
    for place, handle in enumerate(handles):
        if place % 3:
            handle.cancel()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert sorted(calls) == list(range(0, 300, 3))


# --- slow callbacks -----------------------------------------------------------------------------------------------


def test_a_slow_callback(loop: AbstractEventLoop, slow: Callable[[], Iterator[str]]) -> None:
    loop.call_soon(nothing)
    turn(loop)
    assert any(
        re.fullmatch(
            rf"Executing <Handle nothing\(\) at \S+:\d+ created at {__file__}:\d+> took \d\.\d\d\d seconds", text
        )
        for text in slow()
    )


def test_a_slow_step_of_a_task(loop: AbstractEventLoop, slow: Callable[[], Iterator[str]]) -> None:
    loop.run_until_complete(loop.create_task(asyncio.sleep(0), name="sleeper"))
    assert any(
        re.match(r"Executing <Task finished name='sleeper' .* took \d\.\d\d\d seconds$", text) for text in slow()
    )


def test_nobody_is_slow_within_the_limit(loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
    loop.run_until_complete(asyncio.sleep(0))
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_a_slow_protocol(loop: AbstractEventLoop, slow: Callable[[], Iterator[str]], ours: str) -> None:
    class Receives(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            loop.stop()

    async def connect() -> asyncio.Transport:
        return (await loop.create_connection(Receives, sock=mine))[0]

    mine, other = socket.socketpair()
    transport = loop.run_until_complete(connect())
    other.send(b"x")
    loop.run_forever()
    shown = f"<StreamTransport fd={mine.fileno()} "
    assert any(text.startswith(f"Executing {shown}") for text in slow())
    transport.abort()
    turn(loop)
    other.close()


# --- coroutines that nobody awaited, and the switch from outside --------------------------------------------------


def test_a_forgotten_coroutine_tells_where_it_was_made(loop: AbstractEventLoop) -> None:
    async def main() -> None:
        coroutine_function()

    with pytest.warns(RuntimeWarning, match=rf"was never awaited\nCoroutine created at .*\n(.*\n)+.*{__file__}"):
        loop.run_until_complete(main())


@pytest.mark.parametrize(("value", "debug"), [("1", True), ("", False)])
def test_the_environment_switches_it_on(backend: str, ours: str, value: str, debug: bool) -> None:
    code = f"import wireway, asyncio; asyncio.Runner(loop_factory=lambda: wireway.new_event_loop({backend!r}))"
    code = f"{code}.run(main())"
    main = "import asyncio\nasync def main(): print(asyncio.get_running_loop().get_debug())\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", main + code],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "PYTHONASYNCIODEBUG": value},
    )
    assert (done.stdout, done.stderr) == (f"{debug}\n", "")
