"""websockets, server and client: many clients, broadcast, big and fragmented messages, aborts, reconnection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Certificates
from .servers import need_package

client = need_package("websockets.asyncio.client")
server = need_package("websockets.asyncio.server")
exceptions = need_package("websockets.exceptions")

Run = Callable[..., Any]
CLIENTS = 80


def port_of(listening: Any) -> int:
    port: int = listening.sockets[0].getsockname()[1]
    return port


async def echo(socket: Any) -> None:
    async for message in socket:
        await socket.send(message)


def test_eighty_clients_and_compressed_megabytes(run: Run) -> None:
    async def main() -> None:
        async with server.serve(echo, "127.0.0.1", 0, max_size=16 << 20) as listening:

            async def talk(seed: int) -> None:
                rng = random.Random(seed)
                async with client.connect(f"ws://127.0.0.1:{port_of(listening)}", max_size=16 << 20) as socket:
                    for _ in range(20):
                        text = "".join(rng.choices("abcé", k=rng.randrange(3_000)))
                        await socket.send(text)
                        assert await socket.recv() == text
                    await (await socket.ping())
                    if seed < 4:
                        data = rng.randbytes(6 << 20)
                        await socket.send([data[start : start + 500_000] for start in range(0, len(data), 500_000)])
                        assert await socket.recv() == data

            await asyncio.gather(*(talk(seed) for seed in range(CLIENTS)))

    run(main())


def test_broadcast_reaches_every_client_in_order(run: Run) -> None:
    async def main() -> None:
        members: set[Any] = set()
        complete = asyncio.Event()

        async def join(socket: Any) -> None:
            members.add(socket)
            if len(members) == CLIENTS:
                complete.set()
            await socket.wait_closed()

        async with server.serve(join, "127.0.0.1", 0) as listening:

            async def listen() -> None:
                async with client.connect(f"ws://127.0.0.1:{port_of(listening)}") as socket:
                    assert [await socket.recv() for _ in range(200)] == [f"news {n}" for n in range(200)]

            listeners = [asyncio.create_task(listen()) for _ in range(CLIENTS)]
            await complete.wait()
            for number in range(200):
                server.broadcast(members, f"news {number}")
                await asyncio.sleep(0)
            await asyncio.gather(*listeners)

    run(main())


def test_a_slow_reader_holds_the_sender_back_and_loses_nothing(run: Run) -> None:
    async def main() -> None:
        sent = 0

        async def flood(socket: Any) -> None:
            nonlocal sent
            for number in range(400):
                await socket.send(number.to_bytes(4, "big") * 16_384)
                sent += 1

        async with server.serve(flood, "127.0.0.1", 0, compression=None) as listening:
            address = f"ws://127.0.0.1:{port_of(listening)}"
            async with client.connect(address, compression=None, max_queue=1) as socket:
                before = -1
                while sent != before:  # the sender stops of itself: 25 MiB do not fit into the buffers between
                    before = sent
                    for _ in range(200):
                        await asyncio.sleep(0)
                assert sent < 400
                for number in range(400):
                    assert await socket.recv() == number.to_bytes(4, "big") * 16_384
        assert sent == 400

    run(main())


async def _receive_for_ever(socket: Any) -> None:
    while True:
        await socket.recv()


def test_aborted_connections_end_their_handlers(run: Run) -> None:
    async def main() -> None:
        codes: asyncio.Queue[int] = asyncio.Queue()

        async def serve(socket: Any) -> None:
            with pytest.raises(exceptions.ConnectionClosedError):
                await _receive_for_ever(socket)
            await codes.put(socket.close_code)

        async with server.serve(serve, "127.0.0.1", 0) as listening:
            for _ in range(40):
                socket = await client.connect(f"ws://127.0.0.1:{port_of(listening)}")
                await socket.send("hello")
                socket.transport.abort()
            assert [await codes.get() for _ in range(40)] == [1006] * 40

    run(main())


def test_a_client_reconnects_each_time_the_server_comes_back(run: Run) -> None:
    async def main() -> None:
        async with server.serve(echo, "127.0.0.1", 0) as first:
            port = port_of(first)
        rounds = 0

        async def restart() -> Any:
            return await server.serve(echo, "127.0.0.1", port)

        listening = await restart()
        async for socket in client.connect(f"ws://127.0.0.1:{port}"):
            try:
                for number in range(50):
                    await socket.send(str(number))
                    assert await socket.recv() == str(number)
                rounds += 1
                if rounds == 4:
                    break
                listening.close()
                await listening.wait_closed()
                listening = await restart()
                await socket.recv()
            except exceptions.ConnectionClosed:
                continue
        listening.close()
        await listening.wait_closed()
        assert rounds == 4

    run(main())


def test_secure_websockets_with_client_certificates(run: Run, certificates: Certificates) -> None:
    async def main() -> None:
        context = certificates.server(require_client=True)
        async with server.serve(echo, "127.0.0.1", 0, ssl=context) as listening:

            async def talk(seed: int) -> None:
                address = f"wss://localhost:{port_of(listening)}"
                async with client.connect(address, ssl=certificates.client()) as socket:
                    for size in (0, 1, 125, 126, 65_535, 65_536, 300_000):
                        data = random.Random(seed).randbytes(size)
                        await socket.send(data)
                        assert await socket.recv() == data

            await asyncio.gather(*(talk(seed) for seed in range(25)))

    run(main())
