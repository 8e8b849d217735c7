"""The sentences of the ASGI specification (HTTP 2.5, its extensions) that an application meets while it answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.talking import GET, LAST, peer, say, serving
from wireway.http import HttpOptions, WebServer

PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


# --- receive ------------------------------------------------------------------------------------------------------


def test_receive_after_the_answer_is_the_end(run: Run) -> None:
    """Also for who waited before: a Task that watches for the client's end is not left behind."""
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        watching = [asyncio.ensure_future(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        await say(send, b"x")
        heard.extend(await asyncio.gather(*watching))
        heard.append(await receive())

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(GET + GET)
            for _ in range(2):
                assert (await client.answer())[2] == b"x"
            await client.send(LAST)
            assert (await client.answer())[2] == b"x"
        assert heard == [{"type": "http.disconnect"}] * 9

    run(main)


def test_who_waits_for_a_body_hears_of_the_end_of_the_answer(run: Run) -> None:
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reading = asyncio.ensure_future(read_one(receive))
        await asyncio.sleep(0)
        await say(send, b"x")
        heard.append(await reading)

    async def read_one(receive: Any) -> Any:
        return await receive()

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(PUT)
            assert (await client.answer())[2] == b"x"
            await client.send(b"body" + GET)  # what nobody read is passed over
            assert (await client.answer())[2] == b"x"
        assert [event["type"] for event in heard] == ["http.disconnect", "http.request"]

    run(main)


def test_a_long_answer_is_not_cut_off_because_its_client_is_silent(run: Run) -> None:
    """A stream of events whose application watches for the end of its client, longer than `keep_alive`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        watching = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200})
        for _ in range(8):
            await asyncio.wait([watching], timeout=0.05)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body"})

    async def main() -> None:
        hasty = HttpOptions(keep_alive=0.1)
        async with serving(app, lifespan="off", http=hasty) as (server, host, port), peer(host, port) as client:
            await client.send(GET)
            assert (await client.answer())[2] == b"x" * 8
            assert await client.rest() == b""  # and now it is closed
            assert [reason.code for reason in server.closed] == ["read-timeout"]

    run(main)


def test_a_body_that_does_not_come(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] == "http.request":
            pass

    async def main() -> None:
        hasty = HttpOptions(body_timeout=0.05)
        async with serving(app, lifespan="off", http=hasty) as (_, host, port), peer(host, port) as client:
            await client.send(PUT + b"ab")
            assert (await client.answer())[0] == 408
            assert await client.rest() == b""

    run(main)


def test_a_body_is_read_no_faster_than_the_application_wants_it(run: Run) -> None:
    async def main() -> None:
        begun, gate = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            begun.set()
            await gate.wait()
            while (await receive())["more_body"]:
                pass
            await say(send, b"whole")

        async with serving(app, lifespan="off") as (server, host, port), peer(host, port) as client:
            size = 40_000_000
            await client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
            client.writer.write(bytes(size))
            await begun.wait()
            for _ in range(50):  # turns of the loop in which all of it could have come
                await asyncio.sleep(0.001)
            [conn] = server.connections
            assert conn.stats["bytes_in"] < size // 2
            gate.set()
            assert (await client.answer())[2] == b"whole"

    run(main)


# --- send ---------------------------------------------------------------------------------------------------------


def test_what_comes_after_the_end_of_an_answer_is_ignored(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"x")
        await send({"type": "http.response.body", "body": b"more"})
        await send({"type": "http.response.start", "status": 500})
        await send({"type": "http.response.trailers", "headers": []})
        await send({"type": "http.response.pathsend", "path": "/nowhere"})

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(GET + LAST)
            assert [(await client.answer())[2] for _ in range(2)] == [b"x", b"x"]
            assert await client.rest() == b""

    run(main)


def test_send_waits_for_a_client_that_does_not_read(run: Run) -> None:
    async def main() -> None:
        sent = 0
        piece = bytes(100_000)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            await send({"type": "http.response.start", "status": 200})
            for _ in range(400):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                sent += 1
            await send({"type": "http.response.body"})

        async with serving(app, lifespan="off") as (server, host, port), peer(host, port) as client:
            await client.send(GET)
            await client.reader.readexactly(1)
            for _ in range(50):
                await asyncio.sleep(0.001)
            [conn] = server.connections
            assert sent < 300
            assert conn.queued < 2_000_000
            assert len(await client.rest_of_chunks()) == 400 * len(piece)

    run(main)


def test_many_requests_at_once_of_a_client_that_does_not_read(run: Run) -> None:
    """What they are answered with does not gather in our memory."""

    async def main() -> None:
        served = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal served
            served += 1
            await say(send, bytes(100_000))

        async with serving(app, lifespan="off") as (server, host, port), peer(host, port) as client:
            client.writer.write(GET * 2000)
            await client.reader.readexactly(1)
            for _ in range(50):
                await asyncio.sleep(0.001)
            [conn] = server.connections
            assert served < 1000
            assert conn.queued < 2_000_000

    run(main)


@pytest.mark.parametrize("first", ["start", "body"])
def test_send_on_a_closed_connection_is_an_os_error(run: Run, first: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever raises another error because of it is not reported either, as frameworks do."""

    async def main() -> None:
        raised: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if first == "body":
                await send({"type": "http.response.start", "status": 200})
            await receive()
            await receive()
            try:
                await send({"type": f"http.response.{first}", "status": 200})
            except OSError as error:
                raised.set_result(error)
                raise RuntimeError("the client has gone") from error

        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(GET)
            client.reset()
            assert isinstance(await raised, wireway.ConnectionClosedError)

    with caplog.at_level(logging.ERROR):
        run(main)
    assert not caplog.records


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        BaseExceptionGroup("group", [asyncio.CancelledError()]),
        ExceptionGroup("g", [OSError()]),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_whatever_the_application_raises_is_a_500(
    run: Run, error: BaseException, late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if late:
            await asyncio.sleep(0)
        raise error

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(GET)
            assert (await client.answer())[0] == 500
            assert await client.rest() == b""

    run(main)
    assert "the application failed at GET /" in caplog.text


def test_a_body_that_grows_too_long_ends_the_connection(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """The next answer would be read as the rest of this one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        with contextlib.suppress(RuntimeError):
            await send({"type": "http.response.body", "body": b"defg"})

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(GET + GET)
            assert (await client.rest()).partition(b"\r\n\r\n")[2] in (b"abc", b"")

    run(main)


def test_whose_word_counts_in_the_head(run: Run) -> None:
    """How the body goes and whether the connection stays is the server's; 204 has no length."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = {
            "/keep": [(b"connection", b"keep-alive"), (b"transfer-encoding", b"chunked")],
            "/upgrade": [(b"Connection", b"Upgrade, close"), (b"upgrade", b"websocket")],
            "/204": [(b"content-length", b"0")],
        }[scope["path"]]
        await say(send, b"", 204 if scope["path"] == "/204" else 200, *headers)

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"GET /204 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"content-length" not in (await client.answer())[1]
            await client.send(b"GET /keep HTTP/1.1\r\nHost: x\r\n\r\n")
            fields = (await client.answer())[1]
            assert b"transfer-encoding" not in fields
            assert b"connection" not in fields
            await client.send(b"GET /upgrade HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert b"connection: Upgrade\r\n" in head
            assert b"connection: close\r\n" in head
            assert await client.rest() == b""
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"GET /keep HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await client.answer())[1][b"connection"] == b"close"

    run(main)


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b", b"a\x01b", b"a\x7fb"])
@pytest.mark.parametrize("where", ["header", "trailer", "hint"])
def test_nothing_of_the_application_becomes_a_field_of_its_own(
    run: Run, value: bytes, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"x", value)]
        if where == "hint":
            await send({"type": "http.response.early_hint", "links": [value]})
        start = {"type": "http.response.start", "status": 200, "trailers": where == "trailer"}
        await send({**start, "headers": headers if where == "header" else []})
        await send({"type": "http.response.body"})
        await send({"type": "http.response.trailers", "headers": headers})

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n")
            assert value not in await client.rest()

    run(main)
    assert "control character" in caplog.text


def test_switches(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"x")

    async def main() -> None:
        silent = HttpOptions(server_header=False, date_header=False)
        async with serving(app, lifespan="off", http=silent) as (_, host, port), peer(host, port) as client:
            await client.send(GET)
            assert (await client.answer())[1] == {b"content-length": b"1"}

    run(main)


def test_more_requests_at_once_than_are_taken(run: Run) -> None:
    async def main() -> None:
        begun, gate = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            begun.set()
            await gate.wait()
            await say(send, b"x")

        few = HttpOptions(requests=1)
        async with serving(app, lifespan="off", http=few) as (_, host, port), peer(host, port) as first:
            await first.send(GET)
            await begun.wait()
            async with peer(host, port) as second:
                await second.send(GET)
                status, fields, _ = await second.answer()
                assert (status, fields[b"retry-after"]) == (503, b"1")
                gate.set()
                assert (await first.answer())[0] == 200
                await second.send(GET)
                assert (await second.answer())[0] == 200

    run(main)


# --- the scope ----------------------------------------------------------------------------------------------------


def test_over_a_unix_socket(run: Run, tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, repr((scope["client"], scope["server"])).encode())

    async def main() -> None:
        place = tmp_path / "socket"
        async with WebServer(f"unix://{place}", app, lifespan="off"):
            reader, writer = await asyncio.open_unix_connection(str(place))
            writer.write(LAST)
            assert (await reader.read()).endswith(repr((None, (str(place), None))).encode())
            writer.close()
            await writer.wait_closed()

    run(main)
