"""nats-py against a real nats-server: floods, request and reply, queue groups, JetStream, restarts, mutual TLS."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .conftest import Certificates
from .servers import Nats, need_package

nats = need_package("nats")
nats_errors = need_package("nats.errors")

Run = Callable[..., Any]


@asynccontextmanager
async def connected(server: Nats, **options: Any) -> AsyncIterator[Any]:
    client = await nats.connect(server.url, **options)
    try:
        yield client
    finally:
        await client.close()


def test_twenty_thousand_messages_arrive_in_order(run: Run, nats_server: Nats) -> None:
    async def main() -> None:
        async with connected(nats_server) as sender, connected(nats_server) as receiver:
            subscription = await receiver.subscribe("flood", pending_msgs_limit=-1, pending_bytes_limit=-1)
            await receiver.flush()
            for number in range(20_000):
                await sender.publish("flood", b"%d" % number)
            await sender.flush()
            for number in range(20_000):
                message = await subscription.next_msg(timeout=10)
                assert int(message.data) == number
            big = bytes(range(256)) * 4_000
            await sender.publish("flood", big)
            assert (await subscription.next_msg(timeout=10)).data == big

    run(main())


def test_requests_are_shared_by_a_queue_group(run: Run, nats_server: Nats) -> None:
    async def main() -> None:
        served: Counter[int] = Counter()
        workers = [await nats.connect(nats_server.url) for _ in range(4)]
        for index, worker in enumerate(workers):

            async def answer(message: Any, index: int = index) -> None:
                served[index] += 1
                await message.respond(message.data[::-1])

            await worker.subscribe("work", queue="workers", cb=answer)
            await worker.flush()
        async with connected(nats_server) as client:

            async def ask(number: int) -> None:
                data = b"%d-" % number * 50
                assert (await client.request("work", data, timeout=20)).data == data[::-1]

            await asyncio.gather(*(ask(number) for number in range(1_000)))
            with pytest.raises(nats_errors.NoRespondersError):
                await client.request("nobody", b"", timeout=20)
        assert served.total() == 1_000
        assert len(served) == 4
        for worker in workers:
            await worker.drain()

    run(main())


def test_a_drain_delivers_what_was_sent(run: Run, nats_server: Nats) -> None:
    """All of it has reached the client, and little was handled, when the drain begins.

    The last message says so: a `flush` of nats-py would not, its PING overtakes what was published before.
    """

    async def main() -> None:
        got: list[int] = []
        last = asyncio.Event()
        receiver = await nats.connect(nats_server.url)

        async def take(message: Any) -> None:
            await asyncio.sleep(0)
            got.append(int(message.data))

        async def see_the_last(message: Any) -> None:
            last.set()

        await receiver.subscribe("drain", cb=take)
        await receiver.subscribe("last", cb=see_the_last)
        await receiver.flush()
        async with connected(nats_server) as sender:
            for number in range(3_000):
                await sender.publish("drain", b"%d" % number)
            await sender.publish("last", b"")
            await last.wait()
        await receiver.drain()
        assert got == list(range(3_000))
        assert receiver.is_closed

    run(main())


def test_jetstream_keeps_and_delivers_again(run: Run, nats_server: Nats) -> None:
    async def main() -> None:
        async with connected(nats_server) as client:
            stream = client.jetstream()
            await stream.add_stream(name="orders", subjects=["orders.*"])
            await asyncio.gather(*(stream.publish("orders.new", b"%d" % number) for number in range(500)))
            consumer = await stream.pull_subscribe("orders.new", durable="clerk")
            seen: Counter[int] = Counter()
            refused: set[int] = set()
            while sum(seen.values()) < 500:
                for message in await consumer.fetch(50, timeout=10):
                    number = int(message.data)
                    if number % 10 == 0 and number not in refused:
                        refused.add(number)
                        await message.nak()
                    else:
                        seen[number] += 1
                        await message.ack()
            assert seen == Counter(range(500))
            assert len(refused) == 50

    run(main())


def test_clients_come_back_after_the_server_was_restarted(run: Run, nats_server: Nats) -> None:
    async def main() -> None:
        lost, back = asyncio.Semaphore(0), asyncio.Semaphore(0)

        async def on_lost() -> None:
            lost.release()

        async def on_back() -> None:
            back.release()

        async def quiet(error: Exception) -> None:
            assert isinstance(error, (OSError, nats_errors.Error)), error

        options = {
            "disconnected_cb": on_lost,
            "reconnected_cb": on_back,
            "error_cb": quiet,
            "reconnect_time_wait": 0.05,
            "max_reconnect_attempts": -1,
        }
        async with connected(nats_server, **options) as sender, connected(nats_server, **options) as receiver:
            subscription = await receiver.subscribe("after")
            await receiver.flush()
            for round_number in range(3):
                await asyncio.to_thread(nats_server.stop)
                for _ in range(2):
                    await lost.acquire()
                await asyncio.to_thread(nats_server.start)
                for _ in range(2):
                    await back.acquire()
                await receiver.flush()
                for number in range(300):
                    await sender.publish("after", b"%d %d" % (round_number, number))
                await sender.flush()
                got = [(await subscription.next_msg(timeout=10)).data for _ in range(300)]
                assert got == [b"%d %d" % (round_number, number) for number in range(300)]

    run(main())


def test_mutual_tls(run: Run, certificates: Certificates) -> None:
    folder = certificates.directory
    files = [f"--tlscert={folder}/server.pem", f"--tlskey={folder}/server.key", f"--tlscacert={folder}/ca.pem"]

    async def main(server: Nats) -> None:
        options = {"tls": certificates.client(), "tls_hostname": "localhost"}
        async with connected(server, **options) as client:
            subscription = await client.subscribe("secret")
            for number in range(1_000):
                await client.publish("secret", b"%d" % number * 500)
            for number in range(1_000):
                assert (await subscription.next_msg(timeout=10)).data == b"%d" % number * 500

    with Nats("--tls", "--tlsverify", *files) as server:
        run(main(server))
