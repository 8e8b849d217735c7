"""What leaves again after a reconnect: what was not acknowledged, in its order, within bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client.support import line
from conftest import Run
from wireway.errors import ConfigError, ConnectionClosedError
from wireway.net.client import Client
from wireway.net.outgoing import OutgoingQueue
from wireway.net.requests import Correlate
from wireway.net.resending import Resend, Unacknowledged


def first_byte(**options: Any) -> Resend:
    """The first byte is the id, and ``+`` before an id acknowledges it. A ``-`` is never sent again."""
    return Resend(
        message_id=lambda message: None if message[:1] == b"-" else message[:1],
        acknowledges=lambda message: message[1:2] if message[:1] == b"+" else None,
        **options,
    )


def test_what_was_not_acknowledged_leaves_again_the_same(run: Run) -> None:
    async def main() -> None:
        async with line(resend=first_byte(swallow=True)) as its:
            for message in (b"a1", b"b1", b"-gone", b"c1"):
                await its.client.send(message)
            assert [await its.server.gets() for _ in range(4)] == [b"a1", b"b1", b"-gone", b"c1"]
            await its.server.says(b"+b", b"event")
            assert await its.client.receive() == b"event", "the acknowledgement went no further"
            await its.breaks()
            await its.client.send(b"d1")
            await its.mends()
            assert [await its.server.gets() for _ in range(3)] == [b"a1", b"c1", b"d1"]
            await its.server.says(b"+a", b"+c", b"event")
            await its.client.receive()
            await its.breaks()
            await its.mends()
            assert await its.server.gets() == b"d1"

    run(main)


@pytest.mark.parametrize("by_id", [False, True])
def test_requests_that_leave_again_get_their_answers(run: Run, by_id: bool) -> None:
    async def main() -> None:
        correlate = Correlate(request_id=lambda m: m[:1], answer_id=lambda m: m[:1]) if by_id else None
        async with line(resend=first_byte(), requests=correlate) as its:
            kept = [asyncio.create_task(its.client.request(message)) for message in (b"1?", b"2?", b"3?")]
            lost = asyncio.create_task(its.client.request(b"-4?"))
            assert [await its.server.gets() for _ in range(4)] == [b"1?", b"2?", b"3?", b"-4?"]
            await its.server.says(b"1!")
            assert await kept[0] == b"1!"
            await its.breaks()
            with pytest.raises(ConnectionClosedError, match="ended before the answer: peer-reset"):
                await lost
            await its.mends()
            assert [await its.server.gets(), await its.server.gets()] == [b"2?", b"3?"], "1 was answered"
            await its.server.says(b"2!", b"3!")
            assert await asyncio.gather(*kept[1:]) == [b"2!", b"3!"]

    run(main)


def test_requests_that_were_to_leave_again_end_with_the_client(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with line(resend=first_byte(seconds=10)) as its:
            asking = asyncio.create_task(its.client.request(b"1?"))
            assert await its.server.gets() == b"1?"
            await its.breaks()
            assert its.client.state == "waiting"
            long_after = its.client._hold.now() + 3600
            monkeypatch.setattr(its.client._hold, "now", lambda: long_after)
            its.client.abort()
            with pytest.raises(ConnectionClosedError, match="ended before the answer: aborted"):
                await asking

    run(main)


def test_requests_that_newer_messages_displace_end(run: Run) -> None:
    async def main() -> None:
        async def greet(client: Client) -> None:
            await client.send(b"hello")

        async with line(resend=first_byte(messages=1), on_reconnect=greet) as its:
            asking = asyncio.create_task(its.client.request(b"1?"))
            assert await its.server.gets() == b"1?"
            await its.breaks()
            await its.mends()
            assert await its.server.gets() == b"hello"
            with pytest.raises(ConnectionClosedError, match="ended before the answer: peer-reset"):
                await asking

    run(main)


def test_what_leaves_again_is_bounded_in_time_number_and_bytes() -> None:
    kept = Unacknowledged(first_byte(seconds=10))
    for number, message in enumerate((b"a", b"b", b"c")):
        kept.sent(message, None, 100.0 + 4 * number)
    kept.lost(112.0)
    assert [message for message, _ in kept.resumed(500.0)] == [b"b", b"c"], "counted from the loss, not from the return"
    kept.sent(b"d", None, 505.0)
    assert len(kept) == 3
    kept = Unacknowledged(first_byte(messages=2))
    for message in (b"a", b"b", b"c", b"c again"):
        kept.sent(message, None, 0.0)
    assert [message for message, _ in kept.resumed(0.0)] == [b"b", b"c again"]
    kept = Unacknowledged(first_byte(bytes=5))
    for message in (b"a12", b"b12", b"c1"):
        kept.sent(message, None, 0.0)
    assert [message for message, _ in kept.resumed(0.0)] == [b"b12", b"c1"]
    kept.sent(b"d" * 6, None, 0.0)
    assert len(kept) == 0
    assert kept._bytes == 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: first_byte(seconds=0), "Resend: seconds is 0"),
        (lambda: first_byte(messages=0), "Resend: messages is 0"),
        (lambda: first_byte(swallow="no"), "Resend: swallow is 'no'"),
        (lambda: Resend(message_id=bytes, acknowledges=None), "Resend: acknowledges is None"),  # type: ignore[arg-type]
        (lambda: OutgoingQueue(messages=0), "OutgoingQueue: messages is 0"),
        (lambda: OutgoingQueue(when_full="block"), "OutgoingQueue: when_full is 'block'"),  # type: ignore[arg-type]
        (lambda: Client("tcp://h:1", resend=first_byte()), "resend means nothing without reconnect"),
    ],
)
def test_wrong_options_are_refused(make: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()
