"""Exceptions out of callbacks: which are reported, how, and which leave the loop."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Reports = list[dict[str, Any]]
Raise = Callable[[BaseException], None]


class OddError(BaseException):
    """Neither an Exception nor one of those that end programs."""


def fail(error: BaseException) -> None:
    raise error


@pytest.fixture(params=["call_soon", "call_soon_threadsafe", "call_later", "add_reader", "data_received"])
def raised(request: pytest.FixtureRequest, loop: AbstractEventLoop) -> Iterator[Raise]:
    """Let `loop` meet an exception in each kind of callback, then stop."""
    ours, other = socket.socketpair()
    ours.setblocking(False)

    class Fails(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            stop_and_fail()

        def connection_lost(self, error: Exception | None) -> None:
            ours.close()

    def stop_and_fail() -> None:
        if request.param == "add_reader":
            loop.remove_reader(ours)
        loop.call_soon(loop.stop)
        fail(errors.pop())

    async def connect() -> None:
        transports.append((await loop.create_connection(Fails, sock=ours))[0])

    def raised(error: BaseException) -> None:
        errors.append(error)
        if request.param == "add_reader":
            loop.add_reader(ours, stop_and_fail)
            other.send(b"x")
        elif request.param == "data_received":
            loop.run_until_complete(connect())
            other.send(b"x")
        else:
            time = (0,) if request.param == "call_later" else ()
            getattr(loop, request.param)(*time, stop_and_fail)
        try:
            loop.run_forever()
        finally:
            turn()

    def turn() -> None:
        """Let what was to stop the loop stop it."""
        loop.call_soon(loop.stop)
        loop.run_forever()

    errors: list[BaseException] = []
    transports: list[asyncio.Transport] = []
    yield raised
    for transport in transports:
        transport.abort()
    turn()
    ours.close()
    other.close()


@pytest.mark.parametrize(
    "error", [LookupError("lost"), OddError("odd"), GeneratorExit(), asyncio.CancelledError()], ids=repr
)
def test_an_exception_is_reported_and_the_loop_goes_on(
    loop: AbstractEventLoop, reports: Reports, raised: Raise, error: BaseException
) -> None:
    raised(error)
    assert [report["exception"] for report in reports] == [error]
    assert loop.run_until_complete(asyncio.sleep(0, "on")) == "on"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_what_ends_programs_leaves_the_loop_which_may_run_again(
    loop: AbstractEventLoop, reports: Reports, raised: Raise, error: BaseException
) -> None:
    with pytest.raises(type(error)) as caught:
        raised(error)
    assert caught.value is error
    assert (reports, loop.is_running(), loop.is_closed()) == ([], False, False)
    assert loop.run_until_complete(asyncio.sleep(0, "on")) == "on"


def test_who_waits_behind_an_interrupt_runs_in_the_next_run(loop: AbstractEventLoop) -> None:
    calls: list[int] = []
    loop.call_soon(calls.append, 1)
    loop.call_soon(fail, KeyboardInterrupt())
    loop.call_soon(calls.append, 2)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert calls == [1]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert calls == [1, 2]


def test_an_interrupt_out_of_a_task_is_also_its_result(loop: AbstractEventLoop) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    task = loop.create_task(interrupted())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(60))
    assert isinstance(task.exception(), KeyboardInterrupt)
    for left in asyncio.all_tasks(loop):
        left.cancel()
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()


# --- the words of a report ----------------------------------------------------------------------------------------


def test_the_report_of_a_callback(loop: AbstractEventLoop, reports: Reports) -> None:
    error = LookupError("lost")
    handle = loop.call_soon(fail, error)
    shown = repr(handle)[len("<Handle ") : -1]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert reports == [{"message": f"Exception in callback {shown}", "exception": error, "handle": handle}]
    assert re.match(r"Exception in callback fail\(.*\) at .*test_exceptions\.py:\d+$", reports[0]["message"])
    assert "fail" in repr(handle)
    assert not handle.cancelled()


def test_without_a_handler_the_log_has_it(loop: AbstractEventLoop, caplog: pytest.LogCaptureFixture) -> None:
    loop.call_soon(fail, LookupError("lost"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asyncio", logging.ERROR)
    first, second = record.getMessage().split("\n")
    assert first.startswith("Exception in callback fail(")
    assert second.startswith("handle: <Handle fail(")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "lost"


def test_a_future_that_nobody_asked(loop: AbstractEventLoop, reports: Reports) -> None:
    future = loop.create_future()
    future.set_exception(LookupError("lost"))
    shown = id(future)
    del future
    (report,) = reports
    assert report["message"] == "Future exception was never retrieved"
    assert (str(report["exception"]), id(report["future"])) == ("lost", shown)


def test_a_handler_that_fails_itself(loop: AbstractEventLoop, raised: Raise, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_exception_handler(lambda _loop, _context: fail(OSError("the handler's own")))
    raised(LookupError("lost"))
    assert [record.getMessage().split("\n")[0] for record in caplog.records] == ["Unhandled error in exception handler"]


def test_a_handler_may_end_the_program(loop: AbstractEventLoop, raised: Raise) -> None:
    loop.set_exception_handler(lambda _loop, _context: fail(SystemExit(3)))
    with pytest.raises(SystemExit):
        raised(LookupError("lost"))
    loop.set_exception_handler(None)
    assert loop.run_until_complete(asyncio.sleep(0, "on")) == "on"


def test_the_handler_is_the_one_set(loop: AbstractEventLoop) -> None:
    def handler(_loop: AbstractEventLoop, _context: dict[str, Any]) -> None: ...

    assert loop.get_exception_handler() is None
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler(1)  # type: ignore[arg-type]
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


def test_a_callback_that_can_not_be_called(loop: AbstractEventLoop, reports: Reports) -> None:
    loop.call_soon("no function")  # type: ignore[arg-type]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert [type(report["exception"]) for report in reports] == [TypeError]


def test_a_reader_that_fails_stays(loop: AbstractEventLoop, reports: Reports) -> None:
    def reader() -> None:
        calls.append(os.read(reading, 1))
        if len(calls) == 3:
            loop.stop()
        raise LookupError("lost")

    calls: list[bytes] = []
    reading, writing = os.pipe()
    loop.add_reader(reading, reader)
    os.write(writing, b"abc")
    loop.run_forever()
    assert loop.remove_reader(reading)
    assert (b"".join(calls), len(reports)) == (b"abc", 3)
    assert "reader()" in reports[-1]["message"]
    os.close(reading)
    os.close(writing)
