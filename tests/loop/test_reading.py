"""A transport's receiving half: protocols of both kinds, changed in mid-stream, paused, and failing."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from support.streams import BufferedRecorder, Recorder, stream

Run = Callable[..., Any]
Reports = list[dict[str, Any]]

BOTH = pytest.mark.parametrize("protocol", [Recorder, BufferedRecorder])


def watch_reports() -> Reports:
    """What reaches the exception handler of the running loop from now on."""
    reports: Reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    return reports


async def turns() -> None:
    """Let the loop look at its descriptors a few times."""
    for _ in range(5):
        await asyncio.sleep(0)


# --- receiving ----------------------------------------------------------------------------------------------------


@BOTH
def test_everything_arrives_in_order(run: Run, kind: str, protocol: type[Recorder]) -> None:
    async def main() -> None:
        async with stream(kind, protocol) as s:
            expected = bytes(range(256)) * 4096
            await s.sends(expected)
            assert await s.protocol.receives(len(expected)) == expected

    run(main)


def test_a_buffer_of_one_byte(run: Run, kind: str) -> None:
    class Narrow(BufferedRecorder):
        size = 1

    async def main() -> None:
        async with stream(kind, Narrow) as s:
            await s.sends(bytes(range(256)))
            assert await s.protocol.receives(256) == bytes(range(256))
            assert set(s.protocol.hints) == {-1}

    run(main)


@pytest.mark.parametrize("lend", [memoryview, lambda buffer: memoryview(buffer)[10:20], lambda buffer: buffer])
def test_any_writable_buffer(run: Run, lend: Callable[[bytearray], Any]) -> None:
    class Lends(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.lent = lend(super().get_buffer(sizehint))
            return self.lent

        def buffer_updated(self, nbytes: int) -> None:
            self.data_received(bytes(self.lent[:nbytes]))

    async def main() -> None:
        async with stream("tcp-connected", Lends) as s:
            await s.sends(bytes(range(200)))
            assert await s.protocol.receives(200) == bytes(range(200))

    run(main)


def test_the_context_of_the_connecting_call_is_seen(run: Run, kind: str) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    class Looks(Recorder):
        def _note(self, call: str) -> None:
            super()._note(call)
            seen.append(f"{call}: {variable.get()}")

    async def main() -> None:
        variable.set("set")
        async with stream(kind, Looks) as s:
            variable.set("changed")
            s.other.close()
            await s.protocol.lost
        assert seen == ["made: set", "eof: set", "lost: set"]

    run(main)


# --- a protocol is replaced ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("second", [Recorder, BufferedRecorder])
def test_a_protocol_is_replaced(run: Run, kind: str, first: type[Recorder], second: type[Recorder]) -> None:
    async def main() -> None:
        async with stream(kind, first) as s:
            await s.sends(b"to the first")
            await s.protocol.receives(12)
            former, following = s.protocol, second()
            assert s.transport.get_protocol() is former
            s.transport.set_protocol(following)
            assert s.transport.get_protocol() is following
            s.protocol = following
            await s.sends(b"to the second")
            await following.receives(13)
            s.other.close()
            assert await following.lost is None
            assert (bytes(former.data), bytes(following.data)) == (b"to the first", b"to the second")
            assert (former.calls, following.calls) == (["made"], ["eof", "lost"])

    run(main)


@pytest.mark.parametrize("first", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("second", [Recorder, BufferedRecorder])
def test_a_protocol_replaces_itself_while_it_receives(
    run: Run, kind: str, first: type[Recorder], second: type[Recorder]
) -> None:
    """As an upgrade to WebSocket does. What arrived behind the first piece goes to the second protocol."""

    class Replaces(first):  # type: ignore[valid-type,misc]
        size = 10

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.data) >= 10:
                self.following = second()
                self.transport.set_protocol(self.following)

    async def main() -> None:
        async with stream(kind, Replaces) as s:
            former = s.protocol
            await s.sends(bytes(range(10)))
            await former.receives(10)
            s.protocol = former.following
            await s.sends(bytes(range(10, 100)))
            assert await s.protocol.receives(90) == bytes(range(10, 100))
            assert bytes(former.data) == bytes(range(10))

    run(main)


def test_a_buffered_protocol_hands_over_in_the_middle_of_a_piece(run: Run, kind: str) -> None:
    class Replaces(BufferedRecorder):
        size = 10

        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.set_protocol(following[0])

    following: list[Recorder] = []

    async def main() -> None:
        following.append(Recorder())
        async with stream(kind, Replaces) as s:
            former, s.protocol = s.protocol, following[0]
            await s.sends(bytes(range(100)))
            assert await s.protocol.receives(90) == bytes(range(10, 100))
            assert bytes(former.data) == bytes(range(10))

    run(main)


# --- pause and resume ---------------------------------------------------------------------------------------------


@BOTH
def test_nothing_arrives_while_reading_is_paused(run: Run, kind: str, protocol: type[Recorder]) -> None:
    async def main() -> None:
        async with stream(kind, protocol) as s:
            assert s.transport.is_reading()
            s.transport.pause_reading()
            s.transport.pause_reading()
            assert not s.transport.is_reading()
            await s.sends(b"waits")
            s.transport.write(b"x")
            await s.gets(1)
            await turns()
            assert bytes(s.protocol.data) == b""
            s.transport.resume_reading()
            s.transport.resume_reading()
            assert s.transport.is_reading()
            assert await s.protocol.receives(5) == b"waits"

    run(main)


@BOTH
def test_a_protocol_pauses_itself_in_the_middle(run: Run, kind: str, protocol: type[Recorder]) -> None:
    class Pauses(protocol):  # type: ignore[valid-type,misc]
        size = 7

        def data_received(self, data: bytes) -> None:
            assert self.transport.is_reading()
            super().data_received(data)
            self.transport.pause_reading()

    async def main() -> None:
        async with stream(kind, Pauses) as s:
            expected = bytes(range(250)) * 40
            sending = asyncio.create_task(s.sends(expected))
            while len(s.protocol.data) < len(expected):
                before = len(s.protocol.data)
                await s.protocol.until(lambda: not s.transport.is_reading())
                await turns()
                got = len(s.protocol.data) - before
                assert 0 < got <= (7 if protocol is BufferedRecorder else 256 * 1024)
                s.transport.resume_reading()
            await sending
            assert bytes(s.protocol.data) == expected

    run(main)


def test_a_paused_reader_pushes_back(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.pause_reading()
            sending = asyncio.create_task(s.sends(bytes(32 << 20)))
            done, _ = await asyncio.wait([sending], timeout=0.05)
            assert not done
            assert bytes(s.protocol.data) == b""
            s.transport.resume_reading()
            await sending
            assert len(await s.protocol.receives(32 << 20)) == 32 << 20

    run(main)


def test_a_pause_before_the_first_byte(run: Run, kind: str) -> None:
    class Pauses(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main() -> None:
        async with stream(kind, Pauses) as s:
            await s.sends(b"waits")
            await turns()
            assert bytes(s.protocol.data) == b""
            s.transport.resume_reading()
            assert await s.protocol.receives(5) == b"waits"

    run(main)


def test_the_end_waits_for_a_paused_reader(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.pause_reading()
            await s.sends(b"before the end")
            s.other.close()
            await turns()
            assert s.protocol.calls == ["made"]
            s.transport.resume_reading()
            assert await s.protocol.lost is None
            assert bytes(s.protocol.data) == b"before the end"
            assert s.protocol.calls == ["made", "eof", "lost"]

    run(main)


@BOTH
def test_nothing_arrives_after_close(run: Run, kind: str, protocol: type[Recorder]) -> None:
    class Closes(protocol):  # type: ignore[valid-type,misc]
        size = 10

        def data_received(self, data: bytes) -> None:
            super().data_received(data[:10])
            self.transport.close()

    async def main() -> None:
        async with stream(kind, Closes) as s:
            await s.sends(bytes(1000))
            await s.protocol.lost
            assert len(s.protocol.data) == 10
            assert not s.transport.is_reading()
            s.transport.pause_reading()
            s.transport.resume_reading()
            assert s.protocol.calls == ["made", "lost"]

    run(main)


# --- protocols that fail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_a_protocol_that_fails_is_reported_and_loses_its_connection(run: Run, kind: str, method: str) -> None:
    error = LookupError("lost")

    class Fails(Recorder):
        def data_received(self, data: bytes) -> None:
            raise error

        def eof_received(self) -> bool:
            raise error

    async def main() -> None:
        reports = watch_reports()
        async with stream(kind, Fails) as s:
            if method == "data_received":
                await s.sends(b"x")
            else:
                s.other.close()
            assert await s.protocol.lost is error
            assert s.transport.is_closing()
            message = f"Fatal error: protocol.{method}() call failed."
            expected = {"message": message, "exception": error, "transport": s.transport, "protocol": s.protocol}
            assert reports == [expected]

    run(main)


@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
def test_a_buffered_protocol_that_fails(run: Run, kind: str, method: str) -> None:
    error = LookupError("lost")

    class Fails(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> bytearray:
            if method == "get_buffer":
                raise error
            return super().get_buffer(sizehint)

        def buffer_updated(self, nbytes: int) -> None:
            raise error

    async def main() -> None:
        reports = watch_reports()
        async with stream(kind, Fails) as s:
            await s.sends(b"x")
            assert await s.protocol.lost is error
            message = f"Fatal error: protocol.{method}() call failed."
            expected = {"message": message, "exception": error, "transport": s.transport, "protocol": s.protocol}
            assert reports == [expected]

    run(main)


@pytest.mark.parametrize(
    ("buffer", "error", "message"),
    [
        (bytearray(), RuntimeError, "Fatal error: protocol.get_buffer() call failed."),
        (memoryview(b""), RuntimeError, "Fatal error: protocol.get_buffer() call failed."),
        (None, TypeError, "Fatal error: protocol.get_buffer() call failed."),
        (b"read-only", (TypeError, BufferError), "Fatal read error on socket transport"),
    ],
    ids=["empty", "empty view", "None", "read-only"],
)
def test_a_buffer_that_can_not_be_filled(run: Run, kind: str, buffer: Any, error: Any, message: str) -> None:
    class Lends(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            return buffer

    async def main() -> None:
        reports = watch_reports()
        async with stream(kind, Lends) as s:
            await s.sends(b"x")
            lost = await s.protocol.lost
            assert isinstance(lost, error)
            assert [(report["message"], report["exception"]) for report in reports] == [(message, lost)]
            if isinstance(lost, RuntimeError):
                assert str(lost) == "get_buffer() returned an empty buffer"

    run(main)


def test_connection_made_that_fails_is_reported(run: Run, kind: str) -> None:
    class Fails(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise LookupError("lost")

    async def main() -> None:
        reports = watch_reports()
        async with stream(kind, Fails) as s:
            s.other.close()
            await s.protocol.lost
            assert [str(report["exception"]) for report in reports] == ["lost"]

    run(main)
