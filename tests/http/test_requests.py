"""Requests and answers as the ASGI specification and RFC 9112 have them, from a client that speaks in bytes."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import pytest

from conftest import Run
from support.talking import GET, LAST, peer, read_all, say, serving
from wireway.http import HttpOptions

LENGTH = 100_000


async def mirror(scope: Any, receive: Any, send: Any) -> None:
    """Answers with method, path and body."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    body = await read_all(receive)
    await say(send, f"{scope['method']} {scope['path']} ".encode() + body)


def test_the_scope(run: Run) -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope))
        await say(send, b"")

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            target = b"/a%20b/%E4%BD%A0%2f?x=%20y&z"
            fields = b"Host: here\r\nX-A: 1\r\nx-a:  2 \r\n"
            await client.send(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, fields))
            await client.answer()
            await client.send(b"OPTIONS http://here?q HTTP/1.0\r\n\r\n")
            await client.answer()
            local = client.writer.get_extra_info("sockname")
            first, second = seen
            assert first["type"] == "http"
            assert first["asgi"] == {"version": "3.0", "spec_version": "2.5"}
            assert (first["http_version"], second["http_version"]) == ("1.1", "1.0")
            assert (first["method"], second["method"]) == ("GET", "OPTIONS")
            assert first["scheme"] == "http"
            assert first["path"] == "/a b/你/"
            assert first["raw_path"] == b"/a%20b/%E4%BD%A0%2f"
            assert first["query_string"] == b"x=%20y&z"
            assert first["root_path"] == ""
            assert first["headers"] == [(b"host", b"here"), (b"x-a", b"1"), (b"x-a", b"2")]
            assert tuple(first["client"]) == local[:2]
            assert tuple(first["server"]) == (host, port)
            assert (second["path"], second["raw_path"], second["query_string"]) == ("/", b"/", b"q")

    run(main)


def test_where_it_is_mounted(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, f"{scope['root_path']} {scope['path']}".encode())

    async def main() -> None:
        mounted = HttpOptions(root_path="/api")
        async with serving(app, lifespan="off", http=mounted) as (_, host, port), peer(host, port) as client:
            await client.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.answer())[2] == b"/api /api/a"

    run(main)


REQUESTS = (
    b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    b"POST /chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nT: 1\r\n\r\n"
    b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n"
)
ANSWERS = [b"POST /length hello", b"POST /chunks abcde", b"GET /none "]


def test_requests_in_one_piece_are_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with serving(mirror) as (_, host, port), peer(host, port) as client:
            await client.send(REQUESTS * 3)
            assert [(await client.answer())[2] for _ in range(9)] == ANSWERS * 3

    run(main)


def test_however_they_are_cut(run: Run) -> None:
    async def main() -> None:
        async with serving(mirror) as (_, host, port):
            for step in (1, 7, 50):
                async with peer(host, port) as client:
                    await client.send(*(REQUESTS[at : at + step] for at in range(0, len(REQUESTS), step)))
                    assert [(await client.answer())[2] for _ in range(3)] == ANSWERS, step

    run(main)


def test_each_request_has_a_context_of_its_own(run: Run) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found = variable.get()
        variable.set(scope["path"])
        if scope["path"] == "/2":
            await asyncio.sleep(0)
        await say(send, found.encode())

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(5)))
            assert [(await client.answer())[2] for _ in range(5)] == [b"unset"] * 5

    run(main)


def test_a_slow_request_does_not_delay_other_connections(run: Run) -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/slow":
                await gate.wait()
            await say(send, scope["path"].encode())

        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as slow, peer(host, port) as fast:
            await slow.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n")
            await fast.send(GET)
            assert (await fast.answer())[2] == b"/"
            gate.set()
            assert [(await slow.answer())[2] for _ in range(2)] == [b"/slow", b"/next"]

    run(main)


def test_100_continue(run: Run) -> None:
    async def main() -> None:
        async with serving(mirror) as (_, host, port), peer(host, port) as client:
            await client.send(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert (await client.answer())[0] == 100
            await client.send(b"hi")
            assert (await client.answer())[2] == b"PUT /a hi"
            await client.send(GET)
            assert (await client.answer())[2] == b"GET / "

    run(main)


def test_a_body_that_was_refused_is_not_waited_for(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"no", 403)

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            status, fields, _ = await client.answer()
            assert (status, fields[b"connection"]) == (403, b"close")
            assert await client.rest() == b""

    run(main)


@pytest.mark.parametrize("size", [1000, 10_000_000])
def test_a_body_that_nobody_reads(run: Run, size: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"done")

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
            assert (await client.answer())[2] == b"done"
            if size == 1000:
                await client.send(bytes(size), GET)
                assert (await client.answer())[2] == b"done"
            else:
                client.writer.write(bytes(size))
                assert await client.rest() in (b"", b"<reset>")

    run(main)


REFUSED = [
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    (400, b"nonsense\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    (413, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"),
    (413, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"),
    (414, b"GET /" + b"a" * 20_000),
    (431, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000),
    (501, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
]


@pytest.mark.parametrize(("status", "data"), REFUSED, ids=lambda value: repr(value)[:40])
def test_what_is_no_request_is_refused_and_closed(run: Run, status: int, data: bytes) -> None:
    async def main() -> None:
        async with (
            serving(mirror, http=HttpOptions(body_size=1000)) as (server, host, port),
            peer(host, port) as client,
        ):
            await client.send(GET)
            assert (await client.answer())[0] == 200
            await client.send(data)
            answer = await client.answer()
            assert (answer[0], answer[1][b"connection"]) == (status, b"close")
            assert await client.rest() == b""
        [reason] = [each for each in server.closed if each.code == "closed"]
        assert reason.why.startswith("bad request: ")

    run(main)


def test_what_comes_after_a_refused_request_is_not_served(run: Run) -> None:
    served: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope["path"])
        await say(send, b"")

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /bad\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.rest()
        assert served == ["/1"]

    run(main)


def test_a_head_that_takes_too_long(run: Run) -> None:
    async def main() -> None:
        hasty = HttpOptions(head_timeout=0.05)
        async with serving(mirror, http=hasty) as (_, host, port), peer(host, port) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
            assert (await client.answer())[0] == 408
            assert await client.rest() == b""

    run(main)


def test_a_connection_that_rests_too_long(run: Run) -> None:
    async def main() -> None:
        async with serving(mirror, http=HttpOptions(keep_alive=0.05)) as (server, host, port):
            async with peer(host, port) as client:
                await client.send(GET)
                assert (await client.answer())[0] == 200
                assert await client.rest() == b""
            assert [reason.code for reason in server.closed] == ["read-timeout"]

    run(main)


# --- the client goes ----------------------------------------------------------------------------------------------


def test_receive_tells_that_the_client_has_gone(run: Run) -> None:
    async def main() -> None:
        heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["type"] == "http.request"
            heard.set_result(await receive())

        async with serving(app, lifespan="off") as (_, host, port):
            async with peer(host, port) as client:
                await client.send(GET)
            assert await heard == {"type": "http.disconnect"}

    run(main)


def test_receive_tells_it_in_the_middle_of_a_body(run: Run) -> None:
    async def main() -> None:
        heard: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            events = [await receive()]
            while events[-1]["type"] != "http.disconnect":
                events.append(await receive())
            heard.set_result(events)

        async with serving(app, lifespan="off") as (_, host, port):
            async with peer(host, port) as client:
                await client.send(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
            events = await heard
            assert b"".join(event.get("body", b"") for event in events) == b"abc"

    run(main)


def test_send_raises_an_os_error_once_it_has_gone(run: Run) -> None:
    async def main() -> None:
        raised: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            assert (await receive())["type"] == "http.disconnect"
            await send({"type": "http.response.start", "status": 200})
            try:
                while True:
                    await send({"type": "http.response.body", "body": bytes(LENGTH), "more_body": True})
                    await asyncio.sleep(0)
            except OSError as error:
                raised.set_result(error)
                raise

        async with serving(app, lifespan="off") as (_, host, port):
            async with peer(host, port) as client:
                await client.send(GET)
            assert isinstance(await raised, ConnectionError)

    run(main)


def test_requests_that_came_while_the_application_waited_for_the_end_are_served(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        waiting.cancel()
        await say(send, scope["path"].encode())

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert [(await client.answer())[2] for _ in range(2)] == [b"/1", b"/2"]

    run(main)


# --- the end of the server ----------------------------------------------------------------------------------------


def test_an_open_request_ends_before_the_server_does(run: Run) -> None:
    async def main() -> None:
        begun, gate = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            begun.set()
            await gate.wait()
            await say(send, b"done")

        async with serving(app, lifespan="off") as (server, host, port), peer(host, port) as client:
            await client.send(GET)
            await begun.wait()
            closing = asyncio.ensure_future(server.close())
            await asyncio.sleep(0)
            gate.set()
            assert (await client.answer())[2] == b"done"
            await closing
            assert await client.rest() == b""

    run(main)


def test_the_access_log(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        told = HttpOptions(access_log=True)
        async with serving(mirror, http=told) as (_, host, port), peer(host, port) as client:
            await client.send(b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n" + LAST)
            await client.rest()

    with caplog.at_level(logging.INFO, "wireway.access"):
        run(main)
    lines = [record.getMessage().partition(" - ")[2] for record in caplog.records if record.name == "wireway.access"]
    assert lines == ['"GET /a?b HTTP/1.1" 200 7', '"GET / HTTP/1.1" 200 6']
