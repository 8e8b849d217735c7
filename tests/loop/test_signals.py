"""Signals: handlers of the loop, handlers of the interpreter while the loop sleeps, and Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from typing import Any

import pytest

LoopFactory = Callable[[], AbstractEventLoop]
Reports = list[dict[str, Any]]


def send(number: int, *, after: float = 0.01) -> threading.Timer:
    """Signal this process from another thread, while the loop sleeps."""
    timer = threading.Timer(after, os.kill, (os.getpid(), number))
    timer.start()
    return timer


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, as in a program of its own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# --- add_signal_handler -------------------------------------------------------------------------------------------


def test_a_handler_is_a_callback_with_arguments(loop: AbstractEventLoop) -> None:
    calls: list[tuple[object, ...]] = []

    def handler(*args: object) -> None:
        calls.append((asyncio._get_running_loop() is loop, *args))
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two")
    timer = send(signal.SIGUSR1)
    loop.run_forever()
    timer.join()
    assert calls == [(True, 1, "two")]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_signal_before_the_run_is_not_lost(loop: AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_a_second_handler_replaces_the_first(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert calls == []
    loop.remove_signal_handler(signal.SIGUSR1)


def test_several_signals(loop: AbstractEventLoop) -> None:
    numbers = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]
    calls: set[int] = set()

    def handler(number: int) -> None:
        calls.add(number)
        if len(calls) == len(numbers):
            loop.stop()

    for number in numbers:
        loop.add_signal_handler(number, handler, number)
    for number in numbers:
        os.kill(os.getpid(), number)
    loop.run_forever()
    assert calls == set(numbers)
    for number in numbers:
        loop.remove_signal_handler(number)


def test_closing_the_loop_removes_its_handlers(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_a_handler_of_sigint_is_put_back(loop: AbstractEventLoop) -> None:
    loop.add_signal_handler(signal.SIGINT, loop.stop)
    timer = send(signal.SIGINT)
    loop.run_forever()
    timer.join()
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("number", "error", "text"),
    [
        (signal.SIGKILL, RuntimeError, f"sig {int(signal.SIGKILL)} cannot be caught"),
        (100000, ValueError, "invalid signal number"),
        ("SIGUSR1", TypeError, "sig must be an int"),
    ],
)
def test_what_can_not_be_handled(loop: AbstractEventLoop, number: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        loop.add_signal_handler(number, print)


def test_coroutines_are_no_handlers(loop: AbstractEventLoop) -> None:
    async def handler() -> None: ...

    with pytest.raises(TypeError, match="coroutines cannot be used with add_signal_handler"):
        loop.add_signal_handler(signal.SIGUSR1, handler)


def test_another_thread_may_not_add_one(loop: AbstractEventLoop) -> None:
    async def main() -> None:
        def work() -> None:
            with pytest.raises((RuntimeError, ValueError)):
                loop.add_signal_handler(signal.SIGUSR1, print)

        await asyncio.to_thread(work)

    loop.run_until_complete(main())


def test_a_handler_that_fails_is_reported(loop: AbstractEventLoop, reports: Reports) -> None:
    def handler() -> None:
        loop.call_soon(loop.stop)
        raise LookupError("lost")

    loop.add_signal_handler(signal.SIGUSR1, handler)
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert [str(report["exception"]) for report in reports] == ["lost"]
    loop.remove_signal_handler(signal.SIGUSR1)


# --- signal.signal ------------------------------------------------------------------------------------------------


def test_a_handler_of_the_interpreter_runs_while_the_loop_sleeps(loop: AbstractEventLoop) -> None:
    seen: list[int] = []

    def handler(number: int, _frame: object) -> None:
        seen.append(number)
        loop.call_soon_threadsafe(loop.stop)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        for _ in range(3):
            timer = send(signal.SIGUSR1)
            loop.run_forever()
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1] * 3


def test_what_a_handler_of_the_interpreter_raises_leaves_the_loop(loop: AbstractEventLoop, reports: Reports) -> None:
    def handler(_number: int, _frame: object) -> None:
        raise LookupError("out of the handler")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        timer = send(signal.SIGUSR1)
        with pytest.raises(LookupError, match="out of the handler"):
            loop.run_forever()
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (reports, loop.is_running()) == ([], False)
    assert loop.run_until_complete(asyncio.sleep(0, "on")) == "on"


def test_a_storm_of_signals_disturbs_nobody(loop: AbstractEventLoop) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    stop = threading.Event()

    def storm() -> None:
        while not stop.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)

    async def main() -> int:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for count in range(200):
            writer.write(b"%4d" % count)
            assert await reader.readexactly(4) == b"%4d" % count
        writer.close()
        await writer.wait_closed()
        await echoed.wait()
        server.close()
        await server.wait_closed()
        return count

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()
        await writer.wait_closed()
        echoed.set()

    echoed = asyncio.Event()
    thread = threading.Thread(target=storm)
    thread.start()
    try:
        assert loop.run_until_complete(main()) == 199
    finally:
        stop.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


# --- Ctrl-C -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_the_loop_sleeps(loop: AbstractEventLoop) -> None:
    timer = send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    timer.join()
    assert loop.run_until_complete(asyncio.sleep(0, "on")) == "on"


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_a_callback_runs(loop: AbstractEventLoop) -> None:
    loop.call_soon(signal.raise_signal, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, "on")) == "on"


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sleeps", [True, False])
def test_ctrl_c_cancels_the_main_task_of_a_runner(loop_factory: LoopFactory, sleeps: bool) -> None:
    ended: list[str] = []

    async def main() -> None:
        timer = send(signal.SIGINT) if sleeps else None
        try:
            if timer is None:
                signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")
            if timer is not None:
                timer.join()

    with asyncio.Runner(loop_factory=loop_factory) as runner, pytest.raises(KeyboardInterrupt):
        runner.run(main())
    assert ended == ["cancelled", "cleaned up"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


PROGRAM = """
import asyncio, sys
{head}
async def main():
    task = asyncio.create_task(background())
    print("ready", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("main ended", flush=True)

async def background():
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        print("background ended", flush=True)

{run}
"""


def test_ctrl_c_ends_a_program_as_python_does(backend: str) -> None:
    ours = backend != "asyncio"
    head, run = ("import wireway", f"wireway.run(main(), backend={backend!r})") if ours else ("", "asyncio.run(main())")
    code = PROGRAM.format(head=head, run=run)
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=30)
    assert out == "main ended\nbackground ended\n"
    assert err.endswith("\nKeyboardInterrupt\n")
    assert program.returncode == -signal.SIGINT
