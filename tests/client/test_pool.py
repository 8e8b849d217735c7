"""Pools: connections are lent in turn, kept warm, and closed when they are too old or not needed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client.support import FRAMED, Echo, echo, listening, turns, until
from conftest import Run
from wireway.errors import (
    ConfigError,
    ConnectError,
    ConnectionClosedError,
    PoolTimeoutError,
    RequestTimeoutError,
    WirewayError,
)
from wireway.net.pool import Pool, request_once


def test_one_connection_serves_one_after_the_other(run: Run) -> None:
    async def main() -> None:
        async with echo() as (pool, _):
            assert [await pool.request(b"a"), await pool.request(b"b")] == [b"1:a", b"1:b"]
            async with pool.connection() as client:
                assert await client.request(b"c") == b"1:c"
                assert pool.stats["in_use"] == 1
            assert pool.stats == {
                **dict.fromkeys(("in_use", "waiting", "renewed", "replaced", "retried", "timeouts"), 0),
                **dict.fromkeys(("open", "idle", "made"), 1),
                "lent": 3,
            }
            assert repr(pool).endswith(" in_use=0 idle=1 waiting=0>")

    run(main, limit=10)


def test_many_share_few_in_turn(run: Run) -> None:
    async def main() -> None:
        async with echo(max=3) as (pool, there):
            served: list[int] = []

            async def use(number: int) -> None:
                async with pool.connection() as client:
                    served.append(number)
                    await client.request(b"x")

            await asyncio.gather(*(use(number) for number in range(50)))
            assert [number for number in served if number >= 3] == list(range(3, 50)), "those that had to wait"
            assert there.server.stats.accepted == 3
            assert pool.stats["lent"] == 50

    run(main, limit=10)


def test_who_comes_later_does_not_overtake(run: Run) -> None:
    async def main() -> None:
        async with echo(max=1) as (pool, _):
            order: list[str] = []

            async def use(name: str) -> None:
                async with pool.connection():
                    order.append(name)
                    await asyncio.sleep(0)

            async with pool.connection():
                waiting = [asyncio.create_task(use(name)) for name in "abc"]
                await turns()
                assert pool.stats["waiting"] == 3
                waiting[1].cancel()
            await use("late")
            await asyncio.gather(*waiting, return_exceptions=True)
            assert order == ["a", "c", "late"]

    run(main, limit=10)


def test_waiting_is_bounded(run: Run) -> None:
    async def main() -> None:
        async with echo(max=1, wait_timeout=0.01) as (pool, _):
            async with pool.connection():
                with pytest.raises(PoolTimeoutError, match=r"became free within 0\.01 s: 1 are in use"):
                    await pool.request(b"x")
            assert await pool.request(b"x") == b"1:x"
            assert pool.stats["timeouts"] == 1

    run(main, limit=10)


@pytest.mark.parametrize("moment", range(1, 8))
def test_whoever_is_cancelled_loses_no_connection(run: Run, moment: int) -> None:
    async def main() -> None:
        async with echo(max=1) as (pool, _):
            lent = pool.connection()
            await lent.__aenter__()
            waiting = [asyncio.create_task(pool.request(b"x")) for _ in range(2)]
            await turns()
            await lent.__aexit__(None, None, None)
            await turns(moment - 1)
            waiting[0].cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert (await pool.request(b"y")).endswith(b":y")
            assert pool.stats["open"] == 1

    run(main, limit=10)


# --- ahead of need, and too old ------------------------------------------------------------------------------


def test_min_are_kept_warm(run: Run) -> None:
    async def main() -> None:
        async with echo(min=2) as (pool, there):
            await until(pool, idle=2)
            assert await pool.request(b"x") in (b"1:x", b"2:x")
            there.server.connections[0].close()
            await until(pool, idle=2, made=3)
            there.server.connections[0].abort()
            await until(pool, idle=2, made=4)

    run(main, limit=10)


def test_a_server_that_is_away_is_not_asked_for_ever(run: Run) -> None:
    async def main() -> None:
        async with listening() as there:
            port = there.port
        async with Pool(there.url, min=2, framing=FRAMED) as pool:
            await until(pool, open=0)
            with pytest.raises(ConnectError):
                await pool.request(b"x")
            await until(pool, open=0)
            async with listening(port) as there:
                asking = asyncio.create_task(pool.request(b"x"))
                servers = [await there.accept() for _ in range(3)]  # two to keep warm, and one for the request
                echoing = [asyncio.create_task(server.echoes()) for server in servers]
                assert await asking == b"x"
                await until(pool, idle=3)
                for task in echoing:
                    task.cancel()

    run(main, limit=10)


def test_max_age_renews(run: Run) -> None:
    async def main() -> None:
        async with echo(max_age=0.02, min=1) as (pool, _):
            await until(pool, renewed=3)
            assert pool.stats["made"] >= 3
            async with pool.connection() as client:
                await asyncio.sleep(0.03)
                assert client.state == "open", "one in use is renewed when it comes back"
            assert client.state == "closed"

    run(main, limit=10)


def test_max_idle_closes_what_is_above_min(run: Run) -> None:
    async def main() -> None:
        async with echo(max_idle=0.02, min=1, max=3) as (pool, _):
            async with pool.connection(), pool.connection(), pool.connection():
                assert pool.stats["in_use"] == 3
            await until(pool, open=1, idle=1)
            assert pool.stats["renewed"] == 0

    run(main, limit=10)


# --- the end -------------------------------------------------------------------------------------------------


def test_close_waits_for_what_is_in_use(run: Run) -> None:
    async def main() -> None:
        async with echo(max=2, min=2) as (pool, _):
            await until(pool, idle=2)
            async with pool.connection() as client:
                closing = asyncio.create_task(pool.close())
                await turns()
                assert not closing.done()
                assert await client.request(b"still here")
                with pytest.raises(ConnectionClosedError, match=r"the pool of .* is closed"):
                    await pool.request(b"x")
            await closing
            assert pool.stats["open"] == 0
            with pytest.raises(WirewayError, match="a pool is used once"):
                async with pool:
                    pytest.fail("it opened")

    run(main, limit=10)


def test_close_ends_who_waits_and_cancelling_it_aborts(run: Run) -> None:
    async def main() -> None:
        async with echo(max=1) as (pool, _), pool.connection() as client:
            waiting = asyncio.create_task(pool.request(b"x"))
            await turns()
            closing = asyncio.create_task(pool.close())
            with pytest.raises(ConnectionClosedError, match="is closed"):
                await waiting
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert client.state == "closed"

    run(main, limit=10)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max": 0}, "Pool: max is 0, it must be at least 1"),
        ({"min": 3, "max": 2}, "Pool: min is 3, it must be 0 to max=2"),
        ({"max_age": 0}, "Pool: max_age is 0"),
        ({"wait_timeout": -1}, "Pool: wait_timeout is -1"),
        ({"health_check": True}, "Pool: health_check is True"),
        ({"timeouts": 5}, "timeouts is 5"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Pool("tcp://127.0.0.1:1", **options)


# --- short connections ---------------------------------------------------------------------------------------


def test_request_once(run: Run) -> None:
    async def main() -> None:
        there = Echo()
        async with there.server:
            assert await request_once(there.server.addresses[0], b"x", framing=FRAMED) == b"1:x"
            assert await request_once(there.server.addresses[0], b"x", framing=FRAMED, deadline=10) == b"2:x"
        with pytest.raises(ConfigError, match="deadline is 0"):
            await request_once("tcp://127.0.0.1:1", b"x", deadline=0)
        async with listening() as silent:
            with pytest.raises(RequestTimeoutError):
                await request_once(silent.url, b"x", deadline=0.02)
        with pytest.raises(ConnectError):
            await request_once(silent.url, b"x")

    run(main, limit=10)
