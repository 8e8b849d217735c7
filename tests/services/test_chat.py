"""The chat over its three kinds of connection, in the same rooms: what one says all hear, in order, none lost."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

import wireway
from conftest import Run
from support.backends import CHOSEN
from support.certificates import authority
from support.chatting import ANYWHERE, Program, place, program
from support.talking import peer
from wireway.services.chat import Chat, ChatLimits


@pytest.fixture(params=[name for name in CHOSEN if name in ("io_uring", "epoll")])
def backend(request: pytest.FixtureRequest) -> str:
    """Above the contract of the drivers two are enough."""
    return str(request.param)


async def browser_until(client: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        event: dict[str, Any] = json.loads(await client.recv())
        if event["type"] == kind:
            return event


def test_three_kinds_in_one_room(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE)
        async with chat.server, peer(*place(chat.server)) as nc:
            bot = Program(*await asyncio.open_connection(*place(chat.json)))
            host, port = place(chat.web)
            async with connect(f"ws://{host}:{port}/chat", proxy=None) as browser:
                assert (await nc.reader.readline()).startswith(b"* welcome, guest1.")
                assert await nc.reader.readline() == b"* in lobby: guest1\n"
                assert (await bot.until("people"))["count"] == 2
                assert (await browser_until(browser, "people"))["count"] == 3
                bot.send(type="nick", nick="bot")
                await bot.until("renamed")
                await browser.send(json.dumps({"type": "say", "room": "lobby", "text": "from the browser"}))
                for heard in (await bot.until("message"), await browser_until(browser, "message")):
                    assert (heard["nick"], heard["text"]) == ("guest3", "from the browser")
                await nc.send(b"from nc\n")
                for heard in (await bot.until("message"), await browser_until(browser, "message")):
                    assert (heard["nick"], heard["text"]) == ("guest1", "from nc")
                bot.send(type="tell", to="guest1", text="psst")
                bot.send(type="join", room="nowhere/")
                assert (await bot.until("error"))["code"] == "bad-room"
                lines = b""
                while b"psst" not in lines:
                    lines += await nc.reader.readline()
                assert b"* guest2 came into lobby\n* guest3 came into lobby\n" in lines
                assert b"[lobby] guest3: from the browser\n[bot to guest1] psst\n" in lines
                assert b"from nc" not in lines  # who typed it saw it
            assert (await bot.until("left")) == {"type": "left", "room": "lobby", "nick": "guest3"}
            await bot.close()

    run(main)


def test_history_and_telnet(run: Run) -> None:
    """Who comes at netcat is told what was said; lines may end as telnet ends them."""

    async def main() -> None:
        chat = Chat(ANYWHERE)
        async with chat.server, peer(*place(chat.lines)) as ann:
            await ann.send(b"/nick ann\r\n", b"one\r\n", b"two\r", b"\nthr", b"ee\n")
            await ann.send("viér 你好 🚀\n".encode(), b"/rooms\r\n")
            while await ann.reader.readline() != b"* rooms: lobby (1)\n":
                pass
            async with peer(*place(chat.lines)) as bob:
                lines = [await bob.reader.readline() for _ in range(6)]
                assert lines[1] == b"* in lobby: ann, guest2\n"
                said = [line.decode().partition(" [lobby] ann: ")[2] for line in lines[2:]]
                assert said == ["one\n", "two\n", "three\n", "viér 你好 🚀\n"]
                await bob.send(b"/quit\n")
                assert await bob.rest() == b""
            assert await ann.reader.readline() == b"* guest2 came into lobby\n"
            assert await ann.reader.readline() == b"* guest2 left lobby\n"

    run(main)


def test_everybody_is_told_that_it_ends(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE, room=None)
        for _ in range(2):  # it can be started again
            async with chat.server, peer(*place(chat.lines)) as nc, program(chat.json) as bot:
                host, port = place(chat.web)
                async with connect(f"ws://{host}:{port}/chat", proxy=None) as browser, peer(host, port) as page:
                    await browser_until(browser, "welcome")
                    await nc.reader.readline()
                    await page.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # a connection that is no person
                    assert (await page.answer())[0] == 200
                    await chat.server.close()
                    assert await nc.rest() == b"* the server is going away\n"
                    assert await bot.hear() == {"type": "bye", "text": "the server is going away"}
                    assert await bot.reader.read() == b""
                    assert (await browser_until(browser, "bye"))["text"] == "the server is going away"
                    with pytest.raises(ConnectionClosed):
                        await browser.recv()
                    assert browser.close_code == 1001
                    assert await page.rest() == b""
                assert not chat.rooms._nicks

    run(main)


def test_the_page_and_nothing_else(run: Run) -> None:
    async def main() -> None:
        chat = Chat(web=ANYWHERE)
        async with chat.server, peer(*place(chat.web)) as client:
            for request, expected in {
                b"GET /": 200,
                b"HEAD /": 200,
                b"GET /?x=/etc": 200,
                b"GET /x": 404,
                b"GET /../page.html": 404,
                b"POST /": 405,
                b"GET /chat": 426,
            }.items():
                await client.send(request + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                if request.startswith(b"HEAD"):
                    head = await client.reader.readuntil(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 200")
                    continue
                status, fields, body = await client.answer()
                assert status == expected
                if status == 200:
                    assert fields[b"content-type"] == b"text/html; charset=utf-8"
                    assert b"<title>Wireway chat</title>" in body
                    policy = fields[b"content-security-policy"]
                    assert policy.startswith(b"default-src 'none'; style-src 'sha256-")
                    assert b"unsafe" not in policy

    run(main)


@pytest.mark.parametrize("kinds", [{"lines"}, {"json"}, {"web"}, {"json", "web"}])
def test_any_kind_may_be_left_out(run: Run, kinds: set[str]) -> None:
    async def main() -> None:
        chat = Chat(**dict.fromkeys(kinds, ANYWHERE))
        async with chat.server:
            there = [server for server in (chat.lines, chat.json, chat.web) if server is not None]
            assert [chat.server, *chat.others] == there
            assert len(there) == len(kinds)
            assert all(server.addresses for server in there)
        assert not any(server.addresses for server in there)

    run(main)


def test_over_tls_and_unix_sockets(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        cert, key = authority().issue("localhost").write(tmp_path, "localhost")
        tls = wireway.Tls(cert=cert, key=key)
        anywhere = "tls://127.0.0.1:0"
        chat = Chat([anywhere, f"unix://{tmp_path}/lines"], [anywhere, f"unix://{tmp_path}/json"], anywhere, tls=tls)
        context = authority().trust()
        async with chat.server:
            _, writer = await asyncio.open_unix_connection(f"{tmp_path}/lines")
            bot = Program(*await asyncio.open_unix_connection(f"{tmp_path}/json"))
            nc = await asyncio.open_connection(*port_of(chat.lines), ssl=context)
            safe = Program(*await asyncio.open_connection(*port_of(chat.json), ssl=context))
            url = f"wss://localhost:{port_of(chat.web)[1]}/chat"
            async with connect(
                url, proxy=None, ssl=context, origin=Origin(url[:-5].replace("wss", "https"))
            ) as browser:
                assert (await browser_until(browser, "people"))["count"] == 5
                writer.write(b"over a file\n")
                for client in (bot, safe):
                    assert (await client.until("message"))["text"] == "over a file"
                assert (await browser_until(browser, "message"))["text"] == "over a file"
                while (line := await nc[0].readline()) != b"[lobby] guest1: over a file\n":
                    assert line.startswith((b"* ", b"  "))
            for each in (writer, nc[1]):
                each.close()
            await asyncio.gather(writer.wait_closed(), nc[1].wait_closed(), return_exceptions=True)
            await bot.close()
            await safe.close()

    run(main)


def port_of(server: wireway.Server | None) -> tuple[str, int]:
    """Under the name that the certificate has."""
    assert server is not None
    return "localhost", int(server.addresses[0].rpartition(":")[2])


def test_a_taken_port_starts_nothing(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE)
        async with chat.server:
            for taken in (chat.server, *chat.others):
                addresses = [taken.addresses[0] if each is taken else ANYWHERE for each in (chat.server, *chat.others)]
                other = Chat(*addresses)
                with pytest.raises(wireway.AddressInUseError):
                    await other.server.start()
                assert not any(server.addresses for server in (other.server, *other.others))

    run(main)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "address"),
        ({"lines": ANYWHERE, "room": "a b"}, "room is 'a b'"),
        ({"lines": "nonsense"}, "nonsense"),
        ({"json": ANYWHERE, "heartbeat": -1}, "every"),
        ({"web": ANYWHERE, "heartbeat": -1}, "ping"),
        ({"web": ANYWHERE, "origins": ["example.org"]}, "example.org"),
        ({"web": ANYWHERE, "origins": ["https://example.org/chat"]}, "without a path"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], match: str) -> None:
    with pytest.raises((wireway.ConfigError, wireway.AddressError), match=match):
        Chat(**options)


class Netcat(Program):
    """The same at the port for lines, which does not tell one what one has said."""

    def send(self, **command: str) -> None:
        match command:
            case {"type": "say", "text": text}:
                self.writer.write(text.encode() + b"\n")
            case {"type": kind, "room": room}:
                self.writer.write(f"/{kind} {room}\n".encode())

    async def hear(self) -> dict[str, Any]:
        line = (await self.reader.readline()).decode().rstrip("\n")
        if found := re.fullmatch(r"\* welcome, (\w+)\..*", line):
            return {"type": "welcome", "nick": found[1]}
        if found := re.fullmatch(r"\[(\w+)\] (\w+): (.*)", line):
            return {"type": "message", "room": found[1], "nick": found[2], "text": found[3]}
        found = re.fullmatch(r"\* in (\w+): .*", line)
        return {"type": "people", "room": found[1]} if found else {"type": "other"}


class Page(Program):
    """The same in a browser."""

    def __init__(self, client: ClientConnection) -> None:
        self.client = client
        self.saying: list[str] = []

    def send(self, **command: str) -> None:
        self.saying.append(json.dumps(command))

    async def said(self) -> None:
        for each in self.saying:
            await self.client.send(each)
        self.saying.clear()

    async def hear(self) -> dict[str, Any]:
        await self.said()
        event: dict[str, Any] = json.loads(await self.client.recv())
        return event

    async def close(self) -> None:
        await self.client.close()


async def come(chat: Chat, number: int) -> Program:
    """Of ten people one is at netcat, one in a browser, the others are programs."""
    host, port = place(chat.web)
    match number % 10:
        case 0:
            return Netcat(*await asyncio.open_connection(*place(chat.lines)))
        case 1:
            return Page(await connect(f"ws://{host}:{port}/chat", proxy=None, max_queue=None))
        case _:
            return Program(*await asyncio.open_connection(*place(chat.json)))


def test_many_people_in_rooms_large_and_small(run: Run) -> None:
    """The measured form, with 5,000 people, is `make chat`."""
    large, rooms, small, messages = 100, 10, 10, 5

    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE, limits=ChatLimits(rate=None))
        async with chat.server:
            where = [*["large"] * large, *(f"small{number // small}" for number in range(rooms * small))]
            people = [await come(chat, number) for number in range(len(where))]
            names = []
            for person, room in zip(people, where, strict=True):
                names.append((await person.until("welcome"))["nick"])
                person.send(type="leave", room="lobby")
                person.send(type="join", room=room)
            for person, room in zip(people, where, strict=True):
                while (await person.until("people"))["room"] != room:
                    pass
            for number in range(messages):
                for person, room in zip(people, where, strict=True):
                    person.send(type="say", room=room, text=str(number))

            async def listen(person: Program, own: str, room: str) -> None:
                told = {name for name, each in zip(names, where, strict=True) if each == room}
                if isinstance(person, Netcat):
                    told.remove(own)
                heard: dict[str, list[str]] = defaultdict(list)
                for _ in range(messages * len(told)):
                    event = await person.until("message")
                    assert event["room"] == room
                    heard[event["nick"]].append(event["text"])
                assert heard.keys() == told
                assert all(texts == [str(number) for number in range(messages)] for texts in heard.values())

            await asyncio.gather(*map(listen, people, names, where))
            assert chat.rooms.counts == (1 + rooms, len(people), messages * len(people))
            await asyncio.gather(*(person.close() for person in people))
        assert chat.rooms.counts[:2] == (0, 0)

    run(main, limit=60.0)
