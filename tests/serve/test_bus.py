"""The bus between workers, without processes: hub and workers' sides in one loop, over socket pairs and real pages."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from conftest import Run
from wireway import ServerStats, WirewayError
from wireway.net.reach import Reach
from wireway.serve.bus import Bus
from wireway.serve.hub import Hub, Member
from wireway.serve.link import PUBLISH, Link, pack, unpack
from wireway.serve.page import new_page, read_page, write_page


class Fake:
    """A server in name: it keeps what is delivered to it, and counts what it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str | None, bytes, bytes | None, str | None]] = []
        self.stats = ServerStats()
        self.reach: Reach | None = None

    def deliver(self, to: str, name: str | None, message: bytes, *, key: bytes | None, when_slow: str | None) -> int:
        self.got.append((to, name, message, key, when_slow))
        return 1

    def counted(self) -> ServerStats:
        return self.stats

    def join(self, reach: Reach | None) -> None:
        self.reach = reach

    def messages(self) -> list[bytes]:
        return [each[2] for each in self.got]


class Worker:
    """A worker without a process. `stuck` ones have a socket that nobody reads."""

    def __init__(self, hub: Hub, number: int, *, stuck: bool = False, interval: float = 1000.0) -> None:
        ours, self.theirs = socket.socketpair()
        self.page = new_page()
        self.server = Fake()
        self.member: Member = hub.attach(ours, os.dup(self.page), number=number, pid=1000 + number, generation=1)
        self.member.state = "serving"
        self.member.listens = stuck
        self.bus = None if stuck else Bus(self.server, self.theirs, self.page, interval=interval, patience=5.0)

    async def close(self) -> None:
        if self.bus is None:
            self.theirs.close()
            os.close(self.page)
        else:
            await self.bus.close()


@asynccontextmanager
async def joined(hub: Hub, *workers: Worker) -> AsyncIterator[None]:
    await until(lambda: all(worker.member.listens for worker in workers))
    try:
        yield
    finally:
        for worker in workers:
            await worker.close()
        hub.close()


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so; the test's own limit ends it."""
    while not condition():  # noqa: ASYNC110 - the loop's own turns are what is waited for
        await asyncio.sleep(0)


def counts(accepted: int, opened: int, **closed: int) -> ServerStats:
    return ServerStats(accepted=accepted, open=opened, closed=closed, messages_in=accepted)


def test_a_message_reaches_the_others_once_in_order_and_never_comes_back(run: Run) -> None:
    async def main() -> None:
        hub = Hub()
        one, two, three = (Worker(hub, number) for number in (1, 2, 3))
        async with joined(hub, one, two, three):
            assert one.bus is not None
            sent = [b"%d" % number for number in range(2000)]
            for message in sent:
                one.bus.publish("group", "red", message, None, None)
            one.bus.publish("user", "ann", b"\x00\xff", b"k\xff", "latest")
            await until(lambda: len(two.server.got) == len(three.server.got) == 2001)
            for other in (two, three):
                assert other.server.messages()[:-1] == sent
                assert other.server.got[0] == ("group", "red", b"0", None, None)
                assert other.server.got[-1] == ("user", "ann", b"\x00\xff", b"k\xff", "latest")
            await one.bus.workers()  # an answer comes after all that came before it
            assert one.server.got == []

    run(main)


def test_a_worker_that_does_not_read_costs_a_bound_and_no_other_worker(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        limit = 256 << 10
        hub = Hub(limit=limit)
        one, two, stuck = Worker(hub, 1), Worker(hub, 2), Worker(hub, 3, stuck=True)
        async with joined(hub, one, two, stuck):
            assert one.bus is not None
            message = bytes(10_000)
            for number in range(1, 301):
                one.bus.publish("all", None, message, None, None)
                await until(lambda number=number: len(two.server.got) == number)  # type: ignore[misc]
                assert stuck.member.link.queued <= limit
            missed = stuck.member.missed
            assert missed > 200
            told = [each for each in caplog.records if "does not read" in each.getMessage()]
            assert len(told) == 1
            assert two.member.missed == 0
            # It goes on: what waited comes whole, what was dropped never does, and then it misses nothing.
            got: list[bytes] = []
            link = Link(stuck.theirs, lambda _kind, frame: got.append(frame), lambda: None)
            await until(lambda: len(got) == 300 - missed)
            one.bus.publish("all", None, b"again", None, None)
            await until(lambda: len(got) == 301 - missed)
            head, payload = unpack(got[-1])
            assert (head["to"], payload) == ("all", b"again")
            assert stuck.member.missed == missed
            assert any(f"it missed {missed} messages" in each.getMessage() for each in caplog.records)
            link.close()

    with caplog.at_level(logging.WARNING):
        run(main)


def test_a_supervisor_that_does_not_read_costs_a_worker_a_bound(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        bus = Bus(Fake(), ours, new_page(), limit=1 << 20, patience=0.05)
        for _ in range(1000):
            bus.publish("all", None, bytes(10_000), None, None)
        assert 700 < bus.unpublished < 1000
        with pytest.raises(WirewayError, match="supervisor"):
            await bus.total()
        theirs.close()
        await bus.close()

    with caplog.at_level(logging.WARNING):
        run(main)
    assert len([each for each in caplog.records if "does not take messages" in each.getMessage()]) == 1


def test_without_a_supervisor_questions_end_and_messages_stay_here(run: Run) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        bus = Bus(Fake(), ours, new_page())
        asking = asyncio.ensure_future(bus.total())
        await asyncio.sleep(0)
        theirs.close()
        with pytest.raises(WirewayError, match="is gone"):
            await asking
        bus.publish("all", None, b"x", None, None)
        with pytest.raises(WirewayError, match="is gone"):
            await bus.workers()
        await bus.close()

    run(main)


def test_what_is_asked_is_of_now(run: Run) -> None:
    async def main() -> None:
        hub = Hub()
        one, two = Worker(hub, 1), Worker(hub, 2)
        async with joined(hub, one, two):
            assert one.bus is not None
            one.server.stats, two.server.stats = counts(5, 2, eof=3), counts(7, 7)
            total = await one.bus.total()
            assert total == ServerStats(accepted=12, open=9, closed={"eof": 3}, messages_in=12)
            two.server.stats = counts(8, 7, eof=1)
            infos = await one.bus.workers()
            assert [(each.number, each.pid, each.state, each.stats) for each in infos] == [
                (1, 1001, "serving", one.server.stats),
                (2, 1002, "serving", two.server.stats),
            ]

    run(main)


def test_a_stopped_worker_is_silent_with_its_last_counts_and_no_longer_so_when_it_answers(run: Run) -> None:
    async def main() -> None:
        hub = Hub(patience=0.1)
        one, stuck = Worker(hub, 1), Worker(hub, 2, stuck=True)
        async with joined(hub, one, stuck):
            assert one.bus is not None
            write_page(stuck.page, 1, counts(4, 4))
            assert [each.state for each in await one.bus.workers()] == ["serving", "silent"]
            assert (await one.bus.total()).open == 4
            stuck.bus = Bus(stuck.server, stuck.theirs, stuck.page)
            await until(lambda: stuck.member.silent_since is None)
            assert [each.state for each in await one.bus.workers()] == ["serving", "serving"]

    run(main)


def test_accounts_of_the_dead_balance_and_what_they_said_last_is_relayed(run: Run) -> None:
    async def main() -> None:
        hub = Hub()
        one, two, gone = Worker(hub, 1), Worker(hub, 2), Worker(hub, 3)
        async with joined(hub, one, two, gone):
            assert one.bus is not None
            assert gone.bus is not None
            gone.server.stats = counts(10, 4, eof=6)
            gone.bus.note()
            gone.bus.publish("all", None, b"last words", None, None)
            hub.detach(gone.member)
            hub.detach(gone.member)
            one.server.stats = counts(1, 1)
            total = await one.bus.total()
            assert (total.accepted, total.open, total.closed) == (11, 1, {"eof": 6, "worker-lost": 4})
            assert [each.number for each in await one.bus.workers()] == [1, 2]
            assert one.server.messages() == two.server.messages() == [b"last words"]

    run(main)


def test_an_orderly_end_sends_what_was_published_and_the_last_counts(run: Run) -> None:
    async def main() -> None:
        hub = Hub()
        one, two = Worker(hub, 1), Worker(hub, 2)
        async with joined(hub, one):
            assert two.bus is not None
            await until(lambda: two.member.listens)
            two.server.stats = counts(3, 0, eof=3)
            for _ in range(100):
                two.bus.publish("all", None, bytes(10_000), None, None)
            await two.bus.close()
            assert two.server.reach is None
            hub.detach(two.member)
            assert hub.total() == ServerStats(accepted=3, closed={"eof": 3}, messages_in=3)
            await until(lambda: len(one.server.got) == 100)

    run(main)


def test_the_page_is_written_by_itself(run: Run) -> None:
    async def main() -> None:
        hub = Hub()
        one = Worker(hub, 1, interval=0.01)
        async with joined(hub, one):
            for number in (1, 2, 3):
                one.server.stats = counts(number, number)
                await until(lambda number=number: hub.total().open == number)  # type: ignore[misc]

    run(main)


def test_half_a_page_is_never_read() -> None:
    fd = new_page()
    try:
        assert read_page(fd) == ServerStats()
        write_page(fd, 1, counts(1, 1))
        write_page(fd, 2, counts(2, 2))
        assert read_page(fd) == counts(2, 2)
        # Killed in the middle of the third: it goes where the first was.
        os.pwrite(fd, (3).to_bytes(8, "big"), 32 << 10)
        assert read_page(fd) == counts(2, 2)
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(fd, 10)
        with pytest.raises(ValueError, match="page has"):
            write_page(fd, 4, ServerStats(closed={str(code): code for code in range(10_000)}))
        assert read_page(fd) == counts(2, 2)
    finally:
        os.close(fd)


@pytest.mark.parametrize("garbage", [b"\xff" * 64, b"\x00" * 64, b"\x00\x00\x00\x05\x63\x00\x00\x00\x00"])
def test_what_is_no_frame_ends_the_link(run: Run, garbage: bytes) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        ended = asyncio.Event()
        link = Link(ours, lambda _kind, _frame: pytest.fail("a frame"), ended.set)
        theirs.sendall(garbage)
        await ended.wait()
        assert link.closed
        assert not link.send(pack(PUBLISH, {"to": "all"}))
        theirs.close()

    run(main)
