"""Addresses: where a server of the loop listens, and from where and to where a connection goes."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.streams import Recorder

Run = Callable[..., Any]
since_313 = pytest.mark.skipif(sys.version_info < (3, 13), reason="since Python 3.13")


def running() -> AbstractEventLoop:
    return asyncio.get_running_loop()


# --- servers ------------------------------------------------------------------------------------------------------


def test_several_hosts(run: Run) -> None:
    async def main() -> None:
        server = await running().create_server(Recorder, ["127.0.0.1", "127.0.0.2"], 0)
        assert sorted(sock.getsockname()[0] for sock in server.sockets) == ["127.0.0.1", "127.0.0.2"]
        server.close()
        await server.wait_closed()

    run(main)


def test_a_socket_that_is_given(run: Run) -> None:
    async def main() -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = await running().create_server(Recorder, sock=listener)
        with socket.create_connection(server.sockets[0].getsockname()):
            server.close()
        assert listener.fileno() == -1

    run(main)


def test_a_port_that_is_taken(run: Run) -> None:
    async def main() -> None:
        server = await running().create_server(Recorder, "127.0.0.1", 0)
        _, port = server.sockets[0].getsockname()
        with pytest.raises(OSError, match="error while attempting to bind on address") as caught:
            await running().create_server(Recorder, "127.0.0.1", port)
        assert caught.value.errno == errno.EADDRINUSE
        server.close()

    run(main)


def test_reuse_port(run: Run) -> None:
    async def main() -> None:
        first = await running().create_server(Recorder, "127.0.0.1", 0, reuse_port=True)
        port = first.sockets[0].getsockname()[1]
        second = await running().create_server(Recorder, "127.0.0.1", port, reuse_port=True)
        first.close()
        second.close()

    run(main)


def test_a_unix_socket(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "socket"
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await running().create_unix_server(factory, path)
        transport, protocol = await running().create_unix_connection(Recorder, str(path))
        transport.write(b"hello")
        while not made:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        assert await made[0].receives(5) == b"hello"
        assert made[0].transport.get_extra_info("sockname") == str(path)
        assert made[0].transport.get_extra_info("peername") == ""
        assert transport.get_extra_info("peername") == str(path)
        transport.close()
        await protocol.lost
        await made[0].lost
        server.close()
        await server.wait_closed()
        assert path.exists() is (sys.version_info < (3, 13))

    run(main)


@since_313
def test_a_unix_socket_that_is_left_behind_on_purpose(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "socket"
        server = await running().create_unix_server(Recorder, path, cleanup_socket=False)
        server.close()
        await server.wait_closed()
        assert path.exists()

    run(main)


def test_an_abstract_unix_socket(run: Run) -> None:
    async def main() -> None:
        name = f"\0wireway-test-{os.getpid()}"
        server = await running().create_unix_server(Recorder, name)
        transport, protocol = await running().create_unix_connection(Recorder, name)
        assert transport.get_extra_info("peername") == name.encode()
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()

    run(main)


# --- connections --------------------------------------------------------------------------------------------------


class Listening:
    """A plain listening socket; `accept` gives who came."""

    def __init__(self, host: str = "127.0.0.1", family: int = socket.AF_INET) -> None:
        self.socket = socket.socket(family)
        self.socket.bind((host, 0))
        self.socket.listen()
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    async def accept(self) -> socket.socket:
        return (await running().sock_accept(self.socket))[0]

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


async def end(transport: Any, protocol: Recorder, *others: socket.socket) -> None:
    transport.close()
    await protocol.lost
    for other in others:
        other.close()


def test_a_name_is_resolved(run: Run) -> None:
    async def main() -> None:
        with Listening() as listening:
            transport, protocol = await running().create_connection(Recorder, "localhost", listening.port)
            other = await listening.accept()
            assert transport.get_extra_info("peername") == ("127.0.0.1", listening.port)
            await end(transport, protocol, other)

    run(main)


def test_a_local_address(run: Run) -> None:
    async def main() -> None:
        with Listening() as listening:
            made = await running().create_connection(Recorder, "127.0.0.1", listening.port, local_addr=("127.0.0.3", 0))
            other = await listening.accept()
            assert other.getpeername()[0] == "127.0.0.3"
            await end(*made, other)

    run(main)


def test_a_local_address_that_can_not_be(run: Run) -> None:
    async def main() -> None:
        with Listening() as listening, pytest.raises(OSError, match="error while attempting to bind on address"):
            await running().create_connection(Recorder, "127.0.0.1", listening.port, local_addr=("192.0.2.1", 0))

    run(main)


def test_a_socket_that_is_connected_already(run: Run) -> None:
    async def main() -> None:
        with Listening() as listening:
            sock = socket.create_connection(("127.0.0.1", listening.port))
            transport, protocol = await running().create_connection(Recorder, sock=sock)
            other = await listening.accept()
            await running().sock_sendall(other, b"hello")
            assert await protocol.receives(5) == b"hello"
            assert transport.get_extra_info("socket").fileno() == sock.fileno()
            await end(transport, protocol, other)
            assert sock.fileno() == -1

    run(main)


def test_sockets_that_are_refused(run: Run) -> None:
    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(ValueError, match="Stream Socket"):
            await running().create_connection(Recorder, sock=datagrams)
        with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
            await running().create_connection(Recorder, "127.0.0.1", 1, sock=socket.socket.__new__(socket.socket))
        with pytest.raises(ValueError, match="host and port was not specified and no sock specified"):
            await running().create_connection(Recorder)

    run(main)


def test_nobody_listens(run: Run) -> None:
    async def main() -> None:
        with Listening() as listening:
            port = listening.port
        with pytest.raises(ConnectionRefusedError) as caught:
            await running().create_connection(Recorder, "127.0.0.1", port)
        assert f"Connect call failed ('127.0.0.1', {port})" in str(caught.value)
        with pytest.raises(FileNotFoundError):
            await running().create_unix_connection(Recorder, "/nonexistent/socket")

    run(main)


def test_the_next_address_is_tried(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Happy eyeballs and the plain way: a name with two addresses, of which one refuses."""

    async def main() -> None:
        with Listening() as listening:
            monkeypatch.setattr(running(), "getaddrinfo", resolve)
            for options in ({}, {"happy_eyeballs_delay": 0.01}, {"happy_eyeballs_delay": 10, "interleave": 2}):
                made = await running().create_connection(Recorder, "two.invalid", listening.port, **options)
                assert made[0].get_extra_info("peername") == ("127.0.0.1", listening.port)
                await end(*made, await listening.accept())
            with pytest.raises(OSError, match=r"Multiple exceptions: .*Connect call failed"):
                await running().create_connection(Recorder, "two.invalid", 1)

    async def resolve(_host: str, port: int, **_: Any) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (host, port)) for host in ("127.0.0.9", "127.0.0.1")]

    run(main)


def test_a_connecting_that_is_cancelled_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        with Listening() as listening:
            connecting = asyncio.create_task(running().create_connection(Recorder, "127.0.0.1", listening.port))
            await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting

    run(main)


def test_an_accepted_socket_becomes_a_transport(run: Run) -> None:
    async def main() -> None:
        with Listening() as listening, socket.create_connection(("127.0.0.1", listening.port)) as client:
            accepted = await listening.accept()
            transport, protocol = await running().connect_accepted_socket(Recorder, accepted)
            client.sendall(b"hello")
            assert await protocol.receives(5) == b"hello"
            transport.write(b"welcome")
            await asyncio.sleep(0)
            client.settimeout(30)
            assert client.recv(99) == b"welcome"
            await end(transport, protocol)

    run(main)


def test_ipv6(run: Run) -> None:
    async def main() -> None:
        try:
            listening = Listening("::1", socket.AF_INET6)
        except OSError:
            pytest.skip("no IPv6 here")
        with listening:
            transport, protocol = await running().create_connection(Recorder, "::1", listening.port)
            other = await listening.accept()
            assert transport.get_extra_info("peername") == ("::1", listening.port, 0, 0)
            await end(transport, protocol, other)
        server = await running().create_server(Recorder, "::1", 0)
        assert server.sockets[0].getsockname()[0] == "::1"
        server.close()

    run(main)


def test_a_protocol_factory_that_fails(run: Run) -> None:
    async def main() -> None:
        def factory() -> Recorder:
            raise LookupError("lost")

        ours, other = socket.socketpair()
        with ours, other, pytest.raises(LookupError, match="lost"):
            await running().create_connection(factory, sock=ours)

    run(main)
