"""Spans of OpenTelemetry: one for each message, with the peer, and with what went wrong."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import wireway
from conftest import Run
from wireway.http import WebServer
from wireway.observe.tracing import traced, traced_app


class Route:
    path = "/orders/{number}"


async def answers(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/fails":
        raise KeyError("x")
    if scope["path"].startswith("/orders/"):
        scope["route"] = Route()
    status = 503 if scope["path"] == "/busy" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(wireway.ConfigError, match=r"wireway\[otel\]"):
        traced(lambda conn, message: None)
    with pytest.raises(wireway.ConfigError, match=r"pip install 'wireway\[otel\]'"):
        traced_app(answers)


@pytest.mark.parametrize("style", ["function", "coroutine"])
def test_a_span_for_each_message(run: Run, style: str) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="pip install opentelemetry-sdk: it is in requirements/dev.txt")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import StatusCode, get_current_span

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    inside: list[Any] = []

    def answer(conn: wireway.Connection, line: bytes) -> None:
        inside.append(get_current_span())
        if line == b"boom":
            raise ZeroDivisionError
        conn.send_nowait(line)

    async def answer_later(conn: wireway.Connection, line: bytes) -> None:
        await asyncio.sleep(0)
        answer(conn, line)

    async def main() -> None:
        server = wireway.Server("tcp://127.0.0.1:0", framing=wireway.Lines())
        handler = answer if style == "function" else answer_later
        server.on_message(traced(handler, name="answer", tracer=provider.get_tracer("test")))
        async with server:
            host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            own = writer.get_extra_info("sockname")
            writer.write(b"hello\nboom\n")
            assert await reader.read() == b"hello\n"
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        first, second = spans.get_finished_spans()
        assert first.name == "answer"
        assert dict(first.attributes or {}) == {
            "network.peer.address": own[0],
            "network.peer.port": own[1],
            "network.transport": "tcp",
            "network.type": "ipv4",
            "wireway.connection.id": 1,
            "wireway.message.size": 5,
        }
        assert second.status.status_code is StatusCode.ERROR
        assert (second.attributes or {})["error.type"] == "ZeroDivisionError"
        assert [event.name for event in second.events] == ["exception"]
        assert [span.get_span_context().span_id for span in inside] == [
            span.context.span_id for span in (first, second) if span.context is not None
        ]

    import logging

    logging.getLogger("wireway.server").setLevel(logging.CRITICAL)
    try:
        run(main)
    finally:
        logging.getLogger("wireway.server").setLevel(logging.NOTSET)


def test_a_span_for_each_request(run: Run) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="pip install opentelemetry-sdk: it is in requirements/dev.txt")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import SpanKind, StatusCode

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = traced_app(answers, tracer=provider.get_tracer("test"))
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    requests = (
        "GET /orders/7?all=1 HTTP/1.1\r\nHost: example.org:81\r\nUser-Agent: me\r\n"
        f"traceparent: 00-{trace}-{parent}-01\r\n\r\n",
        "BREW /busy HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        "GET /fails HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    websocket = (
        "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def main() -> None:
        async with WebServer("tcp://127.0.0.1:0", app, lifespan="off") as server:
            host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
            for texts in (requests, (websocket,)):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write("".join(texts).encode())
                if len(texts) == 1:
                    assert (await reader.readline()).startswith(b"HTTP/1.1 101")
                while len(spans.get_finished_spans()) < (3 if texts is requests else 4):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        first, second, third, fourth = spans.get_finished_spans()
        assert (first.name, first.kind) == ("GET /orders/{number}", SpanKind.SERVER)
        told = dict(first.attributes or {})
        assert isinstance(told.pop("network.peer.port"), int)
        assert told == {
            "network.transport": "tcp",
            "network.type": "ipv4",
            "network.peer.address": "127.0.0.1",
            "client.address": "127.0.0.1",
            "http.request.method": "GET",
            "url.scheme": "http",
            "url.path": "/orders/7",
            "url.query": "all=1",
            "network.protocol.name": "http",
            "network.protocol.version": "1.1",
            "user_agent.original": "me",
            "server.address": "example.org",
            "server.port": 81,
            "http.response.status_code": 200,
            "http.route": "/orders/{number}",
        }
        assert first.status.status_code is StatusCode.UNSET
        assert first.context is not None
        assert f"{first.context.trace_id:032x}" == trace
        assert first.parent is not None
        assert f"{first.parent.span_id:016x}" == parent
        assert second.name == "HTTP"
        told = dict(second.attributes or {})
        assert (told["http.request.method"], told["http.request.method_original"]) == ("_OTHER", "BREW")
        assert (told["http.response.status_code"], told["error.type"]) == (503, "503")
        assert told["server.address"] == "::1"
        assert second.status.status_code is StatusCode.ERROR
        assert third.status.status_code is StatusCode.ERROR
        assert (third.attributes or {})["error.type"] == "KeyError"
        assert [event.name for event in third.events] == ["exception"]
        told = dict(fourth.attributes or {})
        assert (told["http.response.status_code"], told["url.scheme"], told["url.path"]) == (101, "ws", "/ws")

    import logging

    logging.getLogger("wireway.http").setLevel(logging.CRITICAL)
    try:
        run(main)
    finally:
        logging.getLogger("wireway.http").setLevel(logging.NOTSET)
