"""Metrics and health, as Prometheus and a load balancer read them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import resource
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

import wireway
from conftest import Run
from wireway.http import WebServer
from wireway.observe.endpoint import Metrics

ANYWHERE = "tcp://127.0.0.1:0"


def echo() -> wireway.Server:
    server = wireway.Server(ANYWHERE, framing=wireway.Lines())

    @server.on_message
    def back(conn: wireway.Connection, line: bytes) -> None:
        conn.send_nowait(line)

    return server


def _read(url: str, accept: str) -> tuple[int, str, str]:
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read().decode()


async def read(metrics: Metrics, path: str, accept: str = "") -> tuple[int, str, str]:
    url = metrics.addresses[0].replace("tcp://", "http://") + path
    return await asyncio.to_thread(_read, url, accept)


class Reading:
    """The samples of an answer, by name and labels. Parsing is a check: it refuses what collectors would."""

    def __init__(self, text: str, parser: Any = parse) -> None:
        self.families = list(parser(text))
        self.values = {
            (sample.name, *(value for label, value in sorted(sample.labels.items()) if label != "server")): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __getitem__(self, key: str | tuple[str, ...]) -> float:
        return self.values[(key,) if isinstance(key, str) else key]


async def metrics_of(metrics: Metrics, query: str = "") -> Reading:
    status, _, text = await read(metrics, f"/metrics{query}")
    assert status == 200
    return Reading(text)


async def talk(server: wireway.Server, *lines: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for line in lines:
        writer.write(line)
        assert await reader.readexactly(len(line)) == line
    return reader, writer


def test_what_is_told(run: Run) -> None:
    async def main() -> None:
        ended = asyncio.Event()
        server = echo()
        server.on_close(lambda conn, reason: ended.set())
        async with server, Metrics([server], ANYWHERE) as metrics:
            _, writer = await talk(server, b"one\ntwo\n")
            _, other = await talk(server)
            other.close()
            await other.wait_closed()
            await ended.wait()
            told = await metrics_of(metrics)
            for name, value in (
                ("wireway_connections_accepted_total", 2),
                ("wireway_connections_open", 1),
                ("wireway_messages_received_total", 2),
                ("wireway_messages_sent_total", 2),
                ("wireway_bytes_received_total", 8),
                ("wireway_bytes_sent_total", 8),
                ("wireway_queued_bytes", 0),
                ("wireway_handler_duration_seconds_count", 2),
            ):
                assert told[name] == value, name
            assert told["wireway_connections_closed_total", "peer-closed"] == 1
            assert told["wireway_connections_closed_total", "idle-timeout"] == 0
            assert told["wireway_info", server.backend, wireway.__version__] == 1
            assert told["wireway_worker_descriptors_used", "0"] > 3
            assert told["wireway_worker_resident_bytes", "0"] > 1e6
            assert told["wireway_worker_up", "0"] == 1
            assert told["wireway_loop_turn_duration_seconds_count"] > 3
            assert told["process_cpu_seconds_total"] > 0
            labels = {sample.labels.get("server") for family in told.families for sample in family.samples}
            assert labels == {server.addresses[0], None}
            writer.close()
            await writer.wait_closed()

    run(main)


def test_names_and_units(run: Run) -> None:
    """What `promtool check metrics` would say."""

    async def main() -> None:
        server = echo()
        async with server, Metrics([server], ANYWHERE) as metrics:
            _, writer = await talk(server, b"one\n")
            writer.close()
            status, kind, text = await read(metrics, "/metrics", "application/openmetrics-text")
            assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
            assert text.endswith("# EOF\n")
            plain = (await read(metrics, "/metrics"))[2]
        for told in (Reading(text, parse_open), Reading(plain)):
            ours = [family for family in told.families if family.name.startswith("wireway_")]
            assert len(ours) > 20
            for family in ours:
                assert family.documentation.endswith("."), family.name
                assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
                assert not re.search(
                    r"(milli|micro|kilo|minutes|hours|_count$|_sum$|_bucket$|gauge|counter)", family.name
                )
                assert (family.type in ("counter", "histogram")) or not family.name.endswith("_total")
                for sample in family.samples:
                    assert family.type != "counter" or sample.name.endswith("_total")

    run(main)


def test_health(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        good = True

        def mine() -> bool:
            return good

        async def waits() -> bool:
            await asyncio.sleep(0)
            return good

        def fails() -> bool:
            if not good:
                raise ZeroDivisionError
            return True

        async def hangs() -> bool:
            if not good:
                await asyncio.Event().wait()
            return True

        checks: Any = {"mine": mine, "waits": waits, "fails": fails, "hangs": hangs}
        server = echo()
        async with Metrics([server], ANYWHERE, checks=checks, check_timeout=0.1) as metrics:
            status, _, text = await read(metrics, "/readyz")
            assert (status, text.splitlines()[0]) == (503, "[-] accepting on tcp://127.0.0.1:0: not started")
            async with server:
                status, _, text = await read(metrics, "/readyz")
                place = server.addresses[0]
                assert status == 200
                names = ("descriptors", *checks)
                assert text == "\n".join([f"[+] accepting on {place}", *(f"[+] {name}" for name in names), "ready", ""])
                good = False
                status, _, text = await read(metrics, "/readyz")
                assert status == 503
                assert text.splitlines()[2:] == [
                    "[-] mine",
                    "[-] waits",
                    "[-] fails: ZeroDivisionError",
                    "[-] hangs: no answer within 0.1 s",
                    "not ready",
                ]
                status, kind, text = await read(metrics, "/readyz", "application/json")
                told = json.loads(text)
                assert (status, kind, told["ok"], told["status"]) == (503, "application/json", False, "not ready")
                assert told["checks"][4] == {"name": "fails", "ok": False, "why": "ZeroDivisionError"}
                assert (await read(metrics, "/livez"))[::2] == (200, "ok\n")
                assert json.loads((await read(metrics, "/livez", "application/json"))[2])["ok"] is True
                assert (await read(metrics, "/else"))[0] == 404
            assert (await read(metrics, "/readyz"))[0] == 503

    with caplog.at_level(logging.CRITICAL, "wireway.metrics"):
        run(main)


def test_not_ready_while_it_drains_and_the_series_stay(run: Run) -> None:
    async def main() -> None:
        go = asyncio.Event()
        server = wireway.Server(ANYWHERE, framing=wireway.Lines())

        @server.on_message
        async def slow(conn: wireway.Connection, line: bytes) -> None:
            await go.wait()
            conn.send_nowait(line)

        async with Metrics([server], ANYWHERE) as metrics:
            await server.start()
            reader, writer = await talk(server)
            writer.write(b"one\n")
            while not server.stats.handlers:  # noqa: ASYNC110  it comes over a socket
                await asyncio.sleep(0.001)
            before = await metrics_of(metrics)
            assert before["wireway_handlers_waiting"] == 1
            closing = asyncio.ensure_future(server.close())
            await asyncio.sleep(0)
            status, _, text = await read(metrics, "/readyz")
            assert (status, text.splitlines()[0].partition(": ")[2]) == (503, "draining")
            assert (await read(metrics, "/livez"))[0] == 200
            during = await metrics_of(metrics)
            assert during.values.keys() == before.values.keys()
            assert during["wireway_connections_open"] == 1
            go.set()
            assert await reader.readline() == b"one\n"
            await closing
            after = await metrics_of(metrics)
            assert after["wireway_connections_accepted_total"] == 1
            assert after["wireway_handler_duration_seconds_count"] == 1
            writer.close()
            await writer.wait_closed()

    run(main)


def test_not_ready_without_descriptors(run: Run) -> None:
    async def main() -> None:
        async with echo() as server, Metrics([server], ANYWHERE) as metrics:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            in_use = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
            resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 30, hard))
            try:
                status, _, text = await read(metrics, "/readyz")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert status == 503
            assert "[-] descriptors: " in text

    run(main)


async def ask(metrics: Metrics, request: bytes) -> bytes:
    host, _, port = metrics.addresses[0].partition("://")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_strange_requests(run: Run) -> None:
    async def main() -> None:
        async with echo() as server, Metrics([server], ANYWHERE) as metrics:
            close = b"Host: x\r\nConnection: close\r\n\r\n"
            head = await ask(metrics, b"HEAD /metrics HTTP/1.1\r\n" + close)
            assert head.startswith(b"HTTP/1.1 200")
            assert head.endswith(b"\r\n\r\n")
            assert int(re.search(rb"content-length: (\d+)", head)[1]) > 1000  # type: ignore[index]
            refused = await ask(metrics, b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n" + close)
            assert refused.startswith(b"HTTP/1.1 405")
            assert b"allow: GET, HEAD" in refused
            assert (await ask(metrics, b"\x16\x03\x01 nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
            large = b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n"
            assert (await ask(metrics, large)).startswith(b"HTTP/1.1 431")
            gzip = await ask(metrics, b"GET /livez HTTP/1.1\r\nAccept-Encoding: gzip\r\n" + close)
            assert gzip.endswith(b"\r\n\r\nok\n")
            many = await asyncio.gather(*(ask(metrics, b"GET /metrics HTTP/1.1\r\n" + close) for _ in range(60)))
            assert all(each.startswith(b"HTTP/1.1 200") for each in many)
            told = await metrics_of(metrics, "?name[]=wireway_connections_open&name[]=wireway_stalls_total")
            assert {family.name for family in told.families} == {"wireway_connections_open", "wireway_stalls"}

    run(main)


def test_metrics_of_the_program(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    orders = Counter("orders", "Orders.", registry=registry)
    Gauge("wireway_connections_open", "A name that is taken.", registry=registry).set(99)

    class Broken:
        def collect(self) -> Any:
            if broken:
                raise ZeroDivisionError
            return []

    broken = False
    registry.register(Broken())  # type: ignore[arg-type]

    async def main() -> None:
        nonlocal broken
        async with echo() as server, Metrics([server], ANYWHERE, registry=registry) as metrics:
            orders.inc(3)
            told = await metrics_of(metrics)
            assert told["orders_total"] == 3
            assert told["wireway_connections_open"] == 0
            broken = True
            told = await metrics_of(metrics)
            assert told["wireway_connections_open"] == 0
            assert "can not be told" in caplog.text

    run(main)


def test_requests_of_a_web_server(run: Run) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        status = {"/": 200, "/no": 404}[scope["path"]]
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def main() -> None:
        server = WebServer(ANYWHERE, app, lifespan="off")
        async with server, Metrics([server], ANYWHERE) as metrics:
            _, writer = await talk(server)
            for request in (b"GET /", b"GET /", b"GET /no", b"BREW /"):
                writer.write(request + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            writer.write(b"nonsense\r\n\r\n")
            while sum(server.stats.requests.values()) < 5:  # noqa: ASYNC110  they come over a socket
                await asyncio.sleep(0.001)
            told = await metrics_of(metrics)
            assert told["wireway_http_requests_total", "GET", "200"] == 2
            assert told["wireway_http_requests_total", "GET", "404"] == 1
            assert told["wireway_http_requests_total", "other", "200"] == 1
            assert told["wireway_http_requests_total", "invalid", "400"] == 1
            assert told["wireway_http_request_duration_seconds_count"] == 4
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    run(main)


def test_a_taken_address_is_known_before_the_block(run: Run) -> None:
    async def main() -> None:
        async with echo() as server:
            metrics = Metrics([server], server.addresses[0])
            with pytest.raises(wireway.AddressInUseError):
                metrics.listen()
        with pytest.raises(wireway.ConfigError, match="without TLS"):
            Metrics([server], "tls://127.0.0.1:0")

    run(main)


def test_another_address_than_loopback_is_said(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with echo() as server:
            async with Metrics([server], "tcp://127.0.0.1:0"):
                assert "everybody" not in caplog.text
            async with Metrics([server], "tcp://0.0.0.0:0"):
                assert "everybody who reaches it can read them" in caplog.text

    run(main)
