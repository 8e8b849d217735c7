"""A client whose connection is lost: it tries again, greets the server, or ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings

import pytest

from client.support import FRAMED, Clock, Listening, States, line, listening
from conftest import Run
from wireway.errors import ConnectError, ConnectionClosedError
from wireway.net.client import Client, connect
from wireway.net.reconnecting import Reconnect


def test_it_comes_back(run: Run) -> None:
    async def main() -> None:
        async with line() as its:
            await its.breaks()
            assert its.client.connection is None
            assert await its.clock.delay() == 0.5
            its.clock.over()
            server = await its.there.accept()
            await server.says(b"welcome back")
            assert await its.client.receive() == b"welcome back"
            assert its.client.reconnects == 1
            assert its.states.seen == [
                *("connecting", "open", "waiting: peer-reset"),
                *("connecting: peer-reset", "open"),
            ]

    run(main)


def test_attempts_that_fail_wait_longer_and_longer(run: Run) -> None:
    async def main() -> None:
        async with line() as its:
            its.there.sock.close()
            await its.breaks()
            assert [await its.clock.passes() for _ in range(4)] == [0.5, 1, 2, 4]
            assert await its.clock.delay() == 8
            its.there = Listening(its.there.port)
            its.clock.over()
            server = await its.there.accept()
            await its.client.send(b"here again")
            assert await server.gets() == b"here again"
            its.there.close()

    run(main)


def test_a_server_that_accepts_and_resets_is_asked_less_and_less(run: Run) -> None:
    async def main() -> None:
        async with line() as its:
            for delay in (0.5, 1, 2, 4):
                await its.breaks()
                assert await its.clock.delay() == delay
                its.clock.over()
                its.server = await its.there.accept()
                await its.states.until("open")

    run(main)


def test_exhausted_attempts_end_everything(run: Run) -> None:
    async def main() -> None:
        async with line(reconnect=Reconnect(attempts=2)) as its:
            receiving = asyncio.create_task(its.client.receive())
            its.there.sock.close()
            await its.breaks()
            asking = asyncio.create_task(its.client.request(b"x"))
            await its.clock.passes()
            await its.clock.passes()
            for waits in (receiving, asking, its.client.send(b"y"), its.client.receive()):
                with pytest.raises(ConnectError, match=r"has given up: io-error: .*Connection refused") as caught:
                    await waits
                assert len(caught.value.attempts) == 1
            with pytest.raises(ConnectError):
                await anext(aiter(its.client))
            assert its.client.dropped == 1
            assert its.client.state == "closed"

    run(main)


def test_the_first_connection_is_tried_again_only_if_told(run: Run) -> None:
    async def main() -> None:
        async with listening() as there:
            port = there.port
        with pytest.raises(ConnectError):
            await connect(there.url, reconnect=Reconnect())
        client = Client(there.url, framing=FRAMED, reconnect=Reconnect(jitter=0, at_start=True))
        clock = Clock(client)
        opening = asyncio.ensure_future(client._open())
        assert [await clock.passes() for _ in range(2)] == [0.5, 1]
        assert await clock.delay() == 2
        async with listening(port) as there:
            clock.over()
            await opening
            await there.accept()
            await client.close()
        with pytest.raises(ConnectError):
            await connect(there.url, reconnect=Reconnect(first=0, at_start=True, attempts=2))

    run(main)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_it_may_be_closed_while_it_waits(run: Run, how: str) -> None:
    async def main() -> None:
        async with line() as its:
            await its.breaks()
            await its.client.send(b"never leaves")
            if how == "close":
                await its.client.close()
            else:
                its.client.abort()
            assert its.client.state == "closed"
            assert its.client.dropped == 1
            with pytest.raises(ConnectionClosedError, match="is closed"):
                await its.client.send(b"x")

    run(main)


def test_on_state_may_close_it(run: Run) -> None:
    async def main() -> None:
        async with listening() as there:
            client = Client(
                there.url,
                reconnect=Reconnect(),
                on_state=lambda client, state, _reason: client.abort("once is enough") if state == "waiting" else None,
            )
            async with client:
                (await there.accept()).reset()
                with pytest.raises(ConnectionClosedError, match="once is enough"):
                    await client.receive()

    run(main)


def test_a_client_that_is_lost_while_it_waits_is_found_out(run: Run) -> None:
    async def main() -> None:
        async with listening() as there:
            states = States()
            client: Client | None = await connect(
                there.url, reconnect=Reconnect(first=3000, most=3000), on_state=states
            )
            (await there.accept()).reset()
            await states.until("waiting")
            before = len(asyncio.all_tasks())
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                del client
                gc.collect()
            assert [each.category for each in seen] == [ResourceWarning]
            while len(asyncio.all_tasks()) == before:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)

    run(main)


# --- on_reconnect --------------------------------------------------------------------------------------------


def test_on_reconnect_goes_first(run: Run) -> None:
    async def main() -> None:
        async def log_in(client: Client) -> None:
            assert await client.request(b"login", deadline=10) == b"ok"
            await asyncio.gather(client.send(b"subscribe a"), client.send(b"subscribe b"))

        async with line(on_reconnect=log_in) as its:
            await its.client.send(b"first")
            assert await its.server.gets() == b"first", "not at the first connection"
            await its.breaks()
            await its.client.send(b"waited")
            await its.mends()
            assert await its.server.gets() == b"login"
            its.client.send_nowait(b"newer")
            assert its.client.queued == 2, "others wait until it is done"
            await its.server.says(b"ok")
            wanted = [b"subscribe a", b"subscribe b", b"waited", b"newer"]
            assert [await its.server.gets() for _ in range(4)] == wanted

    run(main)


def test_a_plain_on_reconnect(run: Run) -> None:
    async def main() -> None:
        async with line(on_reconnect=lambda client: client.send_nowait(b"login") and None) as its:
            await its.breaks()
            await its.client.send(b"waited")
            await its.mends()
            assert [await its.server.gets(), await its.server.gets()] == [b"login", b"waited"]

    run(main)


def test_an_on_reconnect_that_fails_loses_the_connection_only(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def log_in(client: Client) -> None:
            if client.reconnects == 1:
                raise ValueError("in on_reconnect")

        async with line(on_reconnect=log_in) as its:
            await its.breaks()
            await its.client.send(b"waited")
            await its.mends()
            await its.states.until("waiting: handler-error")
            assert its.client.closed_reason is not None
            assert str(its.client.closed_reason.error) == "in on_reconnect"
            await its.mends()
            assert await its.server.gets() == b"waited"

    with caplog.at_level(logging.CRITICAL):
        run(main)


@pytest.mark.parametrize("waits", ["for an answer", "for something else"])
def test_a_connection_lost_in_on_reconnect_is_made_again(run: Run, waits: str) -> None:
    async def main() -> None:
        ended: list[type[BaseException]] = []

        async def log_in(client: Client) -> None:
            await client.send(b"login")
            if client.reconnects > 1:
                return
            try:
                if waits == "for an answer":
                    await client.request(b"password")
                else:
                    await asyncio.get_running_loop().create_future()
            except BaseException as error:
                ended.append(type(error))
                raise

        async with line(on_reconnect=log_in) as its:
            await its.breaks()
            await its.client.send(b"waited")
            await its.mends()
            assert await its.server.gets() == b"login"
            await its.breaks()
            await its.mends()
            assert [await its.server.gets(), await its.server.gets()] == [b"login", b"waited"]
            assert ended == [asyncio.CancelledError]

    run(main)


def test_on_reconnect_may_close_the_client(run: Run) -> None:
    async def main() -> None:
        async def log_in(client: Client) -> None:
            await client.close("not allowed any more")

        async with line(on_reconnect=log_in) as its:
            await its.breaks()
            await its.mends()
            with pytest.raises(ConnectionClosedError, match="closed: not allowed any more"):
                await its.client.receive()

    run(main)
