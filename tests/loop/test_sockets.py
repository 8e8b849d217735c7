"""What asyncio does itself over our watching: the `sock_*` methods, datagrams, pipes."""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Run = Callable[..., Any]
Pair = tuple[socket.socket, socket.socket]

BIG = bytes(range(256)) * (16 * 1024)


def running() -> AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, other = socket.socketpair()
    ours.setblocking(False)
    other.setblocking(False)
    with ours, other:
        yield ours, other


# --- sock_* -------------------------------------------------------------------------------------------------------


def test_receiving_waits(run: Run, pair: Pair) -> None:
    async def main() -> None:
        ours, other = pair
        receiving = asyncio.create_task(running().sock_recv(ours, 99))
        await asyncio.sleep(0)
        assert not receiving.done()
        other.send(b"hello")
        assert await receiving == b"hello"
        buffer = bytearray(4)
        filling = asyncio.create_task(running().sock_recv_into(ours, buffer))
        await asyncio.sleep(0)
        other.send(b"more than fits")
        assert (await filling, buffer) == (4, b"more")
        other.close()
        assert await running().sock_recv(ours, 99) == b" than fits"
        assert await running().sock_recv(ours, 99) == b""

    run(main)


def test_sending_waits_for_room(run: Run, pair: Pair) -> None:
    async def main() -> None:
        ours, other = pair
        sending = asyncio.create_task(running().sock_sendall(ours, BIG))
        await asyncio.sleep(0)
        assert not sending.done()
        data = bytearray()
        while len(data) < len(BIG):
            data += await running().sock_recv(other, 1 << 20)
        await sending
        assert data == BIG

    run(main)


def test_both_directions_of_one_socket_at_once(run: Run, pair: Pair) -> None:
    async def main() -> None:
        ours, other = pair
        receiving = asyncio.create_task(running().sock_recv(ours, 99))
        sending = asyncio.create_task(running().sock_sendall(ours, BIG))
        await asyncio.sleep(0)
        other.send(b"hello")
        assert await receiving == b"hello"
        assert not sending.done()
        left = len(BIG)
        while left:
            left -= len(await running().sock_recv(other, 1 << 20))
        await sending

    run(main)


def test_a_cancelled_wait_leaves_the_data(run: Run, pair: Pair) -> None:
    async def main() -> None:
        ours, other = pair
        receiving = asyncio.create_task(running().sock_recv(ours, 99))
        await asyncio.sleep(0)
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        assert running().remove_reader(ours) is False
        other.send(b"kept")
        assert await running().sock_recv(ours, 99) == b"kept"

    run(main)


def test_a_wait_that_is_cut_short(run: Run, pair: Pair) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(running().sock_recv(pair[0], 99), 0.01)

    run(main)


def test_connecting_and_accepting(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            listener.setblocking(False)
            client.setblocking(False)
            accepting = asyncio.create_task(running().sock_accept(listener))
            await running().sock_connect(client, listener.getsockname())
            accepted, address = await accepting
            with accepted:
                assert address == client.getsockname()
                assert accepted.gettimeout() == 0

    run(main)


def test_connecting_to_nobody(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError, match=r"Connect call failed"):
                await running().sock_connect(client, address)

    run(main)


def test_blocking_sockets_are_refused_in_debug_mode(run: Run) -> None:
    async def main() -> None:
        ours, other = socket.socketpair()
        with ours, other, pytest.raises(ValueError, match="the socket must be non-blocking"):
            await running().sock_recv(ours, 1)

    run(main, debug=True)


def test_a_socket_of_a_transport_is_refused(run: Run) -> None:
    async def main() -> None:
        ours, other = socket.socketpair()
        transport, _ = await running().create_connection(asyncio.Protocol, sock=ours)
        # Data first: the method tries before it waits.
        with pytest.raises(RuntimeError, match="is used by transport"):
            await running().sock_recv(ours, 1)
        transport.abort()
        await asyncio.sleep(0)
        other.close()

    run(main)


def test_datagrams_by_hand(run: Run) -> None:
    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
            for sock in (one, two):
                sock.setblocking(False)
                sock.bind(("127.0.0.1", 0))
            receiving = asyncio.create_task(running().sock_recvfrom(two, 99))
            await asyncio.sleep(0)
            await running().sock_sendto(one, b"hello", two.getsockname())
            assert await receiving == (b"hello", one.getsockname())

    run(main)


def test_many_sockets_wait_at_once(run: Run) -> None:
    async def main() -> None:
        pairs = [socket.socketpair() for _ in range(100)]
        for ours, other in pairs:
            ours.setblocking(False)
            other.setblocking(False)
        receiving = [asyncio.create_task(running().sock_recv(ours, 9)) for ours, _ in pairs]
        await asyncio.sleep(0)
        for number, (_, other) in enumerate(reversed(pairs)):
            other.send(b"%d" % number)
        assert await asyncio.gather(*receiving) == [b"%d" % number for number in reversed(range(100))]
        for ours, other in pairs:
            ours.close()
            other.close()

    run(main)


# --- datagrams ----------------------------------------------------------------------------------------------------


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.lost: asyncio.Future[Exception | None] = running().create_future()

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.received.put_nowait((data, address))

    def error_received(self, error: Exception) -> None:
        self.errors.put_nowait(error)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


def test_datagrams(run: Run) -> None:
    async def main() -> None:
        server, serving = await running().create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0))
        client, asking = await running().create_datagram_endpoint(
            Datagrams, remote_addr=server.get_extra_info("sockname")
        )
        for number in range(50):
            client.sendto(b"%d" % number)
        for number in range(50):
            data, address = await serving.received.get()
            assert data == b"%d" % number
            server.sendto(data, address)
        assert [(await asking.received.get())[0] for _ in range(50)] == [b"%d" % number for number in range(50)]
        for transport, protocol in ((server, serving), (client, asking)):
            transport.close()
            assert await protocol.lost is None

    run(main)


def test_a_datagram_to_nobody(run: Run) -> None:
    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            address = nobody.getsockname()
        transport, protocol = await running().create_datagram_endpoint(Datagrams, remote_addr=address)
        transport.sendto(b"anybody?")
        assert isinstance(await protocol.errors.get(), ConnectionRefusedError)
        transport.abort()
        await protocol.lost

    run(main)


# --- pipes --------------------------------------------------------------------------------------------------------


def test_pipes(run: Run) -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        reader = asyncio.StreamReader()
        source, _ = await running().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
        )
        sink, protocol = await running().connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop=running()), os.fdopen(writing, "wb", 0)
        )
        sink.write(BIG)
        assert await reader.readexactly(len(BIG)) == BIG
        sink.write(b"the end")
        sink.close()
        assert await reader.read() == b"the end"
        source.close()
        await asyncio.sleep(0)
        assert protocol is not None

    run(main)


def test_a_pipe_whose_reader_leaves(run: Run) -> None:
    class Told(asyncio.BaseProtocol):
        def connection_lost(self, error: Exception | None) -> None:
            lost.set_result(error)

    async def main() -> None:
        nonlocal lost
        lost = running().create_future()
        reading, writing = os.pipe()
        sink, _ = await running().connect_write_pipe(Told, os.fdopen(writing, "wb", 0))
        os.close(reading)
        assert isinstance(await lost, BrokenPipeError | None)
        assert sink.is_closing()

    lost: asyncio.Future[Exception | None]
    run(main)
