"""Each limit on peers, crossed from raw sockets: the code is right, the peer is told, and the others notice nothing."""

from __future__ import annotations

import asyncio

import pytest

from conftest import Run
from support.limits import echo, lives, peer_at, refused
from support.peers import frame
from wireway import Access, Ban, EventLoop, Limits


def test_connections_in_all(run: Run) -> None:
    async def main() -> None:
        server, ends = echo(Limits(connections=2))
        async with server, peer_at(server) as first:
            await lives(first)
            async with peer_at(server) as second:
                await lives(second)
                await refused(server, "127.0.0.2", "limit-connections")
                await lives(first)
                await lives(second)
            while (await ends.next()).code != "peer-closed":
                pass
            async with peer_at(server, "127.0.0.2") as third:
                await lives(third)

    run(main)


def test_connections_of_one_address(run: Run) -> None:
    async def main() -> None:
        server, _ = echo(Limits(per_address=1))
        async with server, peer_at(server, "127.0.0.1") as first, peer_at(server, "127.0.0.2") as second:
            await lives(first)
            await lives(second)
            await refused(server, "127.0.0.1", "limit-address")
            await lives(first)

    run(main)


def test_connections_of_one_subnet(run: Run) -> None:
    async def main() -> None:
        server, _ = echo(Limits(per_subnet=2, subnet_v4=24))
        async with server, peer_at(server, "127.0.7.1") as first, peer_at(server, "127.0.7.2") as second:
            await lives(first)
            await lives(second)
            await refused(server, "127.0.7.3", "limit-subnet")
            async with peer_at(server, "127.0.8.3") as other:
                await lives(other)

    run(main)


def test_connections_that_come_too_fast(run: Run) -> None:
    async def main() -> None:
        server, _ = echo(Limits(accept_rate=0.001, accept_burst=2))
        async with server, peer_at(server) as first, peer_at(server) as second:
            await lives(first)
            await lives(second)
            await refused(server, "127.0.0.9", "limit-accept-rate")
            await lives(first)

    run(main)


def test_networks_that_may_not_come(run: Run) -> None:
    async def main() -> None:
        server, _ = echo(access=Access(allow=("127.0.0.0/16",), deny=("127.0.9.0/24",)))
        async with server, peer_at(server, "127.0.0.1") as good:
            await lives(good)
            await refused(server, "127.0.9.1", "denied")
            await refused(server, "127.1.0.1", "denied")
            await lives(good)

    run(main)


def test_bad_frames_ban_their_address_and_no_other(run: Run) -> None:
    async def main() -> None:
        server, _ = echo(Limits(ban=Ban(after=2, within=60, seconds=60)))
        async with server, peer_at(server, "127.0.0.2") as neighbour:
            await lives(neighbour)
            for _ in range(2):
                async with peer_at(server, "127.0.0.1") as bad:
                    await bad.send(b"\xff\xff\xff\xff garbage")
                    await bad.gone()
            await refused(server, "127.0.0.1", "banned")
            assert server.stats.closed["frame-too-large"] == 2
            await lives(neighbour)

    run(main)


def test_a_limit_on_trial_closes_nobody_and_counts(run: Run) -> None:
    async def main() -> None:
        server, _ = echo(Limits(per_address=1, connections=3, dry_run=frozenset({"per_address"})))
        async with server, peer_at(server) as first, peer_at(server) as second, peer_at(server) as third:
            for peer in (first, second, third):
                await lives(peer)
            assert sum(server.stats.would_close.values()) == 2
            await refused(server, "127.0.0.1", "limit-connections")

    run(main)


def test_a_flood_of_connections_costs_the_others_nothing(run: Run) -> None:
    async def main() -> None:
        server, _ = echo(Limits(per_address=2, ban=Ban(after=3, within=60, seconds=60)))
        async with server, peer_at(server, "127.0.0.2") as good:
            async with peer_at(server) as first, peer_at(server) as second:
                await lives(first)
                await lives(second)
                for _ in range(100):
                    async with peer_at(server) as flood:
                        await flood.gone()
                await lives(good)
                await lives(first)
            closed = server.stats.closed
            assert (closed["limit-address"], closed["banned"]) == (3, 97)

    run(main)


def test_a_peer_that_comes_and_goes_is_banned(run: Run) -> None:
    async def main() -> None:
        server, ends = echo(Limits(ban=Ban(after=3, within=60, seconds=60)))
        async with server, peer_at(server, "127.0.0.2") as good:
            await lives(good)
            for _ in range(3):
                async with peer_at(server) as flapping:
                    flapping.finish()
                    await flapping.gone()
                assert (await ends.next()).code == "peer-closed"
            await refused(server, "127.0.0.1", "banned")
            await lives(good)

    run(main)


def clock() -> EventLoop:
    """The running loop, with its clock stopped."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, EventLoop)
    loop._set_clock(loop.time())
    return loop


def test_messages_over_their_rate_wait_and_nobody_is_closed(run: Run) -> None:
    async def main() -> None:
        server, ends = echo(Limits(message_rate=10, message_burst=3))
        async with server, peer_at(server) as eager, peer_at(server) as other:
            loop = clock()
            start = loop.time()
            words = [b"%d" % number for number in range(5)]
            await eager.send(b"".join(map(frame, words)))
            assert await eager.receive(15) == b"".join(map(frame, words[:3]))
            for passed, word in ((0.15, words[3]), (0.30, words[4])):
                await lives(other)
                with pytest.raises(BlockingIOError):
                    eager.sock.recv(1)
                loop._set_clock(start + passed)
                assert await eager.receive(5) == frame(word)
            assert ends.all() == []
            loop._set_clock(None)

    run(main)


def test_bytes_over_their_rate_are_read_later(run: Run) -> None:
    async def main() -> None:
        server, _ = echo(Limits(byte_rate=1000, byte_burst=100))
        async with server, peer_at(server, "127.0.0.1") as eager, peer_at(server, "127.0.0.2") as other:
            loop = clock()
            start = loop.time()
            steps = 0
            for _ in range(20):
                await eager.send(frame(b"x" * 96))
                answer = asyncio.ensure_future(eager.receive(100))
                while not answer.done():
                    steps += 1
                    loop._set_clock(start + steps / 100)
                    await lives(other, b"%d" % (steps % 10))
                assert await answer == frame(b"x" * 96)
            # 2,000 bytes, of which the burst and the last piece are free, at 1,000 a second.
            assert 1.75 <= steps / 100 <= 2.5
            loop._set_clock(None)

    run(main)
