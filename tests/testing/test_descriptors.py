"""`no_descriptors` takes them all and gives them back; `no_leaks` names what was left."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import threading

import pytest

from conftest import Run
from support.peers import Peer, connected
from wireway import ConfigError, Server
from wireway.testing import LeakError, no_descriptors, no_leaks, open_descriptors


def test_nothing_can_be_opened_and_then_it_can() -> None:
    before, limit = open_descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)
    with no_descriptors():
        with pytest.raises(OSError, match="Too many open files") as raised:
            os.open(os.devnull, os.O_RDONLY)
        assert raised.value.errno == errno.EMFILE
        with pytest.raises(OSError, match="Too many open files"):
            socket.socket()
    assert (open_descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)) == (before, limit)


def test_some_are_left_taken_and_freed() -> None:
    with no_descriptors(leave=2) as table:
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(2)]
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        os.close(files.pop())
        assert table.take() == 1
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        table.free(1)
        os.close(os.open(os.devnull, os.O_RDONLY))
        os.close(files.pop())
        with pytest.raises(ConfigError, match="descriptors are held"):
            table.free(1 << 30)


def test_a_number_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave is -1"), no_descriptors(-1):
        pass
    with pytest.raises(ConfigError, match="within is -1"):
        no_leaks(-1)


def test_an_exception_gives_them_back_too() -> None:
    before = open_descriptors()
    with pytest.raises(ZeroDivisionError), no_descriptors():
        raise ZeroDivisionError
    assert open_descriptors() == before


def test_accepting_pauses_while_there_are_none(run: Run) -> None:
    async def main() -> None:
        told: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: told.put_nowait(str(context["message"])))
        server = Server("tcp://127.0.0.1:0")
        server.on_message(lambda conn, message: conn.send_nowait(message))
        async with server:
            port = int(server.addresses[0].rpartition(":")[2])
            with socket.socket() as first, socket.socket() as second, no_descriptors() as table:
                for sock in (first, second):
                    sock.setblocking(False)
                    await loop.sock_connect(sock, ("127.0.0.1", port))
                assert "out of system resource" in await told.get()
                assert server.stats.open == 0
                table.free(2)
                for sock in (first, second):
                    peer = Peer(sock)
                    await peer.send(b"x")
                    assert await peer.receive(1) == b"x"
                assert server.stats.open == 2

    run(main)


def test_nothing_left_is_nothing_said(run: Run) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0")
        server.on_message(lambda conn, message: conn.send_nowait(message))
        async with no_leaks(), server, connected(server) as peer:
            await peer.send(b"x")
            assert await peer.receive(1) == b"x"

    with no_leaks():
        run(main)


def test_a_socket_left_open_is_named_with_its_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(LeakError, match=f"to 127.0.0.1:{port}") as raised, no_leaks(within=0):
            left = socket.create_connection(("127.0.0.1", port))
        assert isinstance(raised.value, AssertionError)
        assert f"descriptor {left.fileno()}: socket:[" in raised.value.left[0]
        assert f"INET STREAM 127.0.0.1:{left.getsockname()[1]}" in raised.value.left[0]
        left.close()
    with pytest.raises(LeakError, match=r"listening on 127\.0\.0\.1"), no_leaks(within=0):
        left = socket.create_server(("127.0.0.1", 0))
    left.close()


def test_a_number_that_was_used_again_is_seen() -> None:
    before = socket.socket()
    number = before.fileno()
    leaks = no_leaks(within=0)
    with leaks:
        before.close()
    after = socket.socket()
    assert after.fileno() == number
    assert f"descriptor {number}: socket:" in leaks.left()[0]
    after.close()


def test_a_thread_is_named_unless_it_ends_in_time() -> None:
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, name="straggler")
    with pytest.raises(LeakError, match="thread straggler"), no_leaks(within=0):
        thread.start()
    with no_leaks(within=30):
        another = threading.Thread(target=go_on.wait)
        another.start()
        threading.Timer(0.05, go_on.set).start()
    thread.join()
    another.join()


def test_a_task_is_named_unless_it_ends_in_time(run: Run) -> None:
    async def main() -> None:
        async def wait() -> None:
            await go_on.wait()

        go_on = asyncio.Event()
        with pytest.raises(LeakError, match=r"task straggler: <coroutine object .*wait"):
            async with no_leaks(within=0.01):
                task = asyncio.create_task(wait(), name="straggler")
        go_on.set()
        async with no_leaks(within=30):
            another = asyncio.create_task(wait())
        await task
        await another

    run(main)


def test_an_error_of_the_block_goes_first() -> None:
    left: list[socket.socket] = []
    with pytest.raises(ZeroDivisionError), no_leaks(within=0):
        left.append(_fails(left))
    left[0].close()


def _fails(left: list[socket.socket]) -> socket.socket:
    left.append(socket.socket())
    raise ZeroDivisionError
