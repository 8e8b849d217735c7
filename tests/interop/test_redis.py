"""redis-py's asyncio client against a real Redis: pipelines, pub/sub, blocking calls, lost connections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .servers import Redis, need_package

redis = need_package("redis.asyncio")
backoff = need_package("redis.backoff")
retry = need_package("redis.asyncio.retry")

Run = Callable[..., Any]


@asynccontextmanager
async def client_of(server: Redis, **options: Any) -> AsyncIterator[Any]:
    """A client on an empty database, closed at the end."""
    client = redis.Redis(host="127.0.0.1", port=server.port, **options)
    try:
        await client.flushall()
        yield client
    finally:
        await client.aclose()


def test_pipelines_of_thousands_and_a_value_of_megabytes(run: Run, redis_server: Redis) -> None:
    async def main() -> None:
        async with client_of(redis_server) as client:
            pipeline = client.pipeline(transaction=False)
            for number in range(20_000):
                pipeline.set(f"key:{number}", number * number)
            assert all(await pipeline.execute())
            values = await client.mget([f"key:{number}" for number in range(20_000)])
            assert [int(value) for value in values] == [number * number for number in range(20_000)]
            big = random.Random(1).randbytes(32 << 20)
            await client.set("big", big)
            assert await client.get("big") == big
            assert len([key async for key in client.scan_iter("key:1*", count=1_000)]) == 11_111

    run(main())


def test_sixty_clients_in_transactions_lose_no_increment(run: Run, redis_server: Redis) -> None:
    async def main() -> None:
        pool = redis.BlockingConnectionPool(host="127.0.0.1", port=redis_server.port, max_connections=60, timeout=30)
        async with client_of(redis_server), redis.Redis(connection_pool=pool) as client:

            async def add() -> None:
                for _ in range(40):
                    await client.incr("plain")

            async def add_watched() -> None:
                async with client.pipeline() as pipeline:
                    for _ in range(5):
                        while True:
                            try:
                                await pipeline.watch("watched")
                                value = int(await pipeline.get("watched") or 0)
                                pipeline.multi()
                                pipeline.set("watched", value + 1)
                                await pipeline.execute()
                                break
                            except redis.WatchError:
                                continue

            await asyncio.gather(*(add() for _ in range(60)), *(add_watched() for _ in range(10)))
            assert (await client.get("plain"), await client.get("watched")) == (b"2400", b"50")
        await pool.disconnect()

    run(main())


def test_publish_subscribe_keeps_the_order(run: Run, redis_server: Redis) -> None:
    async def main() -> None:
        async with client_of(redis_server) as client:
            subscribed = asyncio.Semaphore(0)

            async def listen() -> None:
                async with client.pubsub() as channel:
                    await channel.subscribe("news")
                    seen = []
                    async for message in channel.listen():
                        if message["type"] == "subscribe":
                            subscribed.release()
                            continue
                        seen.append(int(message["data"]))
                        if len(seen) == 2_000:
                            break
                    assert seen == list(range(2_000))

            listeners = [asyncio.create_task(listen()) for _ in range(10)]
            for _ in listeners:
                await subscribed.acquire()
            for start in range(0, 2_000, 100):
                pipeline = client.pipeline(transaction=False)
                for number in range(start, start + 100):
                    pipeline.publish("news", number)
                assert await pipeline.execute() == [10] * 100
            await asyncio.gather(*listeners)

    run(main())


def test_cancelled_blocking_calls_do_not_mix_up_answers(run: Run, redis_server: Redis) -> None:
    async def main() -> None:
        async with client_of(redis_server) as client:
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await client.blpop(["nothing"], timeout=0)
                assert await client.echo("mine") == b"mine"
            waiting = [asyncio.create_task(client.blpop(["queue"], timeout=0)) for _ in range(20)]
            while (await client.info("clients"))["blocked_clients"] < 20:
                pass  # each turn is a request of its own
            await client.rpush("queue", *range(20))
            got = sorted(int(value) for _, value in await asyncio.gather(*waiting))
            assert got == list(range(20))

    run(main())


def test_connections_killed_by_the_server_are_made_again(run: Run, redis_server: Redis) -> None:
    async def main() -> None:
        policy = retry.Retry(backoff.NoBackoff(), retries=5)
        async with client_of(redis_server) as admin, client_of(redis_server, retry=policy) as client:
            for number in range(30):
                await asyncio.gather(*(client.incr("count") for _ in range(10)))
                own = await admin.client_id()
                for entry in await admin.client_list():
                    if int(entry["id"]) != own:
                        await admin.client_kill_filter(_id=entry["id"])
                assert await client.get("count") == str(10 * (number + 1)).encode()

    run(main())


def test_the_unix_socket(run: Run, redis_server: Redis) -> None:
    async def main() -> None:
        pool = redis.BlockingConnectionPool(
            connection_class=redis.UnixDomainSocketConnection, path=redis_server.socket, max_connections=30, timeout=30
        )
        async with client_of(redis_server), redis.Redis(connection_pool=pool) as client:
            stream = [client.xadd("stream", {"n": number, "pad": "x" * 1_000}) for number in range(500)]
            await asyncio.gather(*stream)
            entries = await client.xrange("stream")
            assert sorted(int(fields[b"n"]) for _, fields in entries) == list(range(500))
        await pool.disconnect()

    run(main())
