"""Framings on a server: messages arrive whole however they are cut, bad bytes end one connection with its reason, and
the framing is switched in mid-stream with no byte lost."""

from __future__ import annotations

import pytest

from conftest import Run
from support.framings import cut_stars, wrap_stars
from support.peers import Ends, connected
from wireway import Connection, Server
from wireway.framing import (
    CustomFraming,
    Delimiter,
    FixedLength,
    Frame,
    FrameError,
    Framing,
    LengthPrefix,
    Lines,
    Mbap,
    Need,
    Tpkt,
    Varint,
)

ANYWHERE = "tcp://127.0.0.1:0"

STREAMS: list[tuple[Framing, bytes]] = [
    (Lines(), b"one\n\ntwo\rhalf\n"),
    (Delimiter(b"\r\n\r\n"), b"one\r\n\r\n\r\n\r\ntwo\r\n\r\n"),
    (Delimiter(b"END", keep=True), b"oneENDENDtwoEND"),
    (FixedLength(5), b"hello12345"),
    (LengthPrefix(2, offset=2), b"\xca\xfe\0\3abc\xbe\xef\0\0"),
    (LengthPrefix(4, includes_header=True), b"\0\0\0\7abc\0\0\0\4"),
    (Varint(), b"\3abc\0\5hello"),
    (Tpkt(), b"\3\0\0\7\2\xf0\x80\3\0\0\x08abcd"),
    (Mbap(), b"\0\1\0\0\0\6\x11\3\0\x6b\0\3\0\2\0\0\0\2\1\7"),
    (CustomFraming(cut_stars, wrap=wrap_stars), b"***:abc:**:hi"),
]


def echo(framing: Framing) -> Server:
    server = Server(ANYWHERE, framing=framing)

    @server.on_message
    def answer(conn: Connection, message: bytes) -> None:
        conn.send_nowait(message)

    return server


@pytest.mark.parametrize(("framing", "stream"), STREAMS, ids=lambda value: type(value).__name__)
def test_messages_come_back_wherever_the_stream_is_cut(run: Run, framing: Framing, stream: bytes) -> None:
    async def main() -> None:
        async with echo(framing) as server:
            for cut in range(1, len(stream), 3):
                async with connected(server) as peer:
                    await peer.send(stream[:cut])
                    await peer.send(stream[cut:])
                    assert await peer.receive(len(stream)) == stream

    run(main)


def test_a_large_message_between_delimiters(run: Run) -> None:
    stream = b"x" * 60_000 + b"\n" + b"y" * 65_536 + b"\n"

    async def main() -> None:
        async with echo(Lines()) as server, connected(server) as peer:
            for start in range(0, len(stream), 7_001):
                await peer.send(stream[start : start + 7_001])
            assert await peer.receive(len(stream)) == stream

    run(main)


BAD: list[tuple[Framing, bytes, str, str]] = [
    (LengthPrefix(4), b"\xff\xff\xff\xff", "frame-too-large", "frame of 4294967295 bytes announced"),
    (LengthPrefix(8), b"\xff" * 8, "frame-too-large", "frame of 18446744073709551615 bytes announced"),
    (LengthPrefix(2, includes_header=True), b"\0\1", "bad-frame", "its header alone has 2 bytes"),
    (Lines(max_size=100), b"x" * 102, "frame-too-large", "no delimiter within 100 bytes"),
    (Varint(), b"\xff" * 5, "bad-frame", "more than 32 bits"),
    (Tpkt(), b"GET / HTTP/1.1\r\n", "bad-frame", "TPKT version 71"),
    (Mbap(), b"\0\1\0\7", "bad-frame", "Modbus protocol 7, only 0 exists"),
    (CustomFraming(cut_stars), b"**?", "bad-frame", "b'?' is no star"),
    (CustomFraming(lambda data: Need(1 << 40)), b"?", "frame-too-large", "the limit is 16777216 bytes"),
    (CustomFraming(lambda data: Need(0)), b"?", "bad-frame", "needs 0 more"),
]


@pytest.mark.parametrize(("framing", "stream", "code", "text"), BAD, ids=lambda value: type(value).__name__)
def test_bad_bytes_end_their_connection_alone(run: Run, framing: Framing, stream: bytes, code: str, text: str) -> None:
    async def main() -> None:
        server = echo(framing)
        ends = Ends(server)
        async with server, connected(server), connected(server) as bad:
            await bad.send(stream)
            reason = await ends.next()
            assert (reason.code, text in reason.why) == (code, True), reason
            await bad.gone()
            assert server.stats.open == 1

    run(main)


def test_what_a_cut_function_raises_is_the_reason_s_error(run: Run) -> None:
    def cut(data: bytes) -> Need | Frame:
        raise LookupError("the table of types is gone")

    async def main() -> None:
        server = echo(CustomFraming(cut))
        ends = Ends(server)
        async with server, connected(server) as peer:
            await peer.send(b"a")
            reason = await ends.next()
            assert reason.why == "the cut function raised LookupError: the table of types is gone"
            assert isinstance(reason.error, LookupError)

    run(main)


@pytest.mark.parametrize("cut", [1, 5, 6, 7, 9, 10, 13, 16])
def test_the_framing_is_switched_in_mid_stream(run: Run, cut: int) -> None:
    """A line, then length prefixes; at each cut the rest is in the same piece, half in it, or not there yet."""
    stream = b"HELLO\n\0\0\0\3abc\0\0\0\1d"

    async def main() -> None:
        server = Server(ANYWHERE, framing=Lines())

        @server.on_message
        def answer(conn: Connection, message: bytes) -> None:
            if conn.state is None:
                conn.state = message
                conn.send_nowait(message)
                conn.set_framing(LengthPrefix(4))
            else:
                conn.send_nowait(message)

        async with server, connected(server) as peer:
            await peer.send(stream[:cut])
            if cut >= 6:
                assert await peer.receive(6) == stream[:6]  # the first piece was handled alone
            await peer.send(stream[cut:])
            assert await peer.receive(len(stream) - (6 if cut >= 6 else 0)) == stream[6 if cut >= 6 else 0 :]

    run(main)


def test_a_begun_frame_is_cut_anew_after_a_switch(run: Run) -> None:
    """Switched from outside of a handler: the bytes that wait, a header among them, belong to the new framing."""

    async def main() -> None:
        server = echo(LengthPrefix(4))
        async with server, connected(server) as peer:
            await peer.send(b"\0\0\0\1!" + b"\0\0\0\x63begun")
            assert await peer.receive(5) == b"\0\0\0\1!"
            (connection,) = server.connections
            connection.set_framing(Delimiter(b"\n"))
            await peer.send(b" and ended\n")
            assert await peer.receive(20) == b"\0\0\0\x63begun and ended\n"

    run(main)


def test_what_can_not_be_framed_is_refused_and_nothing_is_sent(run: Run) -> None:
    async def main() -> None:
        server = Server(ANYWHERE, framing=Lines(max_size=9))

        @server.on_message
        def answer(conn: Connection, message: bytes) -> None:
            for wrong, text in [(b"a\nb", "contains the delimiter"), (b"0123456789", "limit is 9 bytes")]:
                with pytest.raises(FrameError, match=text):
                    conn.send_nowait(wrong)
                with pytest.raises(ValueError, match=text):
                    conn.send(wrong)
            conn.send_nowait(b"fine")

        async with server, connected(server) as peer:
            await peer.send(b"go\n")
            peer.finish()
            assert await peer.rest() == b"fine\n"

    run(main)
