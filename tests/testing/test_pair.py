"""`memory_pair`: the real framers at every cut, the watermarks, the ends; and `handle`, a server for one connection."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from conftest import Run
from wireway import ConfigError, Connection, ConnectionClosedError, RequestTimeoutError, WirewayError
from wireway.framing import Delimiter, FixedLength, FrameError, Framing, LengthPrefix, Lines, Raw, Varint
from wireway.net.closing import CloseReason
from wireway.net.requests import Correlate
from wireway.net.sending import SendResult
from wireway.testing import MemoryConnection, handle, memory_pair

FRAMINGS = (LengthPrefix(4), LengthPrefix(1), Lines(), Delimiter(b"END"), Varint(), FixedLength(5))


def taken(conn: MemoryConnection) -> list[bytes]:
    messages = []
    while (message := conn.receive_nowait()) is not None:
        messages.append(message)
    return messages


@pytest.mark.parametrize("framing", FRAMINGS, ids=repr)
@pytest.mark.parametrize("cut", [None, 1, 2, 3, 7, [1, 5, 2], lambda data: [data[:1], b"", data[1:]]])
def test_messages_stay_whole_however_they_are_cut(framing: Framing, cut: Any) -> None:
    left, right = memory_pair(framing, cut=cut)
    sent = [b"01234", b"hello", b"world"]
    for message in sent:
        assert left.send_nowait(message) is SendResult.QUEUED
    assert taken(right) == sent
    assert (left.queued, right.stats["messages_in"], left.stats["messages_out"]) == (0, 3, 3)
    assert right.stats["bytes_in"] == left.stats["bytes_out"]


def test_raw_pieces_are_what_the_cut_made_of_them() -> None:
    left, right = memory_pair(cut=[2, 3])
    left.send_nowait(b"0123456789")
    assert taken(right) == [b"01", b"234", b"56", b"789"]


def test_it_has_the_shape_of_a_connection() -> None:
    left, _ = memory_pair()
    public = {name for name in vars(Connection) if not name.startswith("_")}
    assert public <= set(dir(left)), f"a MemoryConnection has no {sorted(public - set(dir(left)))}"
    for name in public:
        native = getattr(Connection, name)
        if callable(native):
            ours = inspect.signature(getattr(MemoryConnection, name))
            assert len(inspect.signature(native).parameters) == len(ours.parameters), name


def test_a_sender_waits_above_the_high_watermark_until_the_low_one(run: Run) -> None:
    async def main() -> None:
        left, right = memory_pair(LengthPrefix(4), low=14, high=28)
        await left.send(b"0123456789")
        await left.send(b"0123456789")
        assert left.writable
        assert left.send_nowait(b"0123456789") is SendResult.OVER
        waiting = asyncio.create_task(left.drain())
        await asyncio.sleep(0)
        await right.receive()
        await asyncio.sleep(0)
        assert (waiting.done(), left.writable, left.queued) == (False, True, 28)
        await right.receive()
        await waiting
        assert left.queued == 14

    run(main)


def test_the_latest_of_each_key_waits_for_a_slow_peer() -> None:
    left, right = memory_pair(Lines(), low=0, high=10)
    assert left.send_latest(b"a=1", b"a") is SendResult.QUEUED
    left.send_nowait(b"filling it up")
    for number in range(2, 5):
        assert left.send_latest(b"a=%d" % number, b"a") is SendResult.OVER
    left.send_latest(b"b=1", b"b")
    assert taken(right) == [b"a=1", b"filling it up", b"a=4", b"b=1"]
    with pytest.raises(FrameError):
        left.send_latest(b"two\nlines", b"a")
    left.send_nowait(b"filling it up")
    left.send_latest(b"a=5", b"a")
    left.half_close()
    assert [right.receive_nowait(), right.receive_nowait()] == [b"filling it up", b"a=5"]
    with pytest.raises(ConnectionClosedError):
        left.send_latest(b"a=6", b"a")


def test_a_receiver_waits_and_a_cancelled_one_loses_nothing(run: Run) -> None:
    async def main() -> None:
        left, right = memory_pair(Lines(), cut=1)
        waiting = asyncio.create_task(right.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another receive"):
            await right.receive()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        left.send_nowait(b"one")
        assert await right.receive() == b"one"

    run(main)


def test_a_close_comes_after_what_was_sent(run: Run) -> None:
    async def main() -> None:
        left, right = memory_pair(Lines())
        left.send_nowait(b"one")
        left.send_nowait(b"two")
        left.close("enough")
        assert [message async for message in right] == [b"one", b"two"]
        assert left.reason is not None
        assert right.reason is not None
        assert (left.reason.code, left.reason.why) == ("closed", "enough")
        assert right.reason.code == "peer-closed"
        for side in (left, right):
            assert side.is_closing
            with pytest.raises(ConnectionClosedError):
                side.send_nowait(b"late")
            with pytest.raises(ConnectionClosedError):
                await side.receive()

    run(main)


def test_an_abort_loses_what_was_not_taken_and_is_a_reset(run: Run) -> None:
    async def main() -> None:
        left, right = memory_pair(Lines(), high=0, low=0)
        left.send_nowait(b"lost")
        waiting = asyncio.create_task(left.drain())
        await asyncio.sleep(0)
        left.abort()
        with pytest.raises(ConnectionClosedError, match="aborted by the server"):
            await waiting
        with pytest.raises(ConnectionClosedError, match="reset"):
            await anext(right)
        assert right.reason is not None
        assert right.reason.code == "peer-reset"
        assert isinstance(right.reason.error, ConnectionResetError)

    run(main)


def test_a_half_close_leaves_the_other_way_open(run: Run) -> None:
    async def main() -> None:
        left, right = memory_pair(Lines())
        left.send_nowait(b"question")
        left.half_close()
        left.half_close()
        assert [message async for message in right] == [b"question"]
        right.send_nowait(b"answer")
        right.close()
        assert [message async for message in left] == [b"answer"]
        with pytest.raises(ConnectionClosedError):
            left.send_nowait(b"more")

    run(main)


def test_bytes_that_are_no_message_end_it_with_the_right_code(run: Run) -> None:
    async def main() -> None:
        left, right = memory_pair(Raw(), cut=1)
        right.set_framing(LengthPrefix(4, max_size=10))
        left.send_nowait(b"\0\0\0\2ok\0\0\0\x0b")
        assert await right.receive() == b"ok"
        with pytest.raises(ConnectionClosedError, match="11 bytes"):
            await right.receive()
        assert right.reason is not None
        assert right.reason.code == "frame-too-large"
        assert [message async for message in left] == []

        left, right = memory_pair(Raw())
        right.set_framing(LengthPrefix(4))
        left.send_nowait(b"\0\0\0\2o")
        left.close()
        with pytest.raises(ConnectionClosedError, match="within a message"):
            await anext(right)
        assert right.reason is not None
        assert right.reason.code == "truncated-frame"

    run(main)


def test_the_framing_can_be_switched_in_mid_stream() -> None:
    left, right = memory_pair(Lines(), cut=3)
    left.send_nowait(b"upgrade")
    left.set_framing(LengthPrefix(2))
    left.send_nowait(b"a\nb")
    assert right.receive_nowait() == b"upgrade"
    right.set_framing(LengthPrefix(2))
    assert taken(right) == [b"a\nb"]


def test_a_paused_side_takes_nothing() -> None:
    left, right = memory_pair(Lines())
    right.pause()
    left.send_nowait(b"one")
    left.close()
    assert right.receive_nowait() is None
    right.resume()
    assert right.receive_nowait() == b"one"


def test_a_handler_is_served_as_by_a_server(run: Run) -> None:
    async def main() -> None:
        told: list[CloseReason] = []

        async def shout(conn: Connection, message: bytes) -> None:
            await conn.send(message.upper())

        left, right = memory_pair(Lines(), cut=2)
        serving = asyncio.create_task(handle(right, shout, on_close=lambda _conn, reason: told.append(reason)))
        left.send_nowait(b"one")
        left.send_nowait(b"two")
        assert [await left.receive(), await left.receive()] == [b"ONE", b"TWO"]
        left.close()
        reason = await serving
        assert reason.code == "peer-closed"
        assert told == [reason]

    run(main)


def test_what_a_handler_raises_is_the_reason(run: Run) -> None:
    async def main() -> None:
        def fail(_conn: Connection, _message: bytes) -> None:
            raise ZeroDivisionError("by nought")

        left, right = memory_pair(Lines())
        left.send_nowait(b"x")
        reason = await handle(right, fail)
        assert (reason.code, type(reason.error)) == ("handler-error", ZeroDivisionError)
        assert [message async for message in left] == []

        left, right = memory_pair(Lines())
        assert (await handle(right, fail, on_connect=lambda _conn: False)).code == "refused"

        left, right = memory_pair(Lines())
        serving = asyncio.create_task(handle(right, fail))
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert right.reason is not None
        assert right.reason.code == "handler-cancelled"

    run(main)


def test_a_request_finds_its_answer_and_keeps_the_rest(run: Run) -> None:
    async def main() -> None:
        numbers = Correlate(request_id=lambda m: m[0], answer_id=lambda m: m[0] if m[1:2] == b"=" else None)
        left, right = memory_pair(Lines(), cut=1, requests=numbers)
        asking = asyncio.gather(left.request(b"1?"), left.request(b"2?"))
        assert [await right.receive(), await right.receive()] == [b"1?", b"2?"]
        for message in (b"2=b", b"news", b"1=a"):
            right.send_nowait(message)
        assert await asking == [b"1=a", b"2=b"]
        assert await left.receive() == b"news"
        with pytest.raises(RequestTimeoutError):
            await left.request(b"3?", deadline=0.01)
        asking_in_vain = asyncio.create_task(left.request(b"4?"))
        await asyncio.sleep(0)
        right.send_nowait(b"last words")
        right.close()
        assert [message async for message in left] == [b"last words"]
        with pytest.raises(ConnectionClosedError):
            await asking_in_vain
        with pytest.raises(ConnectionClosedError):
            await left.request(b"5?")

    run(main)


def test_a_handler_asks_its_own_peer(run: Run) -> None:
    async def main() -> None:
        async def ask_back(conn: Connection, message: bytes) -> None:
            await conn.send(message + b" from " + await conn.request(b"who?"))

        left, right = memory_pair(Lines())
        serving = asyncio.create_task(handle(right, ask_back))
        left.send_nowait(b"hello")
        assert await left.receive() == b"who?"
        left.send_nowait(b"ann")
        assert await left.receive() == b"hello from ann"
        left.close()
        assert (await serving).code == "peer-closed"

    run(main)


def test_groups_are_remembered() -> None:
    left, _ = memory_pair()
    assert (left.join("a"), left.join("a"), left.join("b")) == (True, False, True)
    assert (left.leave("a"), left.leave("a"), left.groups) == (True, False, ["b"])


def test_what_can_not_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="framing is 'lines'"):
        memory_pair("lines")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 1 byte"):
        memory_pair(cut=0)
    with pytest.raises(ConfigError, match="0 <= low <= high"):
        memory_pair(low=2, high=1)
    left, _ = memory_pair(Lines(), cut=lambda _data: [b"else"])
    with pytest.raises(ConfigError, match="it may only cut"):
        left.send_nowait(b"x")
    with pytest.raises(FrameError):
        left.send_nowait(b"two\nlines")
    with pytest.raises(WirewayError, match="served"):
        left.tcp_info()


def test_it_weighs_what_waits() -> None:
    left, right = memory_pair()
    assert left.memory().kernel == right.memory().kernel == 0
    left.send_nowait(b"x" * 1000)
    assert left.memory().core_queued + right.memory().core_received >= 1000
    left.state = bytes(5000)
    assert left.memory().python > right.memory().python + 4000
