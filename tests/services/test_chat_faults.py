"""The chat under people who break its rules, from raw sockets: what one does costs the others nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Origin

import wireway
from conftest import Run
from support.backends import CHOSEN
from support.chatting import ANYWHERE, Program, place, program
from support.talking import Peer, peer
from wireway.services.chat import Chat, ChatLimits


@pytest.fixture(params=[name for name in CHOSEN if name in ("io_uring", "epoll")])
def backend(request: pytest.FixtureRequest) -> str:
    """Above the contract of the drivers two are enough."""
    return str(request.param)


def code_of(server: wireway.Server | None) -> list[str]:
    assert server is not None
    return [reason.code for reason in server.closed]


@asynccontextmanager
async def browser(chat: Chat, *fields: bytes) -> AsyncIterator[Peer]:
    """A WebSocket that does what its owner says, and answers no ping."""
    async with peer(*place(chat.web)) as client:
        key = base64.b64encode(os.urandom(16))
        head = (b"GET /chat HTTP/1.1", b"Host: x", b"Upgrade: websocket", b"Connection: Upgrade", *fields)
        await client.send(b"\r\n".join((*head, b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + key, b"", b"")))
        assert (await client.answer())[0] == 101
        yield client


def masked(**command: str) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(command).encode()).serialize(mask=True)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff\xff\xff\xff", "frame-too-large"),
        (b"\x00\x00\xa0\x01" + b"x" * 100, "frame-too-large"),
        (b"GET / HTTP/1.1\r\n\r\n", "frame-too-large"),
        (b"\x00\x00\x00\x10{", "truncated-frame"),  # half a message, and gone
        (b"\x00\x00", "truncated-frame"),
    ],
)
def test_frames_that_are_none(run: Run, data: bytes, code: str) -> None:
    async def main() -> None:
        chat = Chat(json=ANYWHERE)
        async with chat.server, program(chat.json) as ann:
            await ann.until("history")
            async with program(chat.json) as eve:
                await eve.until("history")
                eve.writer.write(data)
                if code == "truncated-frame":
                    eve.writer.write_eof()
                await eve.reader.read()
            assert (await ann.until("left"))["nick"] == "guest2"
            assert code_of(chat.json) == [code]

    run(main)


def test_lines_that_are_none(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE)
        async with chat.server, peer(*place(chat.lines)) as ann:
            await ann.reader.readline(), await ann.reader.readline()
            async with peer(*place(chat.lines)) as eve:
                await eve.send(b"\xff\xfe\n", b"\x1b[2J\n", b"\0\0\0\n", b"caf\xe9\n", b"still here\n")
                assert await ann.reader.readline() == b"* guest2 came into lobby\n"
                assert await ann.reader.readline() == b"[lobby] guest2: still here\n"
                await eve.send(b"x" * 1_000_000)
                await eve.rest()
            assert await ann.reader.readline() == b"* guest2 left lobby\n"
            assert code_of(chat.lines) == ["frame-too-large"]

    run(main)


def test_a_message_of_the_largest_size_passes_and_no_more(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE)
        async with chat.server, program(chat.json) as ann, peer(*place(chat.lines)) as nc, browser(chat) as page:
            for text in ("\U0001f600" * 1000, '"' * 1000):
                ann.send(type="say", room="lobby", text=text)
                assert (await ann.until("message"))["text"] == text
                assert (await nc.reader.readuntil(f"guest1: {text}\n".encode())).endswith(b"\n")
                await page.reader.readuntil(json.dumps(text, ensure_ascii=False).encode())
            ann.send(type="say", room="lobby", text="x" * 1001)
            assert (await ann.until("error"))["code"] == "bad-text"

    run(main)


def test_who_says_too_much_waits(run: Run) -> None:
    """300 messages in one piece, at 200 a second and as many at once: all come, in their time, in order."""
    rate, count = 200, 300

    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE, limits=ChatLimits(rate=rate))
        async with chat.server, program(chat.json) as ann:
            await ann.until("history")
            for kind in ("lines", "json", "web"):
                began = time.monotonic()
                if kind == "lines":
                    async with peer(*place(chat.lines)) as eve:
                        await eve.send(b"".join(b"%d\n" % number for number in range(count)))
                        texts = [(await ann.until("message"))["text"] for _ in range(count)]
                elif kind == "json":
                    async with program(chat.json) as bot:
                        for number in range(count):
                            bot.send(type="say", room="lobby", text=str(number))
                        texts = [(await ann.until("message"))["text"] for _ in range(count)]
                else:
                    async with browser(chat) as page:
                        frames = [masked(type="say", room="lobby", text=str(number)) for number in range(count)]
                        await page.send(b"".join(frames))
                        texts = [(await ann.until("message"))["text"] for _ in range(count)]
                assert texts == [str(number) for number in range(count)]
                assert time.monotonic() - began > 0.9 * (count - rate) / rate, kind

    run(main)


def test_a_form_of_another_site_says_nothing(run: Run) -> None:
    """A page can have its reader's browser send lines to any port, after those of HTTP."""

    async def main() -> None:
        chat = Chat(ANYWHERE)
        async with chat.server, peer(*place(chat.lines)) as ann:
            await ann.reader.readline(), await ann.reader.readline()
            async with peer(*place(chat.lines)) as form:
                await form.send(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nsaid here\r\n")
                await form.rest()
            assert await ann.reader.readline() == b"* guest2 came into lobby\n"
            assert await ann.reader.readline() == b"* guest2 left lobby\n"
            await ann.send(b"hi\n", b"GET / HTTP/1.1\n", b"/msg guest1 it may be talked of\n")
            assert await ann.reader.readline() == b"[guest1 to guest1] it may be talked of\n"

    run(main)


def test_a_flood_of_pings_is_held_back(run: Run) -> None:
    """They are no messages, and each is work: the others do not wait for it."""

    async def main() -> None:
        chat = Chat(json=ANYWHERE, web=ANYWHERE)
        async with chat.server, program(chat.json) as ann, browser(chat) as page:
            page.writer.write(Frame(Opcode.PING, b"").serialize(mask=True) * 500_000)
            for _ in range(10):
                ann.send(type="rooms")
                await ann.until("rooms")
            assert chat.web is not None
            assert chat.web.stats.bytes_in < 500_000
            page.writer.transport.abort()

    run(main)


def test_who_does_not_read_goes(run: Run) -> None:
    """They are closed when a bound is reached, the others are told, and those who read have lost nothing."""

    async def main() -> None:
        limits = ChatLimits(history=1, text_length=5000, rate=None)
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE, limits=limits)
        async with chat.server, program(chat.json) as ann, program(chat.json) as bob:
            stuck = []
            for server in (chat.lines, chat.json, chat.web):
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, place(server))
                if server is chat.web:
                    await asyncio.get_running_loop().sock_sendall(
                        sock,
                        b"GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                    )
                stuck.append(sock)
                await ann.until("joined")
            text = "\U0001f600" * 5000
            gone = said = 0
            while gone < len(stuck):
                assert said < 2000, "40 MB, and they are still there"
                bob.send(type="say", room="lobby", text=f"{said:04}{text}"[:5000])
                said += 1
                while (event := await ann.hear())["type"] != "message":
                    gone += event["type"] == "left"
                assert event["text"].startswith(f"{said - 1:04}")
                while (await bob.hear())["type"] != "message":
                    pass
            for server in (chat.lines, chat.json, chat.web):
                assert code_of(server) == ["slow-consumer"]
            for sock in stuck:
                sock.close()

    run(main)


def test_who_answers_no_ping_is_gone(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE, heartbeat=0.2)
        async with chat.server, peer(*place(chat.lines)) as nc, program(chat.json) as ann:
            began = time.monotonic()
            async with program(chat.json), browser(chat):  # two who are silent
                gone: list[str] = []
                while len(gone) < 2:
                    match await ann.hear():
                        case {"type": "ping"}:
                            ann.send_bytes(b'{ "type" : "pong" }')  # in any form
                        case {"type": "left", "nick": nick}:
                            gone.append(nick)
                assert sorted(gone) == ["guest3", "guest4"]
                assert time.monotonic() - began < 10
            assert code_of(chat.json) == ["heartbeat-timeout"]
            ann.send_bytes(b'{"type":"pong"}')
            ann.send(type="tell", to="guest1", text="you may be silent")
            while b"you may be silent" not in await nc.reader.readline():
                pass

    run(main)


def test_who_is_cut_off_is_gone_at_once(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE)
        async with chat.server, program(chat.json) as ann:
            await ann.until("history")
            for server in (chat.lines, chat.json, chat.web):
                client = Program(*await asyncio.open_connection(*place(server)))
                if server is chat.web:
                    await client.close()
                    async with browser(chat) as page:
                        assert (await ann.until("joined"))["room"] == "lobby"
                        reset(page.writer)
                else:
                    await ann.until("joined")
                    reset(client.writer)
                await ann.until("left")
                await client.close()

    run(main)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a program that dies does with bytes unread: RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def test_a_chat_that_is_full(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE, limits=ChatLimits(people=1))
        async with chat.server:
            async with program(chat.json):
                async with peer(*place(chat.lines)) as nc:
                    assert await nc.rest() == b"! 1 people are here, which is the most: come back later\n"
                late = Program(*await asyncio.open_connection(*place(chat.json)))
                assert (await late.hear())["code"] == "full"
                assert await late.reader.read() == b""
                await late.close()
                host, port = place(chat.web)
                async with connect(f"ws://{host}:{port}/chat", proxy=None) as page:
                    assert json.loads(await page.recv())["code"] == "full"
                    with pytest.raises(ConnectionClosed):
                        await page.recv()
                    assert page.close_code == 1013
            while True:  # until the one who was there has gone
                late = Program(*await asyncio.open_connection(*place(chat.json)))
                event = await late.hear()
                await late.close()
                if event["type"] == "welcome":
                    break

    run(main)


def test_a_bound_for_one_address(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, limits=ChatLimits(per_address=1))
        async with chat.server, peer(*place(chat.lines)) as nc:
            await nc.reader.readline()
            async with peer(*place(chat.lines)) as other:
                assert await other.rest() in (b"", b"<reset>")
        assert "limit-address" in code_of(chat.lines)

    run(main)


@pytest.mark.parametrize(
    ("origin", "host", "origins", "may"),
    [
        (None, "127.0.0.1:{}", (), True),  # no page: a program
        ("http://127.0.0.1:{}", "127.0.0.1:{}", (), True),
        ("http://localhost:{}", "localhost:{}", (), True),
        ("http://LocalHost:{}", "localhost:{}", (), True),
        ("http://localhost:{}", "127.0.0.1:{}", (), False),
        ("http://localhost:1", "localhost:{}", (), False),
        ("http://[::1]:{}", "[::1]:{}", (), True),
        ("http://0.0.0.0:{}", "0.0.0.0:{}", (), True),
        ("http://evil.example", "127.0.0.1:{}", (), False),
        ("http://evil.example:{}", "evil.example:{}", (), False),  # a name that was turned to point here
        ("null", "127.0.0.1:{}", (), False),
        ("http://", "", (), False),
        ("http://[", "[", (), False),
        ("https://chat.example.org", "127.0.0.1:{}", ("https://Chat.example.org/",), True),
        ("https://chat.example.org.evil.example", "127.0.0.1:{}", ("https://chat.example.org",), False),
        ("http://evil.example", "127.0.0.1:{}", ("*",), True),
    ],
)
def test_pages_of_other_sites(run: Run, origin: str | None, host: str, origins: tuple[str, ...], may: bool) -> None:
    async def main() -> None:
        chat = Chat(web=ANYWHERE, origins=origins)
        async with chat.server:
            _, port = place(chat.web)
            fields = [b"Host: " + host.format(port).encode()]
            if origin is not None:
                fields.append(b"Origin: " + origin.format(port).encode())
            async with peer("127.0.0.1", port) as client:
                head = (b"GET /chat HTTP/1.1", *fields, b"Upgrade: websocket", b"Connection: Upgrade")
                rest = (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", b"", b"")
                await client.send(b"\r\n".join((*head, *rest)))
                # A Host that is no name is no request at all.
                assert (await client.answer())[0] == (101 if may else 400 if host == "[" else 403)

    run(main)


def test_another_site_is_told_why(run: Run) -> None:
    async def main() -> None:
        chat = Chat(web=ANYWHERE)
        async with chat.server:
            host, port = place(chat.web)
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{host}:{port}/chat", proxy=None, origin=Origin("http://evil.example"))
            assert b"--origin" in (refused.value.response.body or b"")
            with pytest.raises(InvalidStatus):
                await connect(f"ws://{host}:{port}/elsewhere", proxy=None)
            assert not chat.rooms._nicks

    run(main)


def test_frames_of_browsers_that_are_none(run: Run) -> None:
    async def main() -> None:
        chat = Chat(web=ANYWHERE, json=ANYWHERE)
        async with chat.server, program(chat.json) as ann:
            for data in (
                Frame(Opcode.TEXT, b"\xff").serialize(mask=True),
                Frame(Opcode.TEXT, b"{}").serialize(mask=False),
                Frame(Opcode.TEXT, b"x" * 100_000).serialize(mask=True),
                b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                b"garbage garbage garbage",
            ):
                async with browser(chat) as page:
                    await ann.until("joined")
                    await page.send(data)
                    await ann.until("left")
            async with browser(chat) as page:
                await page.send(Frame(Opcode.BINARY, b'{"type":"rooms"}').serialize(mask=True))
                await page.reader.readuntil(b'"code":"bad-json"')

    run(main)
