"""The names of metrics: on the page, in the dashboard, and in the format that a client likes best."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.tree import ROOT
from wireway.observe.metrics import COUNTERS, GAUGES, HISTOGRAMS, OTHERS
from wireway.observe.negotiating import encoder


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.9", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;q=0.2, application/openmetrics-text; version=1.0.0;q=0.3", "application/openmetrics-text"),
        ("application/openmetrics-text;q=0", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=9.9.9", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=x;q=y", "text/plain; version=0.0.4; charset=utf-8"),
        (
            # What Prometheus 3 sends.
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
    ],
)
def test_the_format_that_the_client_likes_best(accept: str, kind: str) -> None:
    assert encoder(accept)[1].startswith(kind)


def names() -> set[str]:
    """Every metric of ours, as it is told."""
    counters = {f"wireway_{name}_total" for name in (*COUNTERS, *COUNTED)}
    gauges = {f"wireway_{name}" for name in (*GAUGES, *HISTOGRAMS, *(set(OTHERS) - COUNTED))}
    return counters | gauges | {"wireway_info"}


COUNTED = {"connections_closed", "limits_would_act", "http_requests", "worker_cpu_seconds"}
CHAT = {"wireway_chat_rooms", "wireway_chat_people", "wireway_chat_messages_total"}


@pytest.mark.parametrize("path", ["contrib/grafana/wireway.json", "docs/how-to/metrics.md"])
def test_the_dashboard_and_the_page_name_what_there_is(path: str) -> None:
    found = re.findall(r"\bwireway_\w+", (ROOT / path).read_text())
    named = {re.sub(r"(?<=_seconds)_(bucket|sum|count)$", "", name) for name in found}
    there = names() | CHAT
    assert named <= there, named - there
    assert there - named <= {"wireway_info"}, there - named
    if path.endswith("json"):
        dashboard = json.loads(Path(ROOT / path).read_text())
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels) >= 20
        variables = {each["name"] for each in dashboard["templating"]["list"]}
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, f"{panel['title']} lies on another"
            assert max(x for x, _ in cells) < 24
            taken |= cells
            assert bool(panel.get("targets")) == (panel["type"] != "row")
            for target in panel.get("targets", ()):
                expression = target["expr"]
                assert expression.count("(") == expression.count(")")
                assert set(re.findall(r"\$(\w+)", expression)) <= variables | {"__rate_interval"}
                # A counter is only ever looked at as a rate; a gauge never.
                for name in re.findall(r"wireway_\w+", expression):
                    grows = name.endswith(("_total", "_bucket", "_sum", "_count"))
                    assert grows == bool(re.search(rf"(rate|increase)\({name}", expression)), expression
                    assert target["datasource"]["uid"] == "${source}"
