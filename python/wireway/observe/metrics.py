"""Metrics: what servers counted, as Prometheus collects it.

Owns the names (docs/how-to/metrics.md lists them, and a test holds the two together). Nothing is counted here: the
figures are those of `Server.stats`, read when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from wireway.net.descriptors import budget
from wireway.net.server import Server
from wireway.net.stats import ServerStats

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["COUNTERS", "GAUGES", "Collected"]

COUNTERS: dict[str, tuple[str, str]] = {
    "connections_accepted": ("accepted", "Connections accepted."),
    "messages_received": ("messages_in", "Messages received."),
    "messages_sent": ("messages_out", "Messages sent, or queued to be sent."),
    "messages_dropped": ("dropped", "Messages that slow peers lost."),
    "bytes_received": ("bytes_in", "Bytes received."),
    "bytes_sent": ("bytes_out", "Bytes that the kernel took."),
    "stalls": ("stalls", "Turns of the loop that lasted too long."),
    "stall_seconds": ("stall_seconds", "What they lasted, together."),
}
"""By name, without `wireway_` before and `_total` behind: the field of `ServerStats`, and what it is."""

GAUGES: dict[str, tuple[str, str]] = {
    "connections_open": ("open", "Connections open now."),
    "connections_paused": ("paused", "Connections that are not read from now."),
    "handlers_waiting": ("handlers", "Handlers that are suspended now."),
    "queued_bytes": ("queued", "Bytes that wait to be sent."),
}


class Collected:
    """The metrics of one moment: a collector of prometheus_client.

    :param servers: each with its counts, of all its processes.
    """

    def __init__(self, servers: Sequence[tuple[Server, ServerStats]]) -> None:
        self._servers = servers

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        families: list[Any] = []
        for name, (field, text) in COUNTERS.items():
            counter = CounterMetricFamily(f"wireway_{name}", text, labels=["server"])
            for label, stats in self._labelled():
                counter.add_metric([label], getattr(stats, field))
            families.append(counter)
        closed = CounterMetricFamily("wireway_connections_closed", "Connections closed.", labels=["server", "code"])
        for label, stats in self._labelled():
            for code, count in sorted(stats.closed.items()):
                closed.add_metric([label, code], count)
        families.append(closed)
        for name, (field, text) in GAUGES.items():
            gauge = GaugeMetricFamily(f"wireway_{name}", text, labels=["server"])
            for label, stats in self._labelled():
                gauge.add_metric([label], getattr(stats, field))
            families.append(gauge)
        backend = next((server.backend for server, _ in self._servers if server.addresses), "")
        found = budget(backend or "epoll")
        for name, value, text in (
            ("descriptors_used", found.in_use, "Descriptors in use in this process."),
            ("descriptors_limit", found.usable, "Descriptors that this process may have."),
        ):
            families.append(GaugeMetricFamily(f"wireway_{name}", text, value=value))
        facts = {"version": version("wireway"), "backend": backend}
        families.append(InfoMetricFamily("wireway", "The version, and the back end.", value=facts))
        yield from families

    def _labelled(self) -> Iterator[tuple[str, ServerStats]]:
        for server, stats in self._servers:
            yield (server.addresses or ["stopped"])[0], stats
