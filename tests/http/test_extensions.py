"""The extensions of the ASGI specification that we have: trailers, early hints, files by their path, TLS."""

from __future__ import annotations

import ast
import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.certificates import authority, localhost
from support.talking import GET, LAST, peer, say, serving
from wireway.http import WebServer


@contextlib.asynccontextmanager
async def trailing(length: bool = False) -> AsyncIterator[Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"3")] if length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        await send({"type": "http.response.body", "body": b"abc"})
        await send({"type": "http.response.trailers", "headers": [(b"a", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"b", b"2")]})

    async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
        yield client


def test_trailers(run: Run) -> None:
    async def main() -> None:
        async with trailing() as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nTE: deflate, Trailers\r\n\r\n")
            head, body = [await client.reader.readuntil(end) for end in (b"\r\n\r\n", b"2\r\n\r\n")]
            assert b"transfer-encoding: chunked\r\n" in head
            assert body == b"3\r\nabc\r\n0\r\na: 1\r\nb: 2\r\n\r\n"
            await client.send(GET)  # does not say that it takes them
            assert (await client.answer())[2] == b"abc"
            await client.send(b"GET / HTTP/1.0\r\nTE: trailers\r\n\r\n")
            assert (await client.rest()).endswith(b"\r\n\r\nabc")
        async with trailing(length=True) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n" + LAST)
            assert [(await client.answer())[2] for _ in range(2)] == [b"abc", b"abc"]
            assert await client.rest() == b""

    run(main)


def test_trailers_that_never_come(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"abc"})

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\n\r\n")
            assert not (await client.rest()).endswith(b"0\r\n\r\n")  # it is not whole

    run(main)


def test_early_hints(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload", b"</b>"]})
        await send({"type": "http.response.body", "body": b"x"})

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(GET)
            hints = await client.reader.readuntil(b"\r\n\r\n")
            assert hints == b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>\r\n\r\n"
            assert (await client.answer())[2] == b"x"
            await client.send(b"GET / HTTP/1.0\r\n\r\n")
            assert (await client.rest()).startswith(b"HTTP/1.1 200")

    run(main)


def test_a_file_by_its_path(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytes(range(256)) * 4000
    (tmp_path / "file").write_bytes(content)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = [(b"content-length", b"%d" % len(content))] if scope["path"] == "/file" else []
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.pathsend", "path": str(tmp_path) + scope["path"]})

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            assert [(await client.answer())[2] for _ in range(2)] == [content, content]
            await client.send(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.answer())[0] == 500

    run(main)
    assert "FileNotFoundError" in caplog.text


def test_what_a_request_puts_into_its_scope_is_its_own(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, repr(sorted(scope["extensions"])).encode())
        scope["extensions"]["own"] = {}
        scope["own"] = 1

    async def main() -> None:
        async with serving(app, lifespan="off") as (_, host, port), peer(host, port) as client:
            await client.send(GET + GET)
            first, second = [(await client.answer())[2] for _ in range(2)]
            assert first == second
            assert b"http.response.trailers" in first

    run(main)


def test_what_tls_agreed_on(run: Run, tmp_path: Path) -> None:
    cert, key = localhost().write(tmp_path, "localhost")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, repr((scope["scheme"], scope["extensions"]["tls"])).encode())

    async def main() -> None:
        tls = wireway.Tls(cert=cert, key=key)
        async with WebServer("tls://127.0.0.1:0", app, tls=tls, lifespan="off") as server:
            port = int(server.addresses[0].rpartition(":")[2])
            context = authority().trust()
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            writer.write(LAST)
            scheme, said = ast.literal_eval((await reader.read()).partition(b"\r\n\r\n")[2].decode())
            name, version, _ = writer.get_extra_info("cipher")
            writer.close()
            await writer.wait_closed()
        assert scheme == "https"
        assert said["tls_version"] == {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}[version]
        assert said["cipher_suite"] == next(
            cipher["id"] & 0xFFFF for cipher in context.get_ciphers() if cipher["name"] == name
        )
        assert (said["server_cert"], said["client_cert_chain"], said["client_cert_name"]) == (None, [], None)

    run(main)
