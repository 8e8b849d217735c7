"""What waits while a client has no connection: its order, its bounds, its policies."""

from __future__ import annotations

import asyncio
import logging

import pytest

from client.support import line
from conftest import Run
from wireway.errors import ConnectionClosedError, QueueFullError, RequestTimeoutError
from wireway.net.outgoing import OutgoingQueue


def test_what_waited_leaves_in_order_before_what_is_newer(run: Run) -> None:
    async def main() -> None:
        async with line() as its:
            await its.breaks()
            for number in range(5):
                await its.client.send(b"%d" % number)
            assert its.client.queued == 5
            asking = asyncio.create_task(its.client.request(b"5?"))
            await asyncio.sleep(0)
            its.client.send_nowait(b"6")
            await its.clock.passes()
            server = await its.there.accept()
            await its.states.until("open")
            its.client.send_nowait(b"7")
            assert [await server.gets() for _ in range(8)] == [*(b"%d" % n for n in range(5)), b"5?", b"6", b"7"]
            await server.says(b"5!")
            assert await asking == b"5!"
            assert its.client.queued == 0

    run(main)


def test_what_waited_gives_way_to_what_is_slow(run: Run) -> None:
    async def main() -> None:
        async with line(queue=OutgoingQueue(messages=40, bytes=100_000_000)) as its:
            await its.breaks()
            for number in range(40):
                await its.client.send(number.to_bytes(1, "big") * 1_000_000)
            await its.mends()
            await its.states.until("open")
            for _ in range(50):
                await asyncio.sleep(0)
            assert its.client.queued > 20, "the connection's own queue is bounded"
            for number in range(40):
                assert (await its.server.gets())[:1] == number.to_bytes(1, "big")

    run(main)


def test_a_connection_lost_meanwhile_loses_nothing_that_waits(run: Run) -> None:
    async def main() -> None:
        async with line(queue=OutgoingQueue(messages=40, bytes=100_000_000)) as its:
            await its.breaks()
            for number in range(40):
                await its.client.send(number.to_bytes(1, "big") * 1_000_000)
            await its.mends()
            await its.states.until("open")
            assert (await its.server.gets())[0] == 0
            await its.breaks()
            left = its.client.queued
            assert 20 < left < 40
            await its.mends()
            for number in range(40 - left, 40):
                assert (await its.server.gets())[0] == number

    run(main)


def test_a_request_whose_deadline_passed_does_not_leave(run: Run) -> None:
    async def main() -> None:
        async with line() as its:
            await its.breaks()
            with pytest.raises(RequestTimeoutError):
                await its.client.request(b"too late", deadline=0.01)
            await its.client.send(b"next")
            await its.mends()
            assert await its.server.gets() == b"next"

    run(main)


def test_a_message_that_the_framing_refuses_holds_up_nobody(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with line(queue=OutgoingQueue(bytes=1 << 30)) as its:
            await its.breaks()
            await its.client.send(b"x" * (17 << 20))
            await its.client.send(b"small")
            await its.mends()
            assert await its.server.gets() == b"small"
            assert its.client.dropped == 1

    with caplog.at_level(logging.CRITICAL):
        run(main)


def test_without_a_queue_sending_is_refused(run: Run) -> None:
    async def main() -> None:
        async with line(queue=None) as its:
            await its.breaks()
            with pytest.raises(ConnectionClosedError, match="is waiting: peer-reset"):
                await its.client.send(b"x")

    run(main)


def test_a_full_queue_refuses(run: Run) -> None:
    async def main() -> None:
        async with line(queue=OutgoingQueue(messages=2, bytes=10)) as its:
            await its.breaks()
            await its.client.send(b"x")
            with pytest.raises(QueueFullError, match="a message of 11 bytes never fits the outgoing queue of 10"):
                await its.client.send(b"x" * 11)
            with pytest.raises(QueueFullError, match="1 messages of 1 bytes wait already"):
                await its.client.send(b"x" * 10)
            await its.client.send(b"y")
            with pytest.raises(QueueFullError, match="not connected, and 2 messages of 2 bytes wait already"):
                its.client.send_nowait(b"z")

    run(main)


def test_a_full_queue_drops_the_oldest(run: Run) -> None:
    async def main() -> None:
        async with line(queue=OutgoingQueue(messages=2, when_full="drop-oldest")) as its:
            await its.breaks()
            asking = asyncio.create_task(its.client.request(b"0"))
            await asyncio.sleep(0)
            for number in range(1, 4):
                await its.client.send(b"%d" % number)
            with pytest.raises(ConnectionClosedError, match="dropped from the outgoing queue"):
                await asking
            assert its.client.dropped == 2
            await its.mends()
            assert [await its.server.gets(), await its.server.gets()] == [b"2", b"3"]

    run(main)


def test_a_full_queue_lets_senders_wait_in_turn(run: Run) -> None:
    async def main() -> None:
        async with line(queue=OutgoingQueue(messages=2, when_full="wait")) as its:
            await its.breaks()
            sending = [asyncio.create_task(its.client.send(b"%d" % number)) for number in range(7)]
            await asyncio.sleep(0)
            assert [task.done() for task in sending] == [True] * 2 + [False] * 5
            with pytest.raises(QueueFullError):
                its.client.send_nowait(b"x")
            sending[3].cancel()
            await its.mends()
            assert [await its.server.gets() for _ in range(6)] == [b"0", b"1", b"2", b"4", b"5", b"6"]
            await asyncio.gather(*sending[:3], *sending[4:])

    run(main)


def test_senders_that_wait_for_room_end_with_the_client(run: Run) -> None:
    async def main() -> None:
        async with line(queue=OutgoingQueue(messages=1, when_full="wait")) as its:
            await its.breaks()
            sending = [asyncio.create_task(its.client.send(b"x")) for _ in range(3)]
            await asyncio.sleep(0)
            its.client.abort()
            for task in sending[1:]:
                with pytest.raises(ConnectionClosedError, match="is closed: aborted"):
                    await task

    run(main)
