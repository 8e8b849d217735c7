"""Connections of a pool that are of no more use: closed by the server, unwell, in disorder. None is ever lent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client.support import FRAMED, Listening, echo, listening, until
from conftest import Run
from wireway.errors import (
    ConnectionClosedError,
    RequestTimeoutError,
)
from wireway.net.client import Client
from wireway.net.pool import Pool


def test_one_that_the_server_closed_is_never_lent(run: Run) -> None:
    async def main() -> None:
        async with echo() as (pool, there):
            await pool.request(b"x")
            there.server.connections[0].close()
            await until(pool, idle=0)
            assert pool.stats["replaced"] == 1
            assert await pool.request(b"x") == b"2:x"

    run(main, limit=10)


def test_one_that_was_closed_unnoticed_is_replaced(run: Run) -> None:
    async def main() -> None:
        async with listening() as there, Pool(there.url, framing=FRAMED) as pool:
            asking = asyncio.create_task(pool.request(b"x"))
            server = await there.accept()
            await server.echoes()
            await asking

            async def serve_next() -> None:
                await (await there.accept()).echoes()

            serving = asyncio.create_task(serve_next())
            server.close()  # and the request begins before the loop turns: it has not heard of it
            assert await pool.request(b"y") == b"y"
            await serving
            assert (pool.stats["replaced"], pool.stats["retried"]) == (1, 0)

    run(main, limit=10)


async def rests(there: Listening, pool: Pool) -> Any:
    """The server's side of a connection of the pool that was used and rests."""
    asking = asyncio.create_task(pool.request(b"x"))
    server = await there.accept()
    await server.echoes()
    await asking
    return server


def test_a_request_on_one_that_ends_without_a_byte_is_made_again_once(run: Run) -> None:
    async def main() -> None:
        async with listening() as there, Pool(there.url, framing=FRAMED) as pool:
            server = await rests(there, pool)
            asking = asyncio.create_task(pool.request(b"once more"))
            assert await server.gets() == b"once more"
            server.reset()
            server = await there.accept()
            await server.echoes()
            assert await asking == b"once more"
            assert (pool.stats["retried"], pool.stats["open"]) == (1, 1)
            # And on a fresh one, never.
            asking = asyncio.create_task(pool.request(b"twice"))
            await server.gets()
            server.reset()
            server = await there.accept()
            await server.gets()
            server.reset()
            with pytest.raises(ConnectionClosedError, match="peer-reset"):
                await asking
            await until(pool, open=0)

    run(main, limit=10)


def test_a_request_on_a_fresh_one_is_not_made_again(run: Run) -> None:
    async def main() -> None:
        async with listening() as there, Pool(there.url, framing=FRAMED) as pool:
            asking = asyncio.create_task(pool.request(b"x"))
            server = await there.accept()
            await server.gets()
            server.reset()
            with pytest.raises(ConnectionClosedError, match="peer-reset"):
                await asking

    run(main, limit=10)


def test_a_request_that_got_a_byte_is_not_made_again(run: Run) -> None:
    async def main() -> None:
        async with listening() as there, Pool(there.url, framing=FRAMED) as pool:
            server = await rests(there, pool)
            asking = asyncio.create_task(pool.request(b"y"))
            await server.gets()
            await server.send(b"\0")
            server.close()
            with pytest.raises(ConnectionClosedError, match="truncated-frame"):
                await asking

    run(main, limit=10)


def test_a_request_is_not_made_again_if_told_so(run: Run) -> None:
    async def main() -> None:
        async with listening() as there, Pool(there.url, framing=FRAMED) as pool:
            server = await rests(there, pool)
            asking = asyncio.create_task(pool.request(b"y", retry=False))
            await server.gets()
            server.reset()
            with pytest.raises(ConnectionClosedError):
                await asking

    run(main, limit=10)


@pytest.mark.parametrize("says", [False, ConnectionClosedError("in the check")])
def test_one_that_fails_its_check_is_replaced(run: Run, says: Any) -> None:
    checked: list[Client] = []

    async def check(client: Client) -> bool:
        assert await client.request(b"ping") == b"1:ping"
        checked.append(client)
        if isinstance(says, Exception):
            raise says
        return bool(says)

    async def main() -> None:
        async with echo(health_check=check) as (pool, there):
            assert await pool.request(b"a") == b"1:a"
            assert checked == [], "a new one is well"
            assert await pool.request(b"b") == b"2:b"
            assert len(checked) == 1
            assert pool.stats["open"] == 1
            await until(pool, idle=1)
            while there.open != 1:  # noqa: ASYNC110 - the server hears of it later
                await asyncio.sleep(0.001)

    run(main, limit=10)


def test_what_comes_back_in_disorder_is_not_lent_again(run: Run) -> None:
    async def main() -> None:
        async with echo() as (pool, _):
            with pytest.raises(ValueError, match="in the block"):
                async with pool.connection() as client:
                    raise ValueError("in the block")
            assert client.state == "closed"
            async with pool.connection() as client:
                await client.send(b"an answer that nobody takes")
                while not client.unread:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0)
            assert client.state == "closed"
            with pytest.raises(RequestTimeoutError):
                await pool.request(b"x", deadline=1e-9)
            assert pool.stats["open"] == 0
            assert (await pool.request(b"y")).endswith(b":y")

    run(main, limit=10)
