"""What an application may answer, how that goes over a connection, and what becomes of an application that is wrong."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from conftest import Run
from support.talking import GET, peer, say, serving

LENGTH = 100_000


def test_how_the_body_goes(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        headers = [(b"content-length", b"6")] if path == "/length" else []
        status = {"/204": 204, "/304": 304}.get(path, 200)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if path == "/whole":
            await send({"type": "http.response.body", "body": b"abcdef"})
            return
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": memoryview(b"def")})

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            for path, body, fields in (
                (b"/whole", b"abcdef", {b"content-length": b"6"}),
                (b"/length", b"abcdef", {b"content-length": b"6"}),
                (b"/chunks", b"abcdef", {b"transfer-encoding": b"chunked"}),
                (b"/204", b"", {}),
                (b"/304", b"", {}),
            ):
                await client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
                _, said, got = await client.answer()
                assert got == body, path
                framing = {name: said[name] for name in (b"content-length", b"transfer-encoding") if name in said}
                assert framing == fields, path
                assert said[b"server"] == b"wireway"
                assert said[b"date"].endswith(b" GMT")
            await client.send(b"HEAD /whole HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert b"content-length: 6\r\n" in head
            assert (await client.answer())[2] == b"abcdef"
            await client.send(b"GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert await client.rest() != b""  # HTTP/1.0 knows no chunks: the end of the connection is the end
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"GET /whole HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            _, said, got = await client.answer()
            assert (said[b"connection"], got) == (b"keep-alive", b"abcdef")
            await client.send(b"GET /whole HTTP/1.0\r\n\r\n")
            assert (await client.answer())[1][b"connection"] == b"close"
            assert await client.rest() == b""

    run(main)


def test_a_large_answer(run: Run) -> None:
    body = bytes(range(256)) * 40_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/whole":
            await say(send, body)
            return
        await send({"type": "http.response.start", "status": 200})
        for at in range(0, len(body), LENGTH):
            await send({"type": "http.response.body", "body": body[at : at + LENGTH], "more_body": True})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            for path in (b"/whole", b"/pieces"):
                await client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
                assert (await client.answer())[2] == body

    run(main)


def test_the_application_closes(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"bye", 200, (b"Connection", b"close"))

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(GET + GET)
            assert (await client.answer())[2] == b"bye"
            assert await client.rest() == b""

    run(main)


async def _too_long(send: Any) -> None:
    await say(send, b"abc", 200, (b"content-length", b"2"))


async def _too_short(send: Any) -> None:
    await say(send, b"abc", 200, (b"content-length", b"4"))


async def _injected(send: Any) -> None:
    await say(send, b"", 200, (b"x", b"a\r\nset-cookie: b"))


async def _injected_name(send: Any) -> None:
    await say(send, b"", 200, (b"x: a\r\nb", b"c"))


async def _text_header(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [("a", "b")]})


async def _text_body(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": "text"})


async def _body_first(send: Any) -> None:
    await send({"type": "http.response.body", "body": b"a"})


async def _start_twice(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.start", "status": 200})


async def _status_of_nothing(send: Any) -> None:
    await say(send, b"", 99)


async def _unknown(send: Any) -> None:
    await send({"type": "http.response.trailers"})


async def _nothing(send: Any) -> None:
    pass


async def _begins_only(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})


async def _fails(send: Any) -> None:
    raise ZeroDivisionError("oops")


@pytest.mark.parametrize(
    "wrong",
    [
        *(_too_long, _too_short, _injected, _injected_name, _text_header, _text_body, _body_first, _start_twice),
        *(_status_of_nothing, _unknown, _nothing, _begins_only, _fails),
    ],
    ids=lambda wrong: wrong.__name__,
)
def test_an_application_that_is_wrong(run: Run, wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await wrong(send)

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            with caplog.at_level(logging.ERROR, "wireway.http"):
                await client.send(GET)
                status, fields, body = await client.answer()
            assert (status, body, fields[b"connection"]) == (500, b"Internal Server Error", b"close")
            assert b"set-cookie" not in fields
            assert await client.rest() == b""

    run(main)
    assert bool(caplog.records) == (wrong not in (_nothing, _begins_only))


@pytest.mark.parametrize("how", ["raises", "returns", "is short"])
def test_an_answer_that_breaks_off(run: Run, how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"10")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if how == "raises":
            raise ZeroDivisionError
        if how == "is short":
            await send({"type": "http.response.body", "body": b"."})

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(GET)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await client.answer()

    with caplog.at_level(logging.CRITICAL, "wireway.http"):
        run(main)
