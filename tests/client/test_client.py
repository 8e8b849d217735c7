"""A client with one connection: it opens, sends, receives, asks, and ends; and says so."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest

import wireway
from client.support import FRAMED, States, connected, listening
from conftest import Run
from wireway import ConfigError, ConnectionClosedError, WirewayError
from wireway.config import Buffers, Heartbeat, Timeouts
from wireway.errors import RequestTimeoutError
from wireway.net.client import Client, connect
from wireway.net.sending import SendResult


def test_it_sends_and_receives(run: Run) -> None:
    async def main() -> None:
        async with connected() as (client, server):
            assert client.state == "open"
            assert client.connection is not None
            assert client.connection.peer == server.sock.getsockname()
            await client.send(b"one")
            assert client.send_nowait(bytearray(b"two")) is SendResult.QUEUED
            assert [await server.gets(), await server.gets()] == [b"one", b"two"]
            await server.says(b"three", b"four")
            assert [await client.receive(), await client.receive()] == [b"three", b"four"]

    run(main)


def test_it_is_awaited_as_well_as_entered(run: Run) -> None:
    async def main() -> None:
        async with listening() as there:
            client = await connect(there.url, framing=FRAMED)
            with pytest.raises(WirewayError, match=r"a client is opened once, and this one is open: make another"):
                await client
            await client.close()
            await client.close()
            assert client.state == "closed"
            assert client.connection is None
            with pytest.raises(WirewayError, match="opened once"):
                await client

    run(main)


def test_unix(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        server = wireway.Server(f"unix://{tmp_path}/socket", framing=FRAMED)
        server.on_message(lambda conn, message: conn.send_nowait(message))
        async with server, connect(server.addresses[0], framing=FRAMED) as client:
            assert await client.request(b"hello") == b"hello"

    run(main)


def test_the_states_are_told(run: Run) -> None:
    async def main() -> None:
        states = States()
        async with connected(on_state=states) as (client, server):
            assert states.seen == ["connecting", "open"]
            server.close()
            await states.until("closed")
            assert states.seen[2:] == ["closed: peer-closed"]
            assert client.closed_reason is not None
            assert client.closed_reason.code == "peer-closed"

    run(main)


def test_an_on_state_that_fails_is_reported(run: Run) -> None:
    def fail(_client: Client, state: Any, _reason: Any) -> None:
        if state == "open":
            raise ValueError("in on_state")

    async def main() -> None:
        seen: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context["exception"]))
        async with connected(on_state=fail) as (client, server):
            await client.send(b"x")
            await server.gets()
        assert [str(error) for error in seen] == ["in on_state"]

    run(main)


# --- receiving -----------------------------------------------------------------------------------------------


def test_messages_are_iterated_until_the_server_closes(run: Run) -> None:
    async def main() -> None:
        async with connected() as (client, server):
            await server.says(b"one", b"two")
            server.close()
            assert [message async for message in client] == [b"one", b"two"]
            with pytest.raises(ConnectionClosedError, match="closed: peer-closed"):
                await client.receive()

    run(main)


def test_iterating_ends_with_an_error_at_a_reset(run: Run) -> None:
    async def main() -> None:
        async with connected() as (client, server):
            reading = asyncio.create_task(client.receive())
            await asyncio.sleep(0)
            server.reset()
            with pytest.raises(ConnectionClosedError, match="peer-reset"):
                await reading
            with pytest.raises(ConnectionClosedError, match="peer-reset"):
                await anext(aiter(client))

    run(main)


def test_several_may_wait_for_messages_and_be_cancelled(run: Run) -> None:
    async def main() -> None:
        async with connected() as (client, server):
            waiting = [asyncio.create_task(client.receive()) for _ in range(4)]
            await asyncio.sleep(0)
            waiting[1].cancel()
            await server.says(b"a", b"b", b"c", b"d")
            assert [await waiting[0], await waiting[2], await waiting[3]] == [b"a", b"b", b"c"]
            assert await client.receive() == b"d"

    run(main)


def test_messages_that_nobody_takes_pause_reading(run: Run) -> None:
    async def main() -> None:
        total, size = 400, 64 * 1024
        async with connected() as (client, server):
            sending = asyncio.create_task(
                server.says(*[number.to_bytes(2, "big") * (size // 2) for number in range(total)])
            )
            while client.unread < 16:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.001)
            for _ in range(20):
                await asyncio.sleep(0)
            assert client.unread < 64, "bounded"
            for number in range(total):
                assert (await client.receive())[:2] == number.to_bytes(2, "big")
            await sending

    run(main)


def test_a_plain_on_message(run: Run) -> None:
    async def main() -> None:
        got: asyncio.Queue[bytes] = asyncio.Queue()
        async with connected(on_message=lambda _client, message: got.put_nowait(message)) as (client, server):
            await server.says(b"one", b"two")
            assert [await got.get(), await got.get()] == [b"one", b"two"]
            with pytest.raises(WirewayError, match="has an on_message"):
                await client.receive()

    run(main)


def test_an_on_message_may_ask_the_server(run: Run) -> None:
    async def main() -> None:
        done: asyncio.Queue[bytes] = asyncio.Queue()

        async def handle(client: Client, message: bytes) -> None:
            done.put_nowait(message + await client.request(b"more?", deadline=10))

        async with connected(on_message=handle) as (_client, server):
            await server.says(b"event ")
            assert await server.gets() == b"more?"
            await server.says(b"yes", b"event two ")
            assert await server.gets() == b"more?"
            await server.says(b"no")
            assert [await done.get(), await done.get()] == [b"event yes", b"event two no"]

    run(main)


@pytest.mark.parametrize("suspends", [False, True])
def test_an_on_message_that_fails_closes_the_connection(
    run: Run, suspends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(_client: Client, _message: bytes) -> None:
        raise ValueError("in on_message")

    async def later(_client: Client, _message: bytes) -> None:
        await asyncio.sleep(0)
        raise ValueError("in on_message")

    async def main() -> None:
        states = States()
        async with connected(on_message=later if suspends else plain, on_state=states) as (client, server):
            await server.says(b"x")
            await states.until("closed")
            assert states.seen[-1] == "closed: handler-error"
            assert client.closed_reason is not None
            assert str(client.closed_reason.error) == "in on_message"

    with caplog.at_level(logging.CRITICAL):
        run(main)


# --- requests ------------------------------------------------------------------------------------------------


def test_requests_are_pipelined_and_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with connected() as (client, server):
            asking = [asyncio.create_task(client.request(b"%d" % number)) for number in range(3)]
            assert [await server.gets() for _ in range(3)] == [b"0", b"1", b"2"]
            await server.says(b"A", b"B", b"C")
            assert await asyncio.gather(*asking) == [b"A", b"B", b"C"]

    run(main)


def test_a_late_answer_is_swallowed_in_its_place(run: Run) -> None:
    async def main() -> None:
        async with connected() as (client, server):
            with pytest.raises(RequestTimeoutError, match=r"^no answer within 0\.01 s$"):
                await client.request(b"slow", deadline=0.01)
            asking = asyncio.create_task(client.request(b"next"))
            assert [await server.gets(), await server.gets()] == [b"slow", b"next"]
            await server.says(b"late", b"in time", b"event")
            assert await asking == b"in time"
            assert await client.receive() == b"event"

    run(main)


def test_requests_under_way_fail_when_it_closes(run: Run) -> None:
    async def main() -> None:
        async with connected() as (client, server):
            asking = [asyncio.create_task(client.request(b"x")) for _ in range(3)]
            await server.gets()
            server.reset()
            for error in await asyncio.gather(*asking, return_exceptions=True):
                assert isinstance(error, ConnectionClosedError)
                assert "ended before the answer: peer-reset" in str(error)
            with pytest.raises(ConnectionClosedError, match="is closed: peer-reset"):
                await client.request(b"x")

    run(main)


@pytest.mark.parametrize("deadline", [0, -1, True, float("nan"), "1"])
def test_a_deadline_is_a_number_of_seconds(run: Run, deadline: Any) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="deadline is"):
            await connect("tcp://127.0.0.1:1").request(b"x", deadline=deadline)

    run(main)


def test_answers_in_order_do_not_go_with_dropping(run: Run) -> None:
    async def main() -> None:
        async with connected(buffers=Buffers(when_slow="drop-oldest")) as (client, _server):
            with pytest.raises(ConfigError, match=r"answers in order need every message to arrive"):
                await client.request(b"x")

    run(main)


def test_heartbeats_find_a_silent_server(run: Run) -> None:
    async def main() -> None:
        states = States()
        beat = Heartbeat(every=0.02, ping=b"ping", pong=b"pong", jitter=0)
        async with connected(heartbeat=beat, on_state=states) as (client, server):
            assert await server.gets() == b"ping"
            await server.says(b"pong", b"event")
            assert await client.receive() == b"event"
            assert await server.gets() == b"ping"
            await states.until("closed: heartbeat-timeout")

    run(main)


# --- the end -------------------------------------------------------------------------------------------------


def test_close_lets_everything_leave(run: Run) -> None:
    async def main() -> None:
        async with connected() as (client, server):
            message = b"x" * 3_000_000
            client.send_nowait(message)
            closing = asyncio.create_task(client.close())
            assert await server.gets() == message
            assert await server.rest() == b""
            server.close()
            await closing
            assert client.closed_reason is not None
            assert client.closed_reason.code == "closed"

    run(main)


def test_abort_ends_at_once(run: Run) -> None:
    async def main() -> None:
        states = States()
        async with connected(on_state=states) as (client, server):
            client.abort("enough")
            assert client.state == "closed"
            assert client.closed_reason is not None
            assert (client.closed_reason.code, client.closed_reason.why) == ("aborted", "enough")
            await server.gone()
            assert states.seen[2:] == ["closing", "closed: aborted"]

    run(main)


def test_cancelling_close_aborts(run: Run) -> None:
    async def main() -> None:
        async with connected(timeouts=Timeouts(close_linger=60)) as (client, _server):
            client.send_nowait(b"x" * 16_000_000)  # nobody reads it
            closing = asyncio.create_task(client.close())
            await asyncio.sleep(0)
            assert client.state == "closing"
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert client.state == "closed"

    run(main)


def test_a_client_that_is_lost_is_closed_with_a_warning(run: Run) -> None:
    async def main() -> None:
        async with listening() as there:
            client: Client | None = await connect(there.url)
            server = await there.accept()
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                del client
                gc.collect()
            (warning,) = [each for each in seen if each.category is ResourceWarning]
            assert f"the client of {there.url}, made at {__file__}:" in str(warning.message)
            await server.gone()

    run(main)
