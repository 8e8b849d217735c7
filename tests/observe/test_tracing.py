"""Spans of OpenTelemetry: one for each message, with the peer, and with what went wrong."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import wireway
from conftest import Run
from wireway.observe.tracing import traced


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(wireway.ConfigError, match=r"wireway\[otel\]"):
        traced(lambda conn, message: None)


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
            "wireway.connection.id": 1,
            "wireway.message.size": 5,
        }
        assert second.status.status_code is StatusCode.ERROR
        assert [span.get_span_context().span_id for span in inside] == [
            span.context.span_id for span in (first, second) if span.context is not None
        ]

    import logging

    logging.getLogger("wireway.server").setLevel(logging.CRITICAL)
    try:
        run(main)
    finally:
        logging.getLogger("wireway.server").setLevel(logging.NOTSET)
