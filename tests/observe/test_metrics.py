"""Metrics and health, as Prometheus and a load balancer read them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

import wireway
from conftest import Run
from support.tree import ROOT
from wireway.observe.endpoint import Metrics
from wireway.observe.metrics import COUNTERS, GAUGES

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


def test_what_is_told(run: Run) -> None:
    async def main() -> None:
        ended = asyncio.Event()
        server = echo()
        server.on_close(lambda conn, reason: ended.set())
        async with server, Metrics([server], ANYWHERE) as metrics:
            host, _, port = server.addresses[0].partition("://")[2].rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            _, other = await asyncio.open_connection(host, int(port))
            writer.write(b"one\ntwo\n")
            assert await reader.readexactly(8) == b"one\ntwo\n"
            other.close()
            await other.wait_closed()
            await ended.wait()
            status, kind, text = await read(metrics, "/metrics")
            assert (status, kind.partition(";")[0]) == (200, "text/plain")
            values = {
                (sample.name, sample.labels.get("code")): (sample.value, sample.labels)
                for family in parse(text)
                for sample in family.samples
            }
            for name, value in (
                ("wireway_connections_accepted_total", 2),
                ("wireway_connections_open", 1),
                ("wireway_messages_received_total", 2),
                ("wireway_messages_sent_total", 2),
                ("wireway_bytes_received_total", 8),
                ("wireway_bytes_sent_total", 8),
                ("wireway_queued_bytes", 0),
            ):
                assert values[name, None] == (value, {"server": server.addresses[0]})
            assert values["wireway_connections_closed_total", "peer-closed"][0] == 1
            assert values["wireway_info", None][1] == {"version": wireway.__version__, "backend": server.backend}
            assert values["wireway_descriptors_used", None][0] > 3
            assert values["process_cpu_seconds_total", None][0] > 0
            status, kind, text = await read(metrics, "/metrics", "application/openmetrics-text")
            assert (status, kind.partition(";")[0]) == (200, "application/openmetrics-text")
            assert any(family.name == "wireway_connections_accepted" for family in parse_open(text))
            writer.close()
            await writer.wait_closed()

    run(main)


def test_health(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        good = True

        def mine() -> bool:
            return good

        def fails() -> bool:
            if not good:
                raise ZeroDivisionError
            return True

        server = echo()
        async with Metrics([server], ANYWHERE, checks={"mine": mine, "fails": fails}) as metrics:
            status, _, text = await read(metrics, "/readyz")
            assert (status, text.splitlines()[0]) == (503, "[-] accepting on stopped")
            async with server:
                status, _, text = await read(metrics, "/readyz")
                place = server.addresses[0]
                assert status == 200
                assert text == f"[+] accepting on {place}\n[+] descriptors\n[+] mine\n[+] fails\nready\n"
                good = False
                status, _, text = await read(metrics, "/readyz")
                assert status == 503
                assert text.splitlines()[2:] == ["[-] mine", "[-] fails", "not ready"]
                assert (await read(metrics, "/livez"))[::2] == (200, "ok\n")
                assert (await read(metrics, "/else"))[0] == 404
            assert (await read(metrics, "/readyz"))[0] == 503

    with caplog.at_level(logging.CRITICAL, "wireway.metrics"):
        run(main)


def test_another_address_than_loopback_is_said(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with echo() as server:
            async with Metrics([server], "tcp://127.0.0.1:0"):
                assert "everybody" not in caplog.text
            async with Metrics([server], "tcp://0.0.0.0:0"):
                assert "everybody who reaches it can read them" in caplog.text

    run(main)


def names() -> set[str]:
    """Every metric of ours, as it is told."""
    counters = {f"wireway_{name}_total" for name in (*COUNTERS, "connections_closed")}
    gauges = {f"wireway_{name}" for name in (*GAUGES, "descriptors_used", "descriptors_limit")}
    return counters | gauges | {"wireway_info"}


@pytest.mark.parametrize("path", ["contrib/grafana/wireway.json", "docs/how-to/metrics.md"])
def test_the_dashboard_and_the_page_name_what_there_is(path: str) -> None:
    named = set(re.findall(r"\bwireway_\w+", (ROOT / path).read_text()))
    assert named <= names(), named - names()
    assert names() - named <= {"wireway_info"}
    if path.endswith("json"):
        panels = json.loads(Path(ROOT / path).read_text())["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels) >= 8
