"""A transport's sending half: order, ownership of what is written, flow control, half close."""

from __future__ import annotations

import array
import asyncio
import hashlib
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from support.streams import Recorder, Stream, stream

Run = Callable[..., Any]

BIG = bytes(range(256)) * (16 * 1024)
"""4 MiB: more than the kernel takes at once."""


def test_in_order_whatever_the_sizes(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            pieces = [
                bytes([place % 251]) * size for place, size in enumerate([1, 0, 100, 65536, 3, 20000, 1, 300000] * 5)
            ]
            for piece in pieces:
                s.transport.write(piece)
            expected = b"".join(pieces)
            assert await s.gets(len(expected)) == expected

    run(main)


def test_many_small_writes_over_many_turns(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            expected = b"".join(b"%06d" % count for count in range(10000))
            reading = asyncio.create_task(s.gets(len(expected)))
            for count in range(10000):
                s.transport.write(b"%06d" % count)
                if count % 100 == 0:
                    await asyncio.sleep(0)
            assert await reading == expected

    run(main)


@pytest.mark.parametrize("size", [10, 20_000, 200_000])
@pytest.mark.parametrize(
    "make", [bytes, bytearray, lambda data: memoryview(bytearray(data))], ids=["bytes", "bytearray", "view"]
)
@pytest.mark.asyncio_fails("it keeps a view of what waits, and sends what that has become", since=(3, 12))
def test_what_was_written_may_change_afterwards(run: Run, kind: str, make: Callable[[bytes], Any], size: int) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            expected = bytes(range(250)) * (size // 250) if size > 250 else bytes(range(size))
            s.transport.write(BIG)  # so that the rest has to wait
            data = make(expected)
            s.transport.write(data)
            if not isinstance(data, bytes):
                data[:] = bytes(len(data))
            assert (await s.gets(len(BIG) + len(expected)))[len(BIG) :] == expected

    run(main)


def test_a_bytearray_may_be_resized_after_it_was_written(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            data = bytearray(b"x" * 100_000)
            s.transport.write(data)
            data.clear()
            assert await s.gets(100_000) == b"x" * 100_000

    run(main)


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"0123456789")[2:8],
        memoryview(b"0123456789")[::2],
        memoryview(array.array("I", range(10))),
        memoryview(bytes(12)).cast("B", (3, 4)),
    ],
    ids=["slice", "stride", "integers", "matrix"],
)
def test_views_of_every_shape(run: Run, ours: str, view: memoryview) -> None:
    async def main() -> None:
        async with stream("tcp-connected") as s:
            s.transport.write(view)
            assert await s.gets(view.nbytes) == view.tobytes()

    run(main)


@pytest.mark.parametrize("wrong", ["text", None, 42, [b"a"], object()], ids=lambda wrong: type(wrong).__name__)
def test_what_is_not_bytes(run: Run, wrong: Any) -> None:
    async def main() -> None:
        async with stream("tcp-connected") as s:
            text = f"data argument must be a bytes-like object, not {type(wrong).__name__!r}"
            with pytest.raises(TypeError, match=f"^{text}$"):
                s.transport.write(wrong)
            with pytest.raises(TypeError):
                s.transport.writelines([b"not sent", wrong])
            s.transport.write(b"sent")
            assert await s.gets(4) == b"sent"

    run(main)


def test_writelines(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.writelines([b"one", bytearray(b"two"), memoryview(b"three"), b""])
            s.transport.writelines([])
            s.transport.writelines(piece for piece in (b"four", b"five"))
            s.transport.writelines([BIG, b"end"])
            expected = b"onetwothreefourfive" + BIG + b"end"
            assert await s.gets(len(expected)) == expected

    run(main)


def test_nothing_is_written_by_nothing(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            for nothing in (b"", bytearray(), memoryview(b"")):
                s.transport.write(nothing)
            assert s.transport.get_write_buffer_size() == 0
            s.transport.write(b"x")
            assert await s.gets(1) == b"x"

    run(main)


# --- flow control -------------------------------------------------------------------------------------------------


def test_pause_above_the_high_mark_and_resume_at_the_low(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            assert s.transport.get_write_buffer_limits() == (16384, 65536)
            s.transport.write(BIG)
            assert s.protocol.calls == ["made", "pause"]
            waiting = s.transport.get_write_buffer_size()
            assert 65536 < waiting <= len(BIG)
            s.transport.write(b"more")
            assert s.transport.get_write_buffer_size() == waiting + 4
            assert s.protocol.calls == ["made", "pause"]
            await s.gets(len(BIG) + 4)
            await s.protocol.until(lambda: "resume" in s.protocol.calls)
            assert s.transport.get_write_buffer_size() <= 16384
            assert s.protocol.calls == ["made", "pause", "resume"]

    run(main)


def test_a_write_within_the_marks_never_pauses(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.set_write_buffer_limits(high=len(BIG))
            s.transport.write(BIG)
            assert s.protocol.calls == ["made"]
            await s.gets(len(BIG))

    run(main)


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, (16384, 65536)),
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 7, "low": 7}, (7, 7)),
        ({"high": 0}, (0, 0)),
        ({"high": 100, "low": 0}, (0, 100)),
        ({"high": 10**12}, (25 * 10**10, 10**12)),
    ],
    ids=str,
)
def test_the_marks(run: Run, options: dict[str, int], limits: tuple[int, int]) -> None:
    async def main() -> None:
        async with stream("tcp-connected") as s:
            s.transport.set_write_buffer_limits(**options)
            assert s.transport.get_write_buffer_limits() == limits

    run(main)


@pytest.mark.parametrize("options", [{"high": -1}, {"low": -1}, {"high": 1, "low": 2}], ids=str)
def test_marks_that_can_not_be(run: Run, options: dict[str, int]) -> None:
    async def main() -> None:
        async with stream("tcp-connected") as s:
            with pytest.raises(ValueError, match=r"high \(.*\) must be >= low \(.*\) must be >= 0"):
                s.transport.set_write_buffer_limits(**options)
            assert s.transport.get_write_buffer_limits() == (16384, 65536)

    run(main)


def test_marks_of_zero_pause_until_all_is_sent(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.set_write_buffer_limits(0)
            s.transport.write(BIG)
            assert s.protocol.calls == ["made", "pause"]
            await s.gets(len(BIG))
            await s.protocol.until(lambda: "resume" in s.protocol.calls)
            assert s.transport.get_write_buffer_size() == 0

    run(main)


def test_a_writer_that_obeys_is_never_held_up_for_good(run: Run, kind: str) -> None:
    """`StreamWriter.drain` over pause and resume, many times, against a slow reader."""

    async def main() -> None:
        async with stream(kind, Flow) as s:
            total, sent = 8 << 20, hashlib.sha256()
            reading = asyncio.create_task(slowly(s, total))
            for count in range(total // 65536):
                piece = bytes([count % 256]) * 65536
                sent.update(piece)
                s.transport.write(piece)
                await s.protocol.may_write.wait()
                assert s.transport.get_write_buffer_size() <= 65536
            assert await reading == sent.digest()
            assert s.protocol.calls.count("pause") == s.protocol.calls.count("resume")

    async def slowly(s: Stream, total: int) -> bytes:
        received = hashlib.sha256()
        while total:
            piece = await s.gets(min(total, 10_000))
            received.update(piece)
            total -= len(piece)
            await asyncio.sleep(0)
        return received.digest()

    class Flow(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.may_write = asyncio.Event()
            self.may_write.set()

        def pause_writing(self) -> None:
            super().pause_writing()
            self.may_write.clear()

        def resume_writing(self) -> None:
            super().resume_writing()
            self.may_write.set()

    run(main)


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_flow_control_that_fails_is_reported_and_the_stream_goes_on(run: Run, kind: str, method: str) -> None:
    reports: list[dict[str, Any]] = []

    async def main() -> None:
        class Fails(Recorder):
            def _note(self, call: str) -> None:
                super()._note(call)
                if f"{call}_writing" == method:
                    raise LookupError("lost")

        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
        async with stream(kind, Fails) as s:
            s.transport.write(BIG)
            assert len(await s.gets(len(BIG))) == len(BIG)
            await s.protocol.until(lambda: "resume" in s.protocol.calls)
            (report,) = reports
            assert report == {
                "message": f"protocol.{method}() failed",
                "exception": report["exception"],
                "transport": s.transport,
                "protocol": s.protocol,
            }
            assert isinstance(report["exception"], LookupError)

    run(main)


# --- half close ---------------------------------------------------------------------------------------------------


def test_write_eof_ends_the_peers_stream_and_leaves_ours_open(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            assert s.transport.can_write_eof() is True
            s.transport.write(BIG)
            s.transport.write_eof()
            s.transport.write_eof()
            assert await s.gets_all() == BIG
            assert not s.transport.is_closing()
            await s.sends(b"still heard")
            assert await s.protocol.receives(11) == b"still heard"
            with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
                s.transport.write(b"too late")
            with pytest.raises(RuntimeError, match=r"after write_eof\(\)$"):
                s.transport.writelines([b"too late"])

    run(main)


def test_write_eof_without_a_write(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.write_eof()
            assert await s.gets_all() == b""

    run(main)


def test_the_peers_eof_closes_unless_told_otherwise(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            await s.sends(b"last words")
            s.other.shutdown(socket.SHUT_WR)
            assert await s.protocol.lost is None
            assert s.protocol.calls == ["made", "eof", "lost"]
            assert bytes(s.protocol.data) == b"last words"
            assert await s.gets_all() == b""

    run(main)


def test_a_protocol_may_keep_its_half_open_after_the_peers_eof(run: Run, kind: str) -> None:
    async def main() -> None:
        class Keeps(Recorder):
            keep_open = True

        async with stream(kind, Keeps) as s:
            s.other.shutdown(socket.SHUT_WR)
            await s.protocol.until(lambda: "eof" in s.protocol.calls)
            assert not s.transport.is_closing()
            assert s.transport.is_reading()
            s.transport.write(BIG)
            assert await s.gets(len(BIG)) == BIG
            s.transport.pause_reading()
            s.transport.resume_reading()
            await asyncio.sleep(0.01)
            assert s.protocol.calls.count("eof") <= 2
            s.transport.write(b"and an end")
            s.transport.close()
            assert await s.gets_all() == b"and an end"
            assert await s.protocol.lost is None

    run(main)


def test_both_halves_end_in_either_order(run: Run, kind: str) -> None:
    async def main(first: str) -> None:
        class Keeps(Recorder):
            keep_open = True

        async with stream(kind, Keeps) as s:
            if first == "ours":
                s.transport.write_eof()
                assert await s.gets_all() == b""
            s.other.shutdown(socket.SHUT_WR)
            await s.protocol.until(lambda: "eof" in s.protocol.calls)
            if first == "theirs":
                s.transport.write_eof()
                assert await s.gets_all() == b""
            assert not s.transport.is_closing()
            s.transport.close()
            assert await s.protocol.lost is None

    run(main, "ours")
    run(main, "theirs")


def test_what_a_transport_shows(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            number = s.transport.get_extra_info("socket").fileno()
            name = r"(_SelectorSocket|Stream)Transport"
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert re.fullmatch(rf"<{name} fd={number} read=polling write=<idle, bufsize=0>>", repr(s.transport))
            s.transport.pause_reading()
            s.transport.write(BIG)
            size = s.transport.get_write_buffer_size()
            assert re.fullmatch(rf"<{name} fd={number} read=idle write=<polling, bufsize={size}>>", repr(s.transport))
            s.transport.close()
            assert re.match(rf"<{name} closing fd={number} ", repr(s.transport))
            s.transport.abort()
            await s.protocol.lost
            await asyncio.sleep(0)
            assert re.match(rf"<{name} closed", repr(s.transport))

    run(main)
