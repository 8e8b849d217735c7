"""Messages pulled with `receive` and `async for`: order, ends, cancellation, bounds; half-close, pause, framings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import Run
from support.peers import Ends, Peer, connected, frame
from wireway import ConfigError, Connection, ConnectionClosedError, LengthPrefix, Lines, Server

Serve = Callable[[Connection], Awaitable[Any]]


def pulling(serve: Serve) -> tuple[Server, Ends]:
    """A server whose connections are served by a coroutine each."""
    server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4))
    server.on_connect(serve)  # type: ignore[arg-type]
    return server, Ends(server)


def test_async_for_gives_each_message_and_ends_with_the_peer(run: Run) -> None:
    async def serve(conn: Connection) -> None:
        async for message in conn:
            await conn.send(message.upper())
        await conn.send(b"bye")

    async def main() -> None:
        server, ends = pulling(serve)
        async with server, connected(server) as peer:
            await peer.send(frame(b"a") + frame(b"") + frame(b"c" * 5000)[:100])
            assert await peer.receive(9) == frame(b"A") + frame(b"")
            await peer.send(frame(b"c" * 5000)[100:])
            assert await peer.receive(5004) == frame(b"C" * 5000)
            peer.finish()
            # It is still listened to: only the peer's own half is closed.
            assert await peer.rest() == frame(b"bye")
            assert (await ends.next()).code == "peer-closed"

    run(main)


def test_receive_raises_at_the_end(run: Run) -> None:
    async def main() -> None:
        raised: list[BaseException] = []

        async def serve(conn: Connection) -> None:
            try:
                await conn.receive()
            except ConnectionClosedError as error:
                raised.append(error)

        server, ends = pulling(serve)
        async with server:
            async with connected(server) as peer:
                peer.finish()
                assert await peer.rest() == b""
            await ends.next()
        assert "the peer closed" in str(raised[0])

    run(main)


def test_a_broken_stream_is_an_error_for_async_for(run: Run) -> None:
    async def main() -> None:
        raised: list[BaseException] = []

        async def serve(conn: Connection) -> None:
            try:
                async for _ in conn:
                    pass
            except ConnectionClosedError as error:
                raised.append(error)

        server, ends = pulling(serve)
        async with server:
            async with connected(server) as peer:
                await peer.send(b"\xff\xff\xff\xff")
                await peer.gone()
            assert (await ends.next()).code == "frame-too-large"
            async with connected(server) as peer:
                await peer.send(frame(b"x"))
                peer.reset()
                assert (await ends.next()).code == "peer-reset"
            while len(raised) < 2:  # noqa: ASYNC110 - the handler hears of it in a turn of its own
                await asyncio.sleep(0)

    run(main)


def test_a_cancelled_receive_loses_nothing(run: Run) -> None:
    async def main() -> None:
        cancelled = asyncio.Event()

        async def serve(conn: Connection) -> None:
            waiting = asyncio.ensure_future(conn.receive())
            await asyncio.sleep(0)
            waiting.cancel()
            cancelled.set()
            await conn.send(await conn.receive() + await conn.receive())

        server, _ = pulling(serve)
        async with server, connected(server) as peer:
            await cancelled.wait()
            await peer.send(frame(b"one") + frame(b"two"))
            assert await peer.receive(10) == frame(b"onetwo")

    run(main)


def test_one_receive_at_a_time(run: Run) -> None:
    async def main() -> None:
        texts: list[str] = []

        async def serve(conn: Connection) -> None:
            first = asyncio.ensure_future(conn.receive())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError) as info:
                conn.receive()
            texts.append(str(info.value))
            await conn.send(await first)

        server, _ = pulling(serve)
        async with server, connected(server) as peer:
            await peer.send(frame(b"x"))
            assert await peer.receive(5) == frame(b"x")
        assert "another receive() waits" in texts[0]

    run(main)


def test_what_nobody_pulls_waits_in_the_kernel(run: Run) -> None:
    async def main() -> None:
        go_on = asyncio.Event()
        got = 0

        async def serve(conn: Connection) -> None:
            nonlocal got
            await go_on.wait()
            async for message in conn:
                got += len(message)

        server, ends = pulling(serve)
        async with server:
            async with connected(server, buffer=32 * 1024) as peer:
                sending = asyncio.ensure_future(peer.send(frame(bytes(10_000)) * 400))
                while server.stats.paused == 0:  # noqa: ASYNC110 - there is nothing to wait for
                    await asyncio.sleep(0)
                assert not sending.done()
                go_on.set()
                await sending
            await ends.next()
        assert got == 4_000_000
        assert server.stats.paused == 0

    run(main)


def test_a_handler_may_ask_for_the_next_message(run: Run) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4))

        @server.on_message
        async def pair(conn: Connection, message: bytes) -> None:
            await conn.send(message + b"+" + await conn.receive())

        async with server, connected(server) as peer:
            await peer.send(frame(b"a"))
            await peer.send(frame(b"b") + frame(b"c") + frame(b"d"))
            assert await peer.receive(14) == frame(b"a+b") + frame(b"c+d")

    run(main)


def test_a_stopping_server_ends_the_loop_of_its_handler(run: Run) -> None:
    async def main() -> None:
        async def serve(conn: Connection) -> None:
            async for message in conn:
                await conn.send(message)
            await conn.send(b"done")

        server, ends = pulling(serve)
        async with connected_to(server) as peer:
            await peer.send(frame(b"x"))
            assert await peer.receive(5) == frame(b"x")
            await server.close()
            assert await peer.rest() == frame(b"done")
        assert [end.code for end in ends.all()] == ["server-stopped"]

    run(main)


class connected_to:  # noqa: N801 - a context manager that starts the server, and leaves its end to the test
    def __init__(self, server: Server) -> None:
        self.server, self.inner = server, None

    async def __aenter__(self) -> Peer:
        await self.server.start()
        self.inner = connected(self.server)  # type: ignore[assignment]
        return await self.inner.__aenter__()  # type: ignore[attr-defined,no-any-return]

    async def __aexit__(self, *args: Any) -> None:
        await self.inner.__aexit__(*args)  # type: ignore[attr-defined]
        await self.server.close()


def test_half_close_sends_what_is_queued_and_goes_on_receiving(run: Run) -> None:
    async def main() -> None:
        late: list[bytes] = []

        async def serve(conn: Connection) -> None:
            conn.send_nowait(b"last words")
            conn.half_close()
            assert not conn.writable
            with pytest.raises(ConnectionClosedError, match="sending half"):
                conn.send_nowait(b"more")
            late.extend([message async for message in conn])

        server, ends = pulling(serve)
        async with server:
            async with connected(server) as peer:
                assert await peer.rest() == frame(b"last words")
                await peer.send(frame(b"still") + frame(b"heard"))
            assert (await ends.next()).code == "peer-closed"
        assert late == [b"still", b"heard"]

    run(main)


def test_a_paused_connection_hands_nothing_over(run: Run) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4))
        got: asyncio.Queue[bytes] = asyncio.Queue()

        @server.on_message
        def take(conn: Connection, message: bytes) -> None:
            got.put_nowait(message)
            if message == b"pause":
                conn.pause()

        async with server, connected(server) as peer, connected(server) as other:
            await peer.send(frame(b"pause") + frame(b"kept"))
            assert await got.get() == b"pause"
            await peer.send(frame(b"later"))
            await other.send(frame(b"other"))
            assert await got.get() == b"other"
            assert server.stats.paused == 1
            next(conn for conn in server.connections if conn.id == 1).resume()
            assert [await got.get(), await got.get()] == [b"kept", b"later"]
            assert server.stats.paused == 0

    run(main)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_new_framing_in_mid_stream_loses_no_byte(run: Run, cut: int) -> None:
    """A text greeting, then binary frames, with the cut at every place."""

    async def main() -> None:
        server = Server("tcp://127.0.0.1:0", framing=Lines())
        got: asyncio.Queue[bytes] = asyncio.Queue()

        @server.on_message
        def take(conn: Connection, message: bytes) -> None:
            if message == b"BINARY":
                conn.set_framing(LengthPrefix(2))
                conn.send_nowait(b"ok")
            else:
                got.put_nowait(message)

        stream = b"BINARY\n" + frame(b"\n\n", 2) + frame(b"x", 2)
        async with server, connected(server) as peer:
            await peer.send(stream[:cut])
            await asyncio.sleep(0.001)
            await peer.send(stream[cut:])
            assert [await got.get(), await got.get()] == [b"\n\n", b"x"]
            assert await peer.receive(4) == frame(b"ok", 2)

    run(main)


def test_a_conversation_that_returns_is_over(run: Run) -> None:
    async def main() -> None:
        async def serve(conn: Connection) -> None:
            await conn.send(b"hello")
            if await conn.receive() == b"bye":
                await conn.send(b"until then")

        server, ends = pulling(serve)
        async with server, connected(server) as peer:
            await peer.send(frame(b"bye"))
            assert await peer.rest() == frame(b"hello") + frame(b"until then")
            reason = await ends.next()
            assert (reason.code, reason.why) == ("closed", "on_connect returned")

    run(main)


def test_a_peer_that_leaves_while_it_is_waited_for_is_no_failure(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async def serve(conn: Connection) -> None:
            await conn.receive()

        server, ends = pulling(serve)
        async with server:
            async with connected(server) as peer:
                peer.finish()
                await peer.gone()
                assert (await ends.next()).code == "peer-closed"
            async with connected(server) as peer:
                await peer.send(b"\0\0\0")
                peer.finish()
                await peer.gone()
                assert (await ends.next()).code == "truncated-frame"

    run(main)
    assert "handler-error" not in caplog.text


def test_what_is_no_framing_is_refused(run: Run) -> None:
    async def main() -> None:
        async def serve(conn: Connection) -> None:
            with pytest.raises(ConfigError, match="framing is 'lines'"):
                conn.set_framing("lines")  # type: ignore[arg-type]
            conn.set_framing(Lines())
            conn.join("all")
            await conn.receive()
            assert server.broadcast(b"news", "all") == 1

        server, _ = pulling(serve)
        async with server, connected(server) as peer:
            await peer.send(b"go\n")
            # In the connection's own framing, not in the server's.
            assert await peer.rest() == b"news\n"

    run(main)
