"""asyncpg against a real PostgreSQL: pools, COPY, cancellation, notifications, TLS with a client certificate."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Certificates
from .servers import Postgres, need_package

asyncpg = need_package("asyncpg")

Run = Callable[..., Any]


def address(server: Postgres, **more: Any) -> dict[str, Any]:
    given = {"host": "127.0.0.1", "port": server.port, "user": "postgres", "database": "postgres", "ssl": False}
    return {**given, **more}


def test_a_pool_under_six_hundred_queries(run: Run, postgres_server: Postgres) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(**address(postgres_server), min_size=5, max_size=20) as pool:

            async def query(number: int) -> None:
                rows = await pool.fetch("select i, repeat('é', i) as text from generate_series(1, $1) as i", number)
                assert [(row["i"], row["text"]) for row in rows] == [(i, "é" * i) for i in range(1, number + 1)]

            await asyncio.gather(*(query(number % 100) for number in range(600)))

    run(main())


def test_copy_and_cursors_move_two_hundred_thousand_rows(run: Run, postgres_server: Postgres) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(**address(postgres_server))
        await connection.execute("create temp table numbers (n int, text text)")
        rows = [(number, f"row {number}") for number in range(200_000)]
        assert await connection.copy_records_to_table("numbers", records=rows) == "COPY 200000"
        out = io.BytesIO()
        await connection.copy_from_query("select n from numbers order by n", output=out)
        assert out.getvalue().split() == [str(number).encode() for number in range(200_000)]
        async with connection.transaction():
            total = 0
            async for row in connection.cursor("select n from numbers order by n", prefetch=5_000):
                assert row["n"] == total
                total += 1
        assert total == 200_000
        big = random.Random(1).randbytes(24 << 20)
        assert await connection.fetchval("select $1::bytea", big) == big
        await connection.close()

    run(main())


def test_transactions_retry_until_no_update_is_lost(run: Run, postgres_server: Postgres) -> None:
    async def main() -> None:
        async with asyncpg.create_pool(**address(postgres_server), min_size=1, max_size=10) as pool:
            await pool.execute("drop table if exists account; create table account (balance int)")
            await pool.execute("insert into account values (0)")

            async def add() -> None:
                while True:
                    try:
                        async with pool.acquire() as connection, connection.transaction(isolation="serializable"):
                            balance = await connection.fetchval("select balance from account")
                            await connection.execute("update account set balance = $1", balance + 1)
                        return
                    except asyncpg.SerializationError:
                        continue

            await asyncio.gather(*(add() for _ in range(60)))
            assert await pool.fetchval("select balance from account") == 60

    run(main())


def test_a_cancelled_query_is_cancelled_on_the_server(run: Run, postgres_server: Postgres) -> None:
    """asyncpg opens a second connection to ask for that; the first one is used again."""

    async def main() -> None:
        async with asyncpg.create_pool(**address(postgres_server), min_size=5, max_size=5) as pool:

            async def give_up() -> None:
                async with pool.acquire() as connection:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await connection.execute("select pg_sleep(100)")
                    assert await connection.fetchval("select 42") == 42

            await asyncio.gather(*(give_up() for _ in range(20)))
            sleeping = "select count(*) from pg_stat_activity where query = 'select pg_sleep(100)' and state = 'active'"
            assert await pool.fetchval(sleeping) == 0

    run(main())


def test_notifications_reach_every_listener_in_order(run: Run, postgres_server: Postgres) -> None:
    async def main() -> None:
        queues: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(5)]
        listeners = []
        for queue in queues:
            listener = await asyncpg.connect(**address(postgres_server))
            await listener.add_listener("news", lambda *event, queue=queue: queue.put_nowait(int(event[3])))
            listeners.append(listener)
        speaker = await asyncpg.connect(**address(postgres_server))
        for number in range(500):
            await speaker.execute("select pg_notify('news', $1)", str(number))
        for queue in queues:
            assert [await queue.get() for _ in range(500)] == list(range(500))
        for connection in (*listeners, speaker):
            await connection.close()

    run(main())


def test_terminated_backends_are_replaced_by_the_pool(run: Run, postgres_server: Postgres) -> None:
    async def main() -> None:
        admin = await asyncpg.connect(**address(postgres_server))
        async with asyncpg.create_pool(**address(postgres_server), min_size=4, max_size=4) as pool:
            for _ in range(10):
                async with pool.acquire() as connection:
                    process = await connection.fetchval("select pg_backend_pid()")
                    doomed = asyncio.create_task(connection.execute("select pg_sleep(100)"))
                    await asyncio.sleep(0)
                    await admin.execute("select pg_terminate_backend($1)", process)
                    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError)):
                        await doomed
                assert await pool.fetchval("select 1") == 1
        await admin.close()

    run(main())


def test_tls_upgrade_with_a_client_certificate(run: Run, postgres_server: Postgres, certificates: Certificates) -> None:
    async def main() -> None:
        admin = await asyncpg.connect(**address(postgres_server))
        exists = await admin.fetchval("select count(*) from pg_roles where rolname = 'wireway'")
        if not exists:
            await admin.execute("create role wireway login")
        await admin.close()
        given = address(postgres_server, user="wireway", host="localhost")
        async with asyncpg.create_pool(**{**given, "ssl": certificates.client()}, min_size=8, max_size=8) as pool:

            async def query(number: int) -> None:
                data = random.Random(number).randbytes(200_000)
                assert await pool.fetchval("select $1::bytea", data) == data

            await asyncio.gather(*(query(number) for number in range(80)))
            assert await pool.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()") is True
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(**{**given, "ssl": certificates.client("none")})

    run(main())


def test_the_unix_socket(run: Run, postgres_server: Postgres) -> None:
    async def main() -> None:
        given = address(postgres_server, host=str(postgres_server.directory))
        async with asyncpg.create_pool(**given, min_size=10, max_size=10) as pool:
            results = await asyncio.gather(*(pool.fetchval("select $1::int * 2", number) for number in range(400)))
            assert results == [number * 2 for number in range(400)]

    run(main())
