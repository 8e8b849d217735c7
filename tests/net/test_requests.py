"""A server that asks its clients: `Connection.request`, also while a handler of that connection is suspended."""

from __future__ import annotations

import asyncio

import pytest

from conftest import Run
from support.peers import Ends, connected, frame
from wireway import (
    ConfigError,
    Connection,
    ConnectionClosedError,
    Correlate,
    LengthPrefix,
    RequestTimeoutError,
    Server,
)

BY_FIRST_BYTE = Correlate(
    request_id=lambda message: message[0], answer_id=lambda message: message[0] if message[1:2] == b"=" else None
)


def make(requests: Correlate | None = None) -> tuple[Server, Ends]:
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4), requests=requests)
    return server, Ends(server)


def test_a_handler_asks_its_own_peer(run: Run) -> None:
    async def main() -> None:
        server, _ = make()

        @server.on_message
        async def on_message(conn: Connection, message: bytes) -> None:
            await conn.send(b"done " + message + b" " + await conn.request(b"who?", deadline=5))

        async with server, connected(server) as peer:
            await peer.send(frame(b"job"))
            assert await peer.receive(8) == frame(b"who?")
            await peer.send(frame(b"me") + frame(b"next"))
            assert await peer.receive(15) == frame(b"done job me")
            assert await peer.receive(8) == frame(b"who?")
            await peer.send(frame(b"I"))
            assert await peer.receive(15) == frame(b"done next I")

    run(main)


def test_other_messages_wait_in_order_while_an_answer_is_awaited(run: Run) -> None:
    async def main() -> None:
        server, _ = make(BY_FIRST_BYTE)
        seen: list[bytes] = []

        @server.on_message
        async def on_message(conn: Connection, message: bytes) -> None:
            seen.append(message)
            if message == b"ask":
                seen.append(b"got " + await conn.request(b"q?", deadline=5))
            elif message == b"end":
                await conn.send(b"ok")

        async with server, connected(server) as peer:
            await peer.send(frame(b"ask"))
            assert await peer.receive(6) == frame(b"q?")
            await peer.send(frame(b"one") + frame(b"two")[:3])
            await peer.send(frame(b"two")[3:] + frame(b"q=42") + frame(b"three") + frame(b"end"))
            assert await peer.receive(6) == frame(b"ok")
        assert seen == [b"ask", b"got q=42", b"one", b"two", b"three", b"end"]
        assert server.stats.messages_in == 6

    run(main)


def test_requests_are_pipelined_and_answered_in_any_order(run: Run) -> None:
    async def main() -> None:
        server, _ = make(BY_FIRST_BYTE)
        server.on_message(lambda conn, message: None)
        async with server, connected(server) as peer:
            while not server.connections:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0)
            (conn,) = server.connections
            asking = [asyncio.ensure_future(conn.request(bytes([letter]) + b"?")) for letter in b"abc"]
            assert await peer.receive(18) == frame(b"a?") + frame(b"b?") + frame(b"c?")
            await peer.send(frame(b"c=3") + frame(b"noise") + frame(b"a=1") + frame(b"b=2"))
            assert await asyncio.gather(*asking) == [b"a=1", b"b=2", b"c=3"]

    run(main)


def test_a_request_fails_with_its_deadline_and_with_its_connection(run: Run) -> None:
    async def main() -> None:
        server, _ = make()
        server.on_message(lambda conn, message: None)
        async with server:
            async with connected(server) as peer:
                while not server.connections:  # noqa: ASYNC110 - there is nothing to wait for
                    await asyncio.sleep(0)
                (conn,) = server.connections
                with pytest.raises(RequestTimeoutError, match="no answer within"):
                    await conn.request(b"late", deadline=0.01)
                asking = asyncio.ensure_future(conn.request(b"never"))
                assert await peer.receive(17) == frame(b"late") + frame(b"never")
            with pytest.raises(ConnectionClosedError, match="the peer closed"):
                await asking
            with pytest.raises(ConnectionClosedError):
                await conn.request(b"too late")

    run(main)


def test_an_id_that_can_not_be_read_ends_the_connection(run: Run) -> None:
    async def main() -> None:
        server, ends = make(Correlate(request_id=lambda message: 1, answer_id=lambda message: message[100]))
        server.on_message(lambda conn, message: None)
        async with server, connected(server) as peer:
            while not server.connections:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0)
            asking = asyncio.ensure_future(server.connections[0].request(b"?"))
            assert await peer.receive(5) == frame(b"?")
            await peer.send(frame(b"short"))
            with pytest.raises(ConnectionClosedError):
                await asking
            reason = await ends.next()
            assert reason.code == "bad-frame"
            assert "answer_id failed: IndexError" in reason.why

    run(main)


def test_what_is_no_correlate_is_refused() -> None:
    with pytest.raises(ConfigError, match="requests"):
        Server("tcp://127.0.0.1:0", requests="by id")  # type: ignore[arg-type]
