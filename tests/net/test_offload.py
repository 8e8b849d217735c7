"""Blocking handlers in threads: others are served meanwhile, order is kept, failures stay where they are.

What blocks waits for an event that the test sets once it has seen what it wanted to see.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

import wireway
from conftest import Run
from support.peers import Ends, Peer, connected, frame
from wireway import Connection, LengthPrefix, Server
from wireway.config import Buffers
from wireway.net.offload import ThreadConnection

BLOCKED = 30.0
"""Seconds after which what blocks gives up, so that a failing test ends."""


def make(**options: Any) -> tuple[Server, Ends]:
    """A server without a handler yet."""
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4), **options)
    return server, Ends(server)


async def ask(peer: Peer, message: bytes) -> bytes:
    await peer.send(frame(message))
    return await answer(peer)


async def answer(peer: Peer) -> bytes:
    size = int.from_bytes(await peer.receive(4), "big")
    return await peer.receive(size)


async def until(happened: threading.Event) -> None:
    assert await asyncio.to_thread(happened.wait, BLOCKED)


class Gate:
    """A blocking handler that a test opens. `begun` is set when a call waits."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self.threads: set[int] = set()
        self.seen: list[bytes] = []

    def __call__(self, conn: ThreadConnection, message: bytes) -> bytes | None:
        self.threads.add(threading.get_ident())
        if message == b"wait":
            self.begun.set()
            assert self.open.wait(BLOCKED)
        self.seen.append(message)
        return message


# --- threads ---


def test_while_one_blocks_others_are_answered(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        gate = Gate()
        server.on_message(threads=2)(gate)
        async with server, connected(server) as slow, connected(server) as quick:
            await slow.send(frame(b"wait") + frame(b"next"))
            await until(gate.begun)
            assert [await ask(quick, b"%d" % number) for number in range(5)] == [b"%d" % n for n in range(5)]
            assert gate.seen == [b"0", b"1", b"2", b"3", b"4"], "the slow one's next message waits"
            gate.open.set()
            assert [await answer(slow), await answer(slow)] == [b"wait", b"next"]
            assert threading.get_ident() not in gate.threads

    run(main)


@pytest.mark.parametrize("how", ["decorator", "server", "class"])
def test_ways_to_say_it(run: Run, how: str) -> None:
    def where(_conn: ThreadConnection, _message: bytes) -> bytes:
        return threading.current_thread().name.encode()

    class Handler:
        on_message = staticmethod(where)

    async def main() -> None:
        server, _ = make(
            **{"decorator": {}, "server": {"threads": 1}, "class": {"threads": 1, "handler": Handler}}[how]
        )
        if how == "decorator":
            assert server.on_message(threads=1)(where) is where
        elif how == "server":
            assert server.on_message(where) is where
        async with server, connected(server) as peer:
            assert re.match(rb"wireway-.*where-1", await ask(peer, b"x"))

    run(main)


def test_each_connections_messages_keep_their_order(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        lock, inside, most = threading.Lock(), dict[int, int](), 0

        @server.on_message(threads=4)
        def count(conn: ThreadConnection, message: bytes) -> bytes:
            nonlocal most
            with lock:
                inside[conn.id] = inside.get(conn.id, 0) + 1
                most = max(most, inside[conn.id])
            with lock:
                inside[conn.id] -= 1
            return message

        async with server, connected(server) as one, connected(server) as two:
            messages = [b"%d" % number for number in range(300)]
            for peer in (one, two):
                await peer.send(b"".join(map(frame, messages)))
            for peer in (one, two):
                assert [await answer(peer) for _ in messages] == messages
        assert most == 1

    run(main)


def test_the_queue_is_bounded(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        gate = Gate()
        server.on_message(threads=1, queue=2)(gate)
        async with server, connected(server) as one, connected(server) as two, connected(server) as three:
            await one.send(frame(b"wait"))
            await until(gate.begun)
            for peer in (two, three):
                await peer.send(frame(b"x"))
            while server.stats.handlers < 3:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0)
            pool = server._pool
            assert pool is not None
            assert pool._jobs.qsize() == 1, "one runs, one is queued, one waits outside"
            gate.open.set()
            assert [await answer(peer) for peer in (one, two, three)] == [b"wait", b"x", b"x"]

    run(main)


RESULTS: list[tuple[Callable[[], Any], list[bytes]]] = [
    (lambda: None, []),
    (lambda: b"one", [b"one"]),
    (lambda: bytearray(b"one"), [b"one"]),
    (lambda: b"", [b""]),
    (lambda: [b"one", b"two"], [b"one", b"two"]),
    (lambda: (str(number).encode() for number in range(3)), [b"0", b"1", b"2"]),
    (list, []),
]


@pytest.mark.parametrize(("make_result", "sent"), RESULTS)
def test_what_it_returns_is_sent(run: Run, make_result: Callable[[], Any], sent: list[bytes]) -> None:
    async def main() -> None:
        server, _ = make()
        server.on_message(threads=1)(lambda conn, message: message if message == b"end" else make_result())
        async with server, connected(server) as peer:
            await peer.send(frame(b"x") + frame(b"end"))
            assert [await answer(peer) for _ in [*sent, b"end"]] == [*sent, b"end"]

    run(main)


def raises(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    ("fail", "why"),
    [
        (lambda: raises(ValueError("no good")), "ValueError: no good"),
        (lambda: raises(StopIteration(5)), "RuntimeError: the handler raised StopIteration"),
        (lambda: raises(SystemExit(1)), "RuntimeError: .*raised SystemExit"),
        (lambda: raises(KeyboardInterrupt()), "RuntimeError: .*raised KeyboardInterrupt"),
        (lambda: raises(asyncio.CancelledError()), "RuntimeError: .*raised CancelledError"),
        (lambda: "text", "TypeError: .* returned str: bytes, an iterable of bytes, or None can be sent"),
        (lambda: 5, "TypeError: .* returned int: "),
        (lambda: [b"one", 5], "TypeError: .* returned an iterable with int in it: only bytes can be sent"),
    ],
)
def test_a_failure_ends_that_connection_only(
    run: Run, fail: Callable[[], Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server, ends = make()
        server.on_message(threads=1)(lambda conn, message: fail() if message == b"fail" else message)
        async with server, connected(server) as good, connected(server) as bad:
            await bad.send(frame(b"fail") + frame(b"never"))
            await bad.rest()
            reason = await ends.next()
            assert reason.code == "handler-error"
            assert re.match(why, reason.why)
            assert await ask(good, b"still here") == b"still here"

    with caplog.at_level(logging.CRITICAL, "wireway.server"):
        run(main)


def test_what_the_thread_sees_and_sends(run: Run) -> None:
    async def main() -> None:
        server, ends = make()
        seen: list[Any] = []

        @server.on_connect
        def greet(conn: Connection) -> None:
            conn.state = "greeted"
            seen.append((conn.id, conn.peer, conn.local, "greeted", False))

        @server.on_message(threads=1)
        def answer_twice(conn: ThreadConnection, message: bytes) -> bytes:
            seen.append((conn.id, conn.peer, conn.local, conn.state, conn.is_closing))
            conn.send(b"first")
            if message == b"close":
                conn.close("enough")
                with pytest.raises(wireway.ConnectionClosedError, match="enough"):
                    conn.send(b"too late")
            elif message == b"abort":
                conn.abort("quite enough")
            return b"second"

        async with server, connected(server) as peer, connected(server) as other:
            await peer.send(frame(b"x"))
            assert [await answer(peer), await answer(peer)] == [b"first", b"second"]
            assert seen[-1] == next(each for each in seen if each[1] == peer.sock.getsockname())
            await peer.send(frame(b"close"))
            assert await peer.rest() == frame(b"first")
            assert (await ends.next()).why == "enough"
            await other.send(frame(b"abort"))
            await other.gone()
            assert (await ends.next()).why == "quite enough"

    run(main)


def test_send_blocks_above_the_watermark(run: Run) -> None:
    async def main() -> None:
        server, _ = make(buffers=Buffers(low=1000, high=10_000))
        piece, total, sent = bytes(1 << 16), 256, 0

        @server.on_message(threads=1)
        def pour(conn: ThreadConnection, _message: bytes) -> None:
            nonlocal sent
            for _ in range(total):
                conn.send(piece)
                sent += 1

        async with server, connected(server, buffer=1 << 14) as peer:
            await peer.send(frame(b"x"))
            while not server.connections or server.connections[0].writable:  # noqa: ASYNC110 - nothing to wait for
                await asyncio.sleep(0)
            assert server.connections[0].queued <= 10_000 + len(piece) + 4
            assert sent < total
            for _ in range(total):
                assert await answer(peer) == piece

    run(main)


def test_a_send_that_blocks_ends_with_its_connection(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server, ends = make(buffers=Buffers(low=1000, high=10_000))
        raised = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        @server.on_message(threads=1)
        def pour(conn: ThreadConnection, _message: bytes) -> None:
            try:
                while True:
                    conn.send(bytes(1 << 16))
            except wireway.ConnectionClosedError as error:
                loop.call_soon_threadsafe(raised.set_result, error)

        async with server, connected(server, buffer=1 << 14) as peer:
            await peer.send(frame(b"x"))
            while not server.connections or server.connections[0].writable:  # noqa: ASYNC110 - nothing to wait for
                await asyncio.sleep(0)
            peer.reset()
            await raised
            assert (await ends.next()).code == "peer-reset"

    with caplog.at_level(logging.CRITICAL, "wireway.server"):
        run(main)


def test_its_connection_is_not_for_the_loops_thread(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        kept: list[ThreadConnection] = []
        server.on_message(threads=1)(lambda conn, message: kept.append(conn) or message)
        async with server, connected(server) as peer:
            await ask(peer, b"x")
            with pytest.raises(wireway.WirewayError, match="is for its handler's thread"):
                kept[0].send(b"x")

    run(main)


def test_a_running_call_gets_the_drain_timeout(run: Run) -> None:
    async def main() -> None:
        server, ends = make()
        gate = Gate()
        server.on_message(threads=1)(gate)
        async with server, connected(server) as peer:
            await peer.send(frame(b"wait") + frame(b"next"))
            await until(gate.begun)
            closing = asyncio.create_task(server.close())
            await asyncio.sleep(0)
            assert not closing.done()
            gate.open.set()
            await closing
            assert await peer.rest() == frame(b"wait")
            assert [end.code for end in ends.all()] == ["server-stopped"]
        assert gate.seen == [b"wait"]

    run(main)


def test_a_call_that_takes_longer_is_left_alone(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    gate, closed = Gate(), threading.Event()

    def late(conn: ThreadConnection, message: bytes) -> None:
        gate(conn, message)
        with pytest.raises(wireway.ConnectionClosedError, match="the server has stopped"):
            conn.send(b"too late")
        closed.set()

    async def main() -> None:
        server, ends = make(drain_timeout=0.05)
        server.on_message(threads=1)(late)
        async with server, connected(server) as peer:
            await peer.send(frame(b"wait"))
            await until(gate.begun)
            await server.close()
            assert [end.code for end in ends.all()] == ["aborted"]
            await peer.gone()

    with caplog.at_level(logging.CRITICAL, "wireway.server"):
        run(main)
    gate.open.set()
    assert closed.wait(BLOCKED)


def test_the_threads_end_with_the_server(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        threads: list[threading.Thread] = []

        @server.on_message(threads=3)
        def keep(_conn: ThreadConnection, message: bytes) -> bytes:
            threads.append(threading.current_thread())
            return message

        for _ in range(2):
            async with server, connected(server) as peer:
                assert await ask(peer, b"x") == b"x"
        for thread in threads:
            await asyncio.to_thread(thread.join, BLOCKED)
            assert not thread.is_alive()

    run(main)
