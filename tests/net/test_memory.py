"""What a connection and a server weigh, by owner: each byte is seen where it lies, on every back end."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import fields

import pytest

from conftest import Run
from support.peers import connected, frame
from support.timed import DAY, SMALL, fill, narrow, timed
from wireway import Buffers, Connection, ConnectionMemory, LengthPrefix, MemoryReport, Server

OWNERS = [each.name for each in fields(ConnectionMemory)]
IDLE = 640
"""The budget of an idle connection, in bytes: all that the native half and Python keep for it."""
MANY = 300


def ignore(_conn: Connection, _message: bytes) -> None:
    """Do nothing with a message."""


def test_an_idle_connection_keeps_to_the_budget(run: Run) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4))
        server.on_message(ignore)
        async with server:
            host, _, port = server.addresses[0].removeprefix("tcp://").rpartition(":")
            peers = [socket.create_connection((host, int(port))) for _ in range(MANY)]
            try:
                for peer in peers:
                    peer.sendall(frame(b"x" * 1000))  # it has been used, and is at rest again
                while server.stats.messages_in < MANY:  # noqa: ASYNC110 - there is nothing to wait for
                    await asyncio.sleep(0)
                report = server.memory()
                assert report.connections == MANY
                each = report.per_connection
                assert each.core_queued == each.core_received == 0, "a connection at rest owns no buffer"
                assert 0 < each.core + each.python <= IDLE, str(report)
                assert all(heavy.memory.core + heavy.memory.python <= IDLE for heavy in report.largest)
            finally:
                for peer in peers:
                    peer.close()

    run(main)


def test_what_waits_to_be_sent_is_the_cores_and_the_kernels(run: Run) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(low=8 * 1024, high=32 * 1024))
        async with timed(**options) as it, connected(it.server, buffer=SMALL):
            (conn,) = await it.opened()
            before = conn.memory()
            assert before.core_queued == 0
            await fill(conn)
            now = conn.memory()
            assert now.core_queued >= conn.queued > 0
            assert now.kernel_send > before.kernel_send
            assert now.core_received == before.core_received

    run(main, limit=DAY)


def test_half_a_frame_has_the_room_of_the_whole(run: Run) -> None:
    async def main() -> None:
        async with timed(ignore) as it, connected(it.server) as peer:
            (conn,) = await it.opened()
            await peer.send((200_000).to_bytes(4, "big") + bytes(100_000))
            await it.until(lambda: conn.memory().core_received >= 200_000)
            await peer.send(bytes(100_000))
            await it.until(lambda: it.server.stats.messages_in == 1)
            assert conn.memory().core_received == 0

    run(main, limit=DAY)


def test_what_nobody_reads_stays_with_the_kernel(run: Run) -> None:
    async def main() -> None:
        async with timed(ignore) as it, connected(it.server) as peer:
            (conn,) = await it.opened()
            conn.pause()
            await asyncio.sleep(0)
            before = conn.memory()
            await peer.send(frame(bytes(20_000)))
            await it.until(lambda: conn.memory().kernel_receive + conn.memory().core_received >= 20_000)
            assert conn.memory().core_queued == before.core_queued
            conn.resume()
            await it.until(lambda: it.server.stats.messages_in == 1)
            assert conn.memory().kernel_receive == 0

    run(main, limit=DAY)


def test_state_and_handlers_are_pythons(run: Run) -> None:
    async def main() -> None:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def handler(_conn: Connection, _message: bytes) -> None:
            started.set()
            await go_on.wait()

        async with timed(handler) as it, connected(it.server) as peer:
            (conn,) = await it.opened()
            bare = conn.memory().python
            conn.state = bytes(50_000)
            with_state = conn.memory().python
            assert with_state >= bare + 50_000
            await peer.send(frame(b"x"))
            await started.wait()
            assert conn.memory().python > with_state, "a suspended handler has a Task"
            go_on.set()
            conn.state = None
            await it.until(lambda: conn.memory().python == bare)

    run(main, limit=DAY)


def test_a_report_is_the_sum_of_its_connections(run: Run) -> None:
    async def main() -> None:
        options = narrow(buffers=Buffers(low=8 * 1024, high=32 * 1024))
        async with timed(**options) as it, connected(it.server, buffer=SMALL), connected(it.server, buffer=SMALL):
            first, second = await it.opened(2)
            first.join("room")
            await fill(second)
            report = it.server.memory(largest=1)
            weighed = [first.memory(), second.memory()]
            for name in OWNERS:
                assert getattr(report.sums, name) == sum(getattr(each, name) for each in weighed), name
            assert report.total == report.kernel + report.core + report.python + report.shared
            assert report.shared_groups > 0
            assert report.shared_driver > 0
            assert [heavy.id for heavy in report.largest] == [second.id]
            assert report.process_rss > 0
            text = str(report)
            assert f"connection {second.id} from" in text
            assert all(name in text for name in OWNERS)

    run(main, limit=DAY)


def test_after_the_end_nothing_weighs(run: Run) -> None:
    async def main() -> None:
        async with timed(ignore) as it, connected(it.server) as peer:
            (conn,) = await it.opened()
            await peer.send((1000).to_bytes(4, "big") + b"half")
            await it.until(lambda: conn.memory().core_received >= 1000)
            peer.reset()
            await it.until(lambda: it.server.stats.open == 0)
            gone = conn.memory()
            assert (gone.kernel, gone.core_queued, gone.core_received) == (0, 0, 0)
            assert it.server.memory().connections == 0
        assert it.server.memory().total == 0

    run(main, limit=DAY)


def test_only_in_the_loops_thread(run: Run) -> None:
    async def main() -> None:
        async with timed(ignore) as it, connected(it.server):
            (conn,) = await it.opened()
            with pytest.raises(RuntimeError, match="thread"):
                await asyncio.to_thread(conn.memory)

    run(main, limit=DAY)


def test_a_server_that_does_not_run_has_no_connections() -> None:
    report = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4)).memory()
    assert isinstance(report, MemoryReport)
    assert (report.connections, report.total) == (0, 0)
