"""A trace: what came and left, exactly and in order, on every back end; what a slow reader of it loses; its end."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.certificates import authority, localhost
from support.peers import until
from wireway.cli.tracing.streams import Frame, Loss, Note, Piece, Stream
from wireway.observe.control import Control

FRAMING = wireway.LengthPrefix(4)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def has_received(server: wireway.Server, least: int) -> bool:
    return server.stats.bytes_in >= least


def frame(message: bytes) -> bytes:
    return len(message).to_bytes(4) + message


def echo(**options: Any) -> wireway.Server:
    server = wireway.Server("tcp://127.0.0.1:0", framing=FRAMING, **options)

    @server.on_message
    async def back(conn: wireway.Connection, message: bytes) -> None:
        if message.startswith(b"user "):
            conn.user = message[5:].decode()
        if message == b"lines":
            conn.set_framing(wireway.Lines())
        if message == b"wait":
            await asyncio.sleep(0)
        await conn.send(message)

    return server


class Asked:
    """Somebody who asked for a trace."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.streams: dict[int, Stream] = {}
        self.seen: list[Any] = []

    async def begin(self, **whom: Any) -> dict[str, Any]:
        self.reader, self.writer = await asyncio.open_unix_connection(str(self._control.path), limit=2**24)
        self.writer.write(json.dumps({"ask": "trace", **whom}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self.reader.readline())
        self._open(answer.get("tracing", []))
        return answer

    def _open(self, told: list[dict[str, Any]]) -> None:
        for about in told:
            self.streams[about["key"]] = Stream(about)

    async def events(self) -> AsyncIterator[tuple[Stream, list[Any]]]:
        while line := await self.reader.readline():
            said = json.loads(line)
            self._open(said.get("connections", []))
            for event in said.get("events", []):
                yield self.streams[event[1]], event

    async def until_ended(self) -> list[Frame | Piece | Loss | Note]:
        """What is seen until the first connection ends."""
        async for stream, event in self.events():
            self.seen += stream.take(event)
            if stream.ended:
                break
        return self.seen

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


async def client(server: wireway.Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


def test_every_byte_in_order_and_where_it_was_cut(run: Run) -> None:
    async def main() -> None:
        async with echo() as server, Control([server]) as control:
            asked = Asked(control)
            assert await asked.begin(host="127.0.0.1") == {"tracing": []}
            reader, writer = await client(server)
            messages = [b"hello", b"wait", b"", b"x" * 200_000, b"end"]
            stream = b"".join(frame(message) for message in messages)
            for start, end in ((0, 3), (3, 30), (30, len(stream))):
                writer.write(stream[start:end])
                await writer.drain()
                await until(partial(has_received, server, min(end, 30)))
            assert await reader.readexactly(len(stream)) == stream
            writer.write(b"\0\0\0")
            await writer.drain()
            await closed(writer)
            seen = await asked.until_ended()
            for way in ("in", "out"):
                pieces = [each.data for each in seen if isinstance(each, Piece) and each.way == way]
                assert b"".join(pieces) == stream + (b"\0\0\0" if way == "in" else b"")
                frames = [each for each in seen if isinstance(each, Frame) and each.way == way]
                assert [each.data for each in frames] == [frame(message) for message in messages]
                assert [(each.skip, each.message) for each in frames] == [(4, len(each)) for each in messages]
            assert [each.at for each in seen] == sorted(each.at for each in seen)
            notes = [each.text for each in seen if isinstance(each, Note)]
            assert notes[0] == "in  3 bytes of a frame that is not whole: needs 1 more byte of the header of 4"
            assert notes[1].startswith("ended: ")
            [about] = [each.about for each in asked.streams.values()]
            assert about["new"]
            assert about["framing"] == {"kind": "LengthPrefix", "width": 4}
            await asked.close()

    run(main)


def test_in_the_middle_of_a_frame_and_of_another_framing(run: Run) -> None:
    async def main() -> None:
        async with echo() as server, Control([server]) as control:
            reader, writer = await client(server)
            writer.write(frame(b"user ann") + frame(b"half of it")[:6])
            assert await reader.readexactly(12) == frame(b"user ann")
            await until(lambda: server.stats.bytes_in >= 18)
            asked = Asked(control)
            [about] = (await asked.begin(user="ann"))["tracing"]
            assert not about["new"]
            writer.write(frame(b"half of it")[6:] + frame(b"lines") + b"one\ntwo\n")
            await reader.readuntil(b"two\n")
            await closed(writer)
            seen = await asked.until_ended()
            frames = [each for each in seen if isinstance(each, Frame) and each.way == "in"]
            assert (frames[0].size, frames[0].data) == (14, b"lf of it"), "the first bytes were not seen"
            assert [(each.size, each.message) for each in frames[1:]] == [(9, 5), (4, 3), (4, 3)]
            assert [each.data for each in frames[1:]] == [frame(b"lines"), b"one\n", b"two\n"]
            await asked.close()

    run(main)


def test_a_peer_behind_a_proxy_is_seen_from_its_first_message(run: Run) -> None:
    async def main() -> None:
        async with echo(access=wireway.Access(proxy_protocol="required")) as server, Control([server]) as control:
            asked = Asked(control)
            await asked.begin(host="192.0.2.7", port=1234)
            reader, writer = await client(server)
            writer.write(b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n" + frame(b"one"))
            assert await reader.readexactly(7) == frame(b"one")
            writer.write(frame(b"two"))
            assert await reader.readexactly(7) == frame(b"two")
            await closed(writer)
            seen = await asked.until_ended()
            frames = [each for each in seen if isinstance(each, Frame)]
            assert [(each.way, each.data) for each in frames] == [
                (way, frame(message)) for message in (b"one", b"two") for way in ("in", "out")
            ]
            [about] = [each.about for each in asked.streams.values()]
            assert (about["peer"], about["local"]) == ("192.0.2.7:1234", "192.0.2.1:80")
            await asked.close()

    run(main)


def test_tls_is_seen_as_plain_text(run: Run, tmp_path: Path) -> None:
    cert, key = localhost().write(tmp_path, "localhost")
    tls = wireway.Tls(cert=cert, key=key)

    async def main() -> None:
        server = wireway.Server("tls://127.0.0.1:0", framing=FRAMING, tls=tls)

        @server.on_message
        async def back(conn: wireway.Connection, message: bytes) -> None:
            await conn.send(message)

        async with server, Control([server]) as control:
            asked = Asked(control)
            await asked.begin(host="127.0.0.1")
            trust = wireway.Tls(ca=authority().pem)
            async with wireway.connect(server.addresses[0], framing=FRAMING, tls=trust) as peer:
                for message in (b"secret", b"y" * 100_000):
                    await peer.send(message)
                    assert await peer.receive() == message
            seen = await asked.until_ended()
            for way in ("in", "out"):
                pieces = [each.data for each in seen if isinstance(each, Piece) and each.way == way]
                assert b"".join(pieces) == frame(b"secret") + frame(b"y" * 100_000)
            await asked.close()

    run(main)


def test_who_reads_too_slowly_costs_a_bounded_amount_and_hears_what_is_lost(run: Run) -> None:
    size, count = 50_000, 400

    async def main() -> None:
        async with echo() as server, Control([server]) as control:
            asked = Asked(control)
            reader, writer = await client(server)
            await asked.begin(host="127.0.0.1", room=100_000)
            asked.reader._transport.pause_reading()  # type: ignore[attr-defined]

            async def speak() -> None:
                for number in range(count):
                    writer.write(frame(number.to_bytes(4) * (size // 4)))
                    await writer.drain()

            async def hear() -> None:
                for number in range(count):
                    assert await reader.readexactly(size + 4) == frame(number.to_bytes(4) * (size // 4))

            await asyncio.gather(speak(), hear())  # nobody waits for who does not read
            [(trace, _)] = control._traces.values()
            assert trace.queued < 1_000_000
            asked.reader._transport.resume_reading()  # type: ignore[attr-defined]
            await until(lambda: trace.queued == 0)
            for number in range(3):  # and then it keeps up again
                writer.write(frame(b"after %d" % number))
                await reader.readexactly(11)
            await closed(writer)
            seen = await asked.until_ended()
            losses = [each for each in seen if isinstance(each, Loss)]
            assert losses
            assert sum(each.size for each in losses) > size * count
            for way in ("in", "out"):
                frames = [each for each in seen if isinstance(each, Frame) and each.way == way]
                whole = [each.data for each in frames if len(each.data) == each.size]
                assert all(each[:4] in (size.to_bytes(4), (7).to_bytes(4)) for each in whole)
                assert whole[-1] == frame(b"after 2")
            await asked.close()

    run(main)


def test_it_goes_away_with_who_asked(run: Run) -> None:
    async def main() -> None:
        async with echo() as server, Control([server]) as control:
            reader, writer = await client(server)
            writer.write(frame(b"a"))
            await reader.readexactly(5)
            [connection] = server.connections
            before = connection.memory()
            for whom in ({"id": connection.id}, {"host": "127.0.0.1", "port": writer.get_extra_info("sockname")[1]}):
                asked = Asked(control)
                assert len((await asked.begin(**whom))["tracing"]) == 1
                await asked.close()
                await until(lambda: not control._traces)
                writer.write(frame(b"b"))
                assert await reader.readexactly(5) == frame(b"b")
                assert connection.memory().core_fixed == before.core_fixed
            asked = Asked(control)
            await asked.begin(id=connection.id)
            await closed(writer)
            await asked.until_ended()
            assert await asked.reader.read() == b"", "the trace of one connection ends with it"
            await asked.close()

    run(main)


@pytest.mark.parametrize(
    ("whom", "words"),
    [
        ({}, "whom to trace is not said"),
        ({"id": 77}, "there is no connection 77"),
        ({"id": "x"}, "invalid literal"),
        ({"host": "example.org"}, "does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_what_can_not_be_traced(run: Run, whom: dict[str, Any], words: str) -> None:
    async def main() -> None:
        async with echo() as server, Control([server]) as control:
            asked = Asked(control)
            assert words in (await asked.begin(**whom))["error"]
            await asked.close()

    run(main)


def test_the_last_messages_of_a_connection(run: Run) -> None:
    async def main() -> None:
        capture = wireway.Capture(messages=4, shown=8)
        async with echo(capture=capture) as server, Control([server]) as control:
            reader, writer = await client(server)
            for message in (b"one", b"two", b"three, which is longer"):
                writer.write(frame(message))
                assert await reader.readexactly(len(message) + 4) == frame(message)
            asker, questions = await asyncio.open_unix_connection(str(control.path))

            async def ask(**question: Any) -> dict[str, Any]:
                questions.write(json.dumps(question).encode() + b"\n")
                answer: dict[str, Any] = json.loads(await asker.readline())
                return answer

            number = server.connections[0].id
            found = (await ask(ask="describe", id=number))["connection"]["messages"]
            shown = [(each["way"], each["length"], base64.b64decode(each["data"])) for each in found]
            assert shown == [
                ("in", 3, b"two"),
                ("out", 7, frame(b"two")),
                ("in", 22, b"three, w"),
                ("out", 26, frame(b"three, which is longer")[:8]),
            ]
            assert await ask(ask="capture", id=number, on=False) == {"capturing": 0}
            assert (await ask(ask="describe", id=number))["connection"]["messages"] is None
            assert await ask(ask="capture", messages=2) == {"capturing": 1}
            writer.write(frame(b"last"))
            await reader.readexactly(8)
            other_reader, other = await client(server)
            other.write(frame(b"new"))
            await other_reader.readexactly(7)
            for each in server.connections:
                found = (await ask(ask="describe", id=each.id))["connection"]["messages"]
                assert [message["way"] for message in found] == ["in", "out"]
            assert await ask(ask="capture", on=False) == {"capturing": 0}
            assert "at least 1 messages" in (await ask(ask="capture", messages=0))["error"]
            for each_writer in (writer, other, questions):
                await closed(each_writer)

    run(main)
