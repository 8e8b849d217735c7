"""How a connection ends: closed, aborted, reset, forgotten. What its protocol hears, what its transport still tells."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from support.streams import BufferedRecorder, Recorder, Stream, stream

Run = Callable[..., Any]

BIG = bytes(range(256)) * (16 * 1024)


# --- close and abort ----------------------------------------------------------------------------------------------


def test_close_sends_what_waits(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.write(BIG)
            s.transport.write(b"the end")
            s.transport.close()
            assert s.transport.is_closing()
            assert s.protocol.calls == ["made", "pause"]
            assert await s.gets_all() == BIG + b"the end"
            assert await s.protocol.lost is None
            assert s.protocol.calls[-1] == "lost"

    run(main)


def test_close_without_data_is_told_in_the_next_turn(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.close()
            s.transport.close()
            assert s.protocol.calls == ["made"]
            await asyncio.sleep(0)
            assert s.protocol.calls == ["made", "lost"]
            assert s.protocol.lost.result() is None
            s.transport.close()
            await asyncio.sleep(0)
            assert s.protocol.calls == ["made", "lost"]

    run(main)


def test_abort_throws_away_what_waits(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.write(BIG)
            s.transport.abort()
            assert s.transport.is_closing()
            assert s.transport.get_write_buffer_size() == 0
            assert await s.protocol.lost is None
            assert len(await s.gets_all()) < len(BIG)

    run(main)


def test_abort_after_close_does_not_wait_for_a_peer_that_does_not_read(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.write(BIG)
            s.transport.close()
            await asyncio.sleep(0)
            assert not s.protocol.lost.done()
            s.transport.abort()
            assert await s.protocol.lost is None

    run(main)


def test_what_is_written_after_close_while_data_waits_is_sent_as_asyncio_does(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.write(BIG)
            s.transport.close()
            s.transport.write(b"behind")
            assert await s.gets_all() == BIG + b"behind"
            assert await s.protocol.lost is None

    run(main)


def test_what_is_written_to_a_lost_connection_is_dropped_with_a_warning(
    run: Run, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.close()
            for _ in range(4):
                s.transport.write(b"dropped")
            assert caplog.records == []
            for _ in range(3):
                s.transport.write(b"dropped")
            texts = [(record.levelno, record.getMessage()) for record in caplog.records]
            assert texts == [(logging.WARNING, "socket.send() raised exception.")] * 3
            await s.protocol.lost
            assert await s.gets_all() == b""

    run(main)


def test_a_protocol_closes_as_soon_as_it_is_made(run: Run, kind: str) -> None:
    class Closes(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"go away")
            transport.close()

    async def main() -> None:
        async with stream(kind, Closes) as s:
            assert await s.gets_all() == b"go away"
            assert await s.protocol.lost is None
            assert s.protocol.calls == ["made", "lost"]

    run(main)


def test_a_protocol_aborts_as_soon_as_it_is_made(run: Run, kind: str) -> None:
    class Aborts(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.abort()

    async def main() -> None:
        async with stream(kind, Aborts) as s:
            assert await s.protocol.lost is None
            assert await s.gets_all() == b""

    run(main)


def test_what_arrives_and_the_end_in_one_turn_are_told_in_order(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.other.send(b"data")
            s.other.close()
            assert await s.protocol.lost is None
            assert bytes(s.protocol.data) == b"data"
            assert s.protocol.calls == ["made", "eof", "lost"]

    run(main)


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [Recorder, BufferedRecorder])
def test_a_reset_is_told_with_its_error_and_reported_nowhere(run: Run, kind: str, protocol: type[Recorder]) -> None:
    if kind.startswith("unix"):
        pytest.skip("Unix sockets are reset by unread data only, below")

    async def main() -> None:
        async with stream(kind, protocol) as s:
            s.reset()
            error = await s.protocol.lost
            assert type(error) is ConnectionResetError
            assert error.args == (104, "Connection reset by peer")
            assert s.protocol.calls == ["made", "lost"]

    run(main)


def test_a_peer_that_leaves_data_unread_resets(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.write(b"never read")
            await asyncio.sleep(0)
            s.other.close()
            assert type(await s.protocol.lost) is ConnectionResetError

    run(main)


def test_who_writes_to_a_peer_that_left_learns_it(run: Run, kind: str) -> None:
    async def main() -> None:
        class Keeps(Recorder):
            keep_open = True

        async with stream(kind, Keeps) as s:
            s.other.close()
            await s.protocol.until(lambda: "eof" in s.protocol.calls)
            while not s.protocol.lost.done():
                s.transport.write(b"x")
                await asyncio.sleep(0)
            assert isinstance(await s.protocol.lost, BrokenPipeError | ConnectionResetError)
            assert s.transport.get_write_buffer_size() == 0

    run(main)


def test_a_reset_while_much_waits(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.write(BIG)
            await s.gets(1000)
            s.reset()
            assert isinstance(await s.protocol.lost, ConnectionResetError | BrokenPipeError)
            assert "resume" not in s.protocol.calls

    run(main)


def test_debug_mode_logs_the_error_of_a_connection(run: Run, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "asyncio")

    async def main() -> None:
        async with stream(kind) as s:
            s.transport.write(b"never read")
            await asyncio.sleep(0)
            s.other.close()
            error = await s.protocol.lost
            logged = [r for r in caplog.records if "Fatal read error on socket transport" in r.getMessage()]
            assert [r.exc_info and r.exc_info[1] for r in logged] == [error]
            assert logged[0].levelno == logging.DEBUG

    run(main, debug=True)


def test_connection_lost_that_fails_is_reported_and_the_descriptor_is_closed(run: Run, kind: str) -> None:
    class Fails(Recorder):
        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            raise LookupError("lost")

    async def main() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
        async with stream(kind, Fails) as s:
            s.transport.close()
            await s.protocol.lost
            await asyncio.sleep(0)
            assert [str(report["exception"]) for report in reports] == ["lost"]
            assert await s.gets_all() == b""

    run(main)


# --- what a transport tells ---------------------------------------------------------------------------------------


def test_extra_info(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            check(s)
            assert s.transport.get_extra_info("nothing") is None
            assert s.transport.get_extra_info("nothing", 42) == 42
            assert s.transport.get_extra_info("sslcontext", "none") == "none"

    def check(s: Stream) -> None:
        info = s.transport.get_extra_info
        assert info("peername") == s.other.getsockname()
        assert info("sockname") == s.other.getpeername()
        sock = info("socket")
        assert sock is info("socket")
        assert sock.fileno() > 0
        assert (sock.family, sock.type) == (s.other.family, socket.SOCK_STREAM)
        assert sock.getsockname() == info("sockname")
        with pytest.raises(AttributeError):
            sock.send(b"x")

    run(main)


def test_tcp_streams_have_no_delay(run: Run, kind: str) -> None:
    if kind.startswith("unix"):
        pytest.skip("an option of TCP")

    async def main() -> None:
        async with stream(kind) as s:
            assert s.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1

    run(main)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_names_outlive_the_connection(run: Run, kind: str, end: str) -> None:
    """Who logs the address of a peer that was lost asks in or after `connection_lost`, and perhaps never before."""

    class Asks(Recorder):
        def connection_lost(self, error: Exception | None) -> None:
            self.told = [self.transport.get_extra_info(name) for name in ("peername", "sockname")]
            super().connection_lost(error)

    async def main() -> None:
        async with stream(kind, Asks) as s:
            expected = [s.other.getsockname(), s.other.getpeername()]
            s.reset() if end == "reset" else s.other.close()
            await s.protocol.lost
            assert s.protocol.told == expected
            await asyncio.sleep(0)
            assert [s.transport.get_extra_info(name) for name in ("peername", "sockname")] == expected
            sock = s.transport.get_extra_info("socket")
            assert sock.fileno() == -1

    run(main)


def test_a_transport_knows_its_protocol_until_the_end(run: Run, kind: str) -> None:
    class Asks(Recorder):
        def connection_lost(self, error: Exception | None) -> None:
            self.told = self.transport.get_protocol()
            super().connection_lost(error)

    async def main() -> None:
        async with stream(kind, Asks) as s:
            s.transport.close()
            await s.protocol.lost
            assert s.protocol.told is s.protocol
            await asyncio.sleep(0)
            assert s.transport.get_protocol() is None
            assert s.transport.is_closing()
            assert not s.transport.is_reading()

    run(main)


def test_a_transport_is_asyncios(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            assert isinstance(s.transport, asyncio.Transport)
            assert isinstance(s.transport, asyncio.ReadTransport)
            assert isinstance(s.transport, asyncio.WriteTransport)
            assert not isinstance(s.transport, asyncio.DatagramTransport)
            assert weakref.ref(s.transport)() is s.transport
            assert hash(s.transport) == hash(s.transport)

    run(main)


# --- nothing is kept ----------------------------------------------------------------------------------------------


def test_a_lost_connection_is_freed(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            gone = [weakref.ref(s.transport), weakref.ref(s.protocol)]
            s.transport.write(b"x" * 100_000)
            await s.gets(100_000)
            s.other.close()
            await s.protocol.lost
            s.transport = None
            s.protocol = Recorder()
            s.protocol.lost.set_result(None)
        await asyncio.sleep(0)
        gc.collect()
        assert [reference() for reference in gone] == [None, None]

    run(main)


def test_a_transport_that_was_left_open_warns_when_its_loop_is_closed(loop_factory: Callable[[], Any]) -> None:
    async def main() -> None:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        transport.pause_reading()

    def forget() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        gc.collect()

    ours, other = socket.socketpair()
    with pytest.warns(ResourceWarning, match=r"unclosed transport <\w+Transport "):
        forget()
    assert ours.fileno() == -1
    other.close()
