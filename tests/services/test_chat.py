"""The chat over its three kinds of connection, in the same rooms: what one says all hear, in order, none lost."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

import wireway
from conftest import Run
from support.backends import CHOSEN
from support.talking import peer
from wireway.services.chat import Chat

ANYWHERE = "tcp://127.0.0.1:0"


@pytest.fixture(params=[name for name in CHOSEN if name in ("io_uring", "epoll")])
def backend(request: pytest.FixtureRequest) -> str:
    """Above the contract of the drivers two are enough."""
    return str(request.param)


def place(server: wireway.Server | None) -> tuple[str, int]:
    assert server is not None
    host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
    return host, int(port)


class Program:
    """A client of the JSON protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, **command: Any) -> None:
        data = json.dumps(command).encode()
        self.writer.write(len(data).to_bytes(4, "big") + data)

    async def hear(self) -> dict[str, Any]:
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        event: dict[str, Any] = json.loads(await self.reader.readexactly(size))
        return event

    async def until(self, kind: str) -> dict[str, Any]:
        while (event := await self.hear())["type"] != kind:
            pass
        return event

    async def close(self) -> None:
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


async def browser_until(client: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        event: dict[str, Any] = json.loads(await client.recv())
        if event["type"] == kind:
            return event


def test_three_kinds_in_one_room(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, ANYWHERE)
        async with chat.server, peer(*place(chat.server)) as nc:
            program = Program(*await asyncio.open_connection(*place(chat.json)))
            host, port = place(chat.web)
            async with connect(f"ws://{host}:{port}/chat", proxy=None) as browser:
                assert (await nc.reader.readline()).startswith(b"* welcome, guest1.")
                assert await nc.reader.readline() == b"* in lobby: guest1\n"
                assert (await program.until("people"))["count"] == 2
                assert (await browser_until(browser, "people"))["count"] == 3
                program.send(type="nick", nick="bot")
                await program.until("renamed")
                await browser.send(json.dumps({"type": "say", "room": "lobby", "text": "from the browser"}))
                for heard in (await program.until("message"), await browser_until(browser, "message")):
                    assert (heard["nick"], heard["text"]) == ("guest3", "from the browser")
                await nc.send(b"from nc\n")
                for heard in (await program.until("message"), await browser_until(browser, "message")):
                    assert (heard["nick"], heard["text"]) == ("guest1", "from nc")
                program.send(type="tell", to="guest1", text="psst")
                program.send(type="join", room="nowhere/")
                assert (await program.until("error"))["code"] == "bad-room"
                lines = b""
                while b"psst" not in lines:
                    lines += await nc.reader.readline()
                assert b"* guest2 came into lobby\n* guest3 came into lobby\n" in lines
                assert b"[lobby] guest3: from the browser\n[bot to guest1] psst\n" in lines
                assert b"from nc" not in lines  # who typed it saw it
            assert (await program.until("left")) == {"type": "left", "room": "lobby", "nick": "guest3"}
            await program.close()

    run(main)


def test_the_page_and_nothing_else(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, None, ANYWHERE)
        async with chat.server, peer(*place(chat.web)) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            status, fields, body = await client.answer()
            assert (status, fields[b"content-type"]) == (200, b"text/html; charset=utf-8")
            assert b"<title>Wireway chat</title>" in body
            assert (await client.answer())[0] == 404

    run(main)


def test_what_is_no_message_is_closed(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE)
        async with chat.server:
            program = Program(*await asyncio.open_connection(*place(chat.json)))
            await program.until("history")
            program.writer.write(b"\xff\xff\xff\xff")
            assert await program.reader.read() == b""
            await program.close()
            assert chat.json is not None
            assert [reason.code for reason in chat.json.closed] == ["frame-too-large"]

    run(main)


def test_a_taken_port_starts_nothing(run: Run) -> None:
    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE)
        async with chat.server:
            other = Chat(chat.server.addresses[0], ANYWHERE)
            with pytest.raises(wireway.AddressInUseError):
                await other.server.start()
            assert other.json is not None
            assert not other.json.addresses

    run(main)


def test_many_people_in_rooms_large_and_small(run: Run) -> None:
    """The measured form, with 5,000 people, is `make chat`."""
    large, rooms, small, messages = 100, 10, 10, 5

    async def main() -> None:
        chat = Chat(ANYWHERE, ANYWHERE, rate=None)
        async with chat.server:
            where = [*["large"] * large, *(f"small{number % rooms}" for number in range(rooms * small))]
            people = [Program(*await asyncio.open_connection(*place(chat.json))) for _ in where]
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

            async def listen(person: Program, room: str) -> None:
                heard: dict[str, list[str]] = defaultdict(list)
                for _ in range(messages * where.count(room)):
                    event = await person.until("message")
                    assert event["room"] == room
                    heard[event["nick"]].append(event["text"])
                assert sorted(heard) == sorted(name for name, each in zip(names, where, strict=True) if each == room)
                assert all(texts == [str(number) for number in range(messages)] for texts in heard.values())

            await asyncio.gather(*(listen(person, room) for person, room in zip(people, where, strict=True)))
            await asyncio.gather(*(person.close() for person in people))

    run(main, limit=60.0)
