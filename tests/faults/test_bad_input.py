"""Peers that mean no good, from raw sockets: the reason is right, memory is bounded, and others do not notice."""

from __future__ import annotations

import asyncio
import random
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from conftest import Run
from support.peers import Ends, Peer, connected, frame
from wireway import Connection, LengthPrefix, Limits, Server, Timeouts
from wireway.testing.clock import FakeClock

CROWD = Path(__file__).with_name("crowd_child.py")


def echo(limits: Limits | None = None, timeouts: Timeouts | None = None) -> tuple[Server, Ends]:
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4, max_size=4096), limits=limits, timeouts=timeouts)

    @server.on_message
    def answer(conn: Connection, message: bytes) -> None:
        conn.send_nowait(message)

    return server, Ends(server)


async def answered(peer: Peer) -> None:
    await peer.send(frame(b"hello"))
    assert await peer.receive(9) == frame(b"hello")


def memory() -> int:
    """Bytes of this process that nobody shares."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Private_Dirty")


@pytest.mark.parametrize("announced", [b"\xff\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\x10\x01"])
def test_a_length_of_up_to_4_gib_costs_nothing(run: Run, announced: bytes) -> None:
    async def main() -> None:
        server, ends = echo()
        async with server, connected(server) as good:
            before = memory()
            for _ in range(20):
                async with connected(server) as peer:
                    await peer.send(announced)
                    await peer.gone()
                assert (await ends.next()).code == "frame-too-large"
            assert memory() - before < 1 << 20
            await answered(good)

    run(main)


def test_empty_messages_without_end_are_messages(run: Run) -> None:
    async def main() -> None:
        server, _ = echo()
        async with server, connected(server) as flood, connected(server) as good:
            await flood.send(b"\0\0\0\0" * 20_000)
            await answered(good)
            assert await flood.receive(80_000) == bytes(80_000)
        assert server.stats.messages_in == 20_001

    run(main)


def test_garbage_ends_its_connection_or_waits(run: Run) -> None:
    """Whatever comes, it is cut into messages, refused, or still waits for more: nothing else happens."""

    async def main() -> None:
        chance = random.Random(1)
        server, ends = echo()
        async with server, connected(server) as good:
            for _ in range(50):
                async with connected(server) as peer:
                    try:
                        await peer.send(chance.randbytes(chance.randrange(1, 3000)))
                        peer.finish()
                        await peer.gone()
                    except (ConnectionResetError, BrokenPipeError, OSError):
                        pass
                assert (await ends.next()).code in ("frame-too-large", "truncated-frame", "peer-closed", "peer-reset")
            await answered(good)
        stats = server.stats
        assert stats.accepted == 51 == sum(stats.closed.values())

    run(main)


def test_slowloris_is_given_up(run: Run) -> None:
    """A byte a second keeps a connection from being idle, and yet no message comes."""

    async def main() -> None:
        server, ends = echo(timeouts=Timeouts(first_message=10, idle=5))
        async with server, connected(server) as good:
            await answered(good)
            with FakeClock() as clock:
                async with connected(server) as slow:
                    for second in range(9):
                        await slow.send(frame(bytes(100))[second : second + 1])
                        await clock.advance(1)
                        await answered(good)
                    assert len(server.connections) == 2
                    await clock.advance(1.1)
                    await slow.gone()
                assert (await ends.next()).code == "first-message-timeout"
            await answered(good)

    run(main)


@asynccontextmanager
async def crowd(server: Server, count: int) -> AsyncIterator[None]:
    """So many connections of a child's."""
    port = server.addresses[0].rpartition(":")[2]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, CROWD, port, str(count)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert await child.stdout.readline() == f"made {count}\n".encode()
        yield
    finally:
        child.stdin.close()
        await child.wait()


@pytest.mark.parametrize("backend", ["io_uring", "epoll"])
def test_20_001_connections(run: Run) -> None:
    """More than the limit, more than a process may have: the surplus is refused and counted, the others are served."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 20_000:
        pytest.skip(f"a process may have {hard} descriptors here, the test needs 20,000: ulimit -Hn")
    limit = 19_000

    async def main() -> None:
        server, ends = echo(Limits(connections=limit))
        async with server, connected(server) as good:
            await answered(good)
            async with crowd(server, 10_000), crowd(server, 10_000):
                while server.stats.accepted < 20_001:  # noqa: ASYNC110 - there is nothing to wait for
                    await asyncio.sleep(0)
                stats = server.stats
                assert (stats.open, dict(stats.closed)) == (limit, {"limit-connections": 20_001 - limit})
                await answered(good)
            for _ in range(limit - 1):
                await ends.next()
            assert server.stats.open == 1
            await answered(good)
        assert server.stats.accepted == sum(server.stats.closed.values()) == 20_001

    run(main, limit=60.0)
