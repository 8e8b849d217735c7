"""Which answer belongs to which request: by id, in any order; what is abandoned; what is bounded. Without a socket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conftest import Run
from wireway.errors import ConfigError, ConnectionClosedError, QueueFullError, RequestTimeoutError, WirewayError
from wireway.net import requests
from wireway.net.requests import Correlate, Requests


class Sender:
    """A connection that only notes what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.room = asyncio.Event()
        self.room.set()

    def send(self, message: bytes) -> Any:
        self.sent.append(message)
        return self.room.wait()


def by_id() -> Correlate:
    """The first byte is the id; an answer has ``=`` behind it."""
    return Correlate(request_id=lambda m: m[:1], answer_id=lambda m: m[:1] if m[1:2] == b"=" else None)


async def ask(requests: Requests, *messages: bytes, **options: Any) -> list[asyncio.Task[bytes]]:
    asking = [asyncio.create_task(requests.request(message, **options)) for message in messages]
    await asyncio.sleep(0)
    return asking


def test_by_id_in_any_order(run: Run) -> None:
    async def main() -> None:
        requests = Requests(Sender(), by_id())
        one, two, three = await ask(requests, b"1?", b"2?", b"3?")
        assert requests.pending == 3
        assert [bool(requests.received(m)) for m in (b"3=c", b"1=a", b"event", b"9=?", b"2=b")] == [1, 1, 0, 0, 1]
        assert [await one, await two, await three] == [b"1=a", b"2=b", b"3=c"]
        assert not requests.received(b"1=a"), "answered already"

    run(main)


def test_by_id_a_late_answer_is_swallowed_once(run: Run) -> None:
    async def main() -> None:
        requests = Requests(Sender(), by_id())
        with pytest.raises(RequestTimeoutError):
            await requests.request(b"1?", deadline=0.001)
        assert requests.pending == 0
        assert requests.received(b"1=late")
        assert not requests.received(b"1=late")

    run(main)


def test_an_id_may_be_used_again_after_its_deadline(run: Run) -> None:
    async def main() -> None:
        requests = Requests(Sender(), by_id())
        with pytest.raises(RequestTimeoutError):
            await requests.request(b"1?", deadline=0.001)
        (again,) = await ask(requests, b"1?")
        assert requests.received(b"1=a")
        assert await again == b"1=a"

    run(main)


def test_two_with_one_id_are_refused(run: Run) -> None:
    async def main() -> None:
        sender = Sender()
        requests = Requests(sender, by_id())
        (one,) = await ask(requests, b"1?")
        with pytest.raises(WirewayError, match="the id b'1' is under way already"):
            await requests.request(b"1!")
        assert sender.sent == [b"1?"]
        requests.received(b"1=a")
        assert await one == b"1=a"

    run(main)


@pytest.mark.parametrize("correlate", [None, by_id()], ids=["order", "id"])
def test_a_cancelled_request_leaves_its_place(run: Run, correlate: Correlate | None) -> None:
    async def main() -> None:
        requests = Requests(Sender(), correlate)
        one, two = await ask(requests, b"1?", b"2?")
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        assert requests.pending == 1
        assert requests.received(b"1=a")
        assert requests.received(b"2=b")
        assert await two == b"2=b"

    run(main)


def test_the_deadline_covers_the_wait_to_send(run: Run) -> None:
    async def main() -> None:
        sender = Sender()
        sender.room.clear()
        requests = Requests(sender)
        with pytest.raises(RequestTimeoutError):
            await requests.request(b"x", deadline=0.001)
        assert sender.sent == [b"x"]
        assert requests.received(b"late"), "it was sent: its answer keeps its place"

    run(main)


def test_a_send_that_fails_leaves_nothing(run: Run) -> None:
    class Closed:
        def send(self, message: bytes) -> Any:
            raise ConnectionClosedError("gone")

    async def main() -> None:
        for correlate in (None, by_id()):
            requests = Requests(Closed(), correlate)
            with pytest.raises(ConnectionClosedError, match="gone"):
                await requests.request(b"1?")
            assert not requests.received(b"1=a")

    run(main)


@pytest.mark.parametrize("correlate", [None, by_id()], ids=["order", "id"])
def test_the_end_fails_all_but_what_is_kept(run: Run, correlate: Correlate | None) -> None:
    async def main() -> None:
        requests = Requests(None, correlate)
        waiting = [requests.begin(message) for message in (b"1?", b"2?")]
        for each in waiting:
            requests.sent(each)
        requests.closed(lambda: ConnectionClosedError("gone"), waiting[1:])
        assert not requests.received(b"2=early"), "an answer of the connection before"
        assert isinstance(waiting[0].future.exception(), ConnectionClosedError)
        requests.sent(waiting[1])
        assert requests.received(b"2=b") is waiting[1]
        assert waiting[1].future.result() == b"2=b"

    run(main)


def test_requests_are_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MOST", 3)

    async def main() -> None:
        for correlate in (None, by_id()):
            asked = Requests(Sender(), correlate)
            under_way = await ask(asked, b"1?", b"2?", b"3?")
            with pytest.raises(QueueFullError, match="3 requests are under way"):
                await asked.request(b"4?")
            asked.closed(lambda: ConnectionClosedError("gone"))
            await asyncio.gather(*under_way, return_exceptions=True)
        asked = Requests(Sender(), by_id())
        for number in range(9):
            with pytest.raises(RequestTimeoutError):
                await asked.request(b"%d?" % number, deadline=0.0001)
        assert len(asked._late) == 3
        assert not asked.received(b"1=late")
        assert asked.received(b"8=late")

    run(main)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="Correlate: answer_id is None"):
        Correlate(request_id=bytes, answer_id=None)  # type: ignore[arg-type]
