"""The checks hold for what is right and tell of what is wrong; `served` and the fixtures, which they stand on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from conftest import Run
from wireway import (
    ConfigError,
    Connection,
    CustomFraming,
    Delimiter,
    EventLoop,
    Framing,
    LengthPrefix,
    Lines,
    Raw,
    Server,
    Timeouts,
    Varint,
    WirewayError,
)
from wireway.framing import Frame, Need
from wireway.testing import FakeClock, FaultyLink, check_framing, check_service, connect_to, no_leaks, served
from wireway.testing.plugin import (  # noqa: F401 - fixtures
    wireway_backend,
    wireway_clock,
    wireway_faults,
    wireway_loop_factory,
    wireway_no_leaks,
)

MESSAGES = (b"one", b"", b"three", b"x" * 300)
DAY = 86400.0


def netstring() -> CustomFraming:
    """3:abc, as D. J. Bernstein has it."""

    def cut(data: bytes) -> Need | Frame:
        digits, colon, _ = data[:10].partition(b":")
        if digits and not digits.isdigit():
            raise ValueError("a netstring begins with a number")
        if not colon:
            return Need()
        return Frame(len(digits) + 1 + int(digits), strip=len(digits) + 1)

    return CustomFraming(cut, wrap=lambda message: b"%d:%b" % (len(message), message), max_size=1000)


@pytest.mark.parametrize("framing", [LengthPrefix(4), Lines(), Delimiter(b"\0\0"), Varint(), netstring()])
def test_right_framings_are_right(framing: Framing) -> None:
    check_framing(framing, MESSAGES)


def test_streams_that_must_be_refused() -> None:
    check_framing(netstring(), MESSAGES, refused=[b"x", b"12x:", b"2000:"])
    with pytest.raises(AssertionError, match="in one piece, b'3:abc' is taken, as b'abc'"):
        check_framing(netstring(), MESSAGES, refused=[b"3:abc"])


def test_a_framing_that_is_wrong_at_one_cut_is_found() -> None:
    def hasty(data: bytes) -> Need | Frame:
        return Frame(min(len(data), int(data[:2]) + 2), strip=2) if len(data) > 2 else Need()  # what is there

    wrong = CustomFraming(hasty, wrap=lambda message: b"%02d%b" % (len(message), message))
    with pytest.raises(AssertionError, match="cut after 1 bytes"):
        check_framing(wrong, [b"twelve bytes"])


def test_what_can_not_be_checked_is_said() -> None:
    with pytest.raises(ConfigError, match="Raw keeps no boundaries"):
        check_framing(Raw(), MESSAGES)
    with pytest.raises(ConfigError, match="at least one message"):
        check_framing(Lines(), [])


def shouting(**options: Any) -> Server:
    server = Server("tcp://127.0.0.1:9000", framing=LengthPrefix(4, max_size=1000), **options)

    @server.on_message
    async def shout(conn: Connection, message: bytes) -> None:
        await conn.send(message.upper())

    return server


def test_a_service_that_is_right(run: Run) -> None:
    with no_leaks():
        run(check_service, shouting(), [(b"one", [b"ONE"]), (b"two", [b"TWO"])])


def test_a_service_that_is_wrong(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(AssertionError, match="one after the other, after b'one': the answer is b'ONE'"):
            await check_service(shouting(), [(b"one", [b"one"])])
        server = Server("tcp://127.0.0.1:9000", framing=Lines())
        server.on_message(lambda conn, message: conn.close())
        with pytest.raises(AssertionError, match="expected b'two'"):
            await check_service(server, [(b"one", [b"two"])])
        server = Server("tcp://127.0.0.1:9000", framing=Lines())
        server.on_message(lambda _conn, _message: None)
        with pytest.raises(AssertionError, match=r"no answer within 0\.05 s"):
            await check_service(server, [(b"one", [b"two"])], within=0.05)

    run(main)


def test_a_server_is_served_on_a_free_port(run: Run) -> None:
    async def main() -> None:
        server = shouting()
        async with no_leaks(), served(server) as running:
            assert running.port != 9000
            first, second = await running.connect(), await running.connect()
            assert await first.request(b"a") == b"A"
            assert await second.request(b"b") == b"B"
            with pytest.raises(ConfigError, match="faults=True"):
                running.link.reset()
            with pytest.raises(WirewayError, match="runs already"):
                await server.start()
        async with connect_to(server) as client:
            assert await client.request(b"again") == b"AGAIN"

    run(main)


def test_unix_sockets_are_served_too(run: Run) -> None:
    async def main() -> None:
        server = Server(["unix:///run/nowhere/app.sock", "tcp://0.0.0.0:1"], framing=Lines())
        server.on_message(lambda conn, message: conn.send_nowait(message[::-1]))
        async with served(server, faults=True) as running:
            assert running.address.startswith("unix:///")
            assert await (await running.connect()).request(b"abc") == b"cba"
            assert server.addresses[1].startswith("tcp://127.0.0.1:")

    run(main)


def test_an_idle_timeout_of_an_hour(run: Run) -> None:
    async def main() -> None:
        async with connect_to(shouting(timeouts=Timeouts(idle=3600.0))) as client:
            assert await client.request(b"x") == b"X"
            with FakeClock() as clock:
                await clock.advance(3000, step=10)
                assert await client.request(b"y") == b"Y"
                await clock.advance(3000, step=10)
                assert await client.request(b"z") == b"Z"
                await clock.advance(4000, step=10)
                assert [message async for message in client] == []

    run(main, limit=DAY)


def test_the_fixtures_work(
    wireway_no_leaks: None,  # noqa: F811
    wireway_loop_factory: Callable[[], EventLoop],  # noqa: F811
    wireway_backend: str,  # noqa: F811
    wireway_faults: Callable[[str], FaultyLink],  # noqa: F811
    wireway_clock: type[FakeClock],  # noqa: F811
) -> None:
    async def main() -> str:
        async with served(shouting()) as running:
            link = wireway_faults(running.address)
            reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
            writer.write(b"\0\0\0\1a")
            assert await reader.readexactly(5) == b"\0\0\0\1A"
            writer.close()
            await writer.wait_closed()
            with wireway_clock() as clock:
                sleeping = asyncio.create_task(asyncio.sleep(60))
                await clock.advance(60, step=1)
                assert sleeping.done()
            return running.server.backend

    with asyncio.Runner(loop_factory=wireway_loop_factory) as runner:
        assert runner.run(main()) == wireway_backend
