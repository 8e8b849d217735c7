"""Metrics: what servers counted, as Prometheus collects it.

Owns the names (docs/how-to/metrics.md lists them, and a test holds the two together). Nothing is counted here: the
figures are those of `Server.stats` and of /proc, read when somebody asks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wireway.net.evidence import CODES
from wireway.net.reach import WorkerInfo
from wireway.net.stats import ServerStats

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["COUNTERS", "GAUGES", "HISTOGRAMS", "OTHERS", "Account", "Collected", "Joined"]

COUNTERS: dict[str, tuple[str, str]] = {
    "connections_accepted": ("accepted", "Connections accepted."),
    "connections_adopted": ("adopted", "Of those accepted, the ones that another process of the server had before."),
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

HISTOGRAMS: dict[str, tuple[str, str]] = {
    "handler_duration_seconds": ("handler_seconds", "How long handlers take for a message, waiting included."),
    "loop_turn_duration_seconds": ("turn_seconds", "How long turns of the loop take: what everything else waits."),
    "http_request_duration_seconds": ("request_seconds", "How long requests of a web server take."),
}

OTHERS: dict[str, str] = {
    "connections_closed": "Connections closed.",
    "limits_would_act": "How often limits on trial would have acted.",
    "http_requests": "Requests of a web server that were answered.",
    "worker_up": "Whether the process serves: 1, or 0.",
    "worker_generation": "How many processes had this number before, and 1.",
    "worker_cpu_seconds": "Processor time of the process.",
    "worker_resident_bytes": "Memory of the process.",
    "worker_descriptors_used": "Descriptors in use in the process.",
    "worker_descriptors_limit": "Descriptors that the process may have.",
}
"""Those with labels of their own."""

_WEB = ("http_request_duration_seconds",)
LOST = "worker-lost"


@dataclass(frozen=True, slots=True)
class Account:
    """What is told of one server."""

    label: str
    """Its first address."""
    stats: ServerStats
    """What it counted, of all its processes."""


class Collected:
    """The metrics of one moment: a collector of prometheus_client.

    :param accounts: of each server that has started.
    :param workers: the processes of the servers, by number; 0 is one without workers.
    :param backend: of the loop.
    """

    def __init__(self, accounts: Sequence[Account], workers: Sequence[WorkerInfo], backend: str) -> None:
        self._accounts, self._workers, self._backend = accounts, workers, backend

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        for name, (field, text) in COUNTERS.items():
            counter = CounterMetricFamily(f"wireway_{name}", text, labels=["server"])
            for each in self._accounts:
                counter.add_metric([each.label], getattr(each.stats, field))
            yield counter
        yield self._counted("connections_closed", ["code"], lambda stats: {**_CLOSED, **stats.closed})
        yield self._counted("limits_would_act", ["limit"], lambda stats: stats.would_close)
        yield self._counted("http_requests", ["method", "status"], lambda stats: stats.requests)
        for name, (field, text) in GAUGES.items():
            gauge = GaugeMetricFamily(f"wireway_{name}", text, labels=["server"])
            for each in self._accounts:
                gauge.add_metric([each.label], getattr(each.stats, field))
            yield gauge
        for name, (field, text) in HISTOGRAMS.items():
            yield self._histogram(name, field, text)
        yield from self._processes()
        facts = {"version": _version(), "backend": self._backend}
        yield InfoMetricFamily("wireway", "The version, and the back end.", value=facts)

    def _counted(self, name: str, labels: list[str], read: Any) -> Metric:
        """A counter whose further labels are the words of a mapping's keys."""
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(f"wireway_{name}", OTHERS[name], labels=["server", *labels])
        for each in self._accounts:
            for key, count in sorted(read(each.stats).items()):
                family.add_metric([each.label, *key.split(" ")], count)
        return family

    def _histogram(self, name: str, field: str, text: str) -> Metric:
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(f"wireway_{name}", text, labels=["server"])
        for each in self._accounts:
            counts: Mapping[str, float] = getattr(each.stats, field)
            buckets, total = [], 0.0
            for bound in sorted((key for key in counts if key != "sum"), key=float):
                total += counts[bound]
                buckets.append((bound, total))
            if buckets:
                family.add_metric([each.label], buckets, counts.get("sum", 0.0))
        return family

    def _processes(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        figures = [(str(info.number), _figures(info)) for info in _newest(self._workers)]
        for name, text in OTHERS.items():
            if not name.startswith("worker_"):
                continue
            kind: Any = CounterMetricFamily if name == "worker_cpu_seconds" else GaugeMetricFamily
            family = kind(f"wireway_{name}", text, labels=["worker"])
            for number, values in figures:
                if name in values:
                    family.add_metric([number], values[name])
            yield family


class Joined:
    """A collector that gives what several give: of each name the first that has it.

    :param only: names of samples or of families that are wanted; all, if there are none.
    """

    def __init__(self, collectors: Iterable[Any], only: Iterable[str] = ()) -> None:
        self._collectors, self._only = list(collectors), frozenset(only)

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks for."""
        seen: set[str] = set()
        for collector in self._collectors:
            for family in collector.collect():
                if family.name in seen or (self._only and not self._wanted(family)):
                    continue
                seen.add(family.name)
                yield family

    def _wanted(self, family: Metric) -> bool:
        return family.name in self._only or any(sample.name in self._only for sample in family.samples)


_CLOSED = dict.fromkeys((*CODES, LOST), 0)
"""Each code is told from the beginning: of a series that comes with its first count, `increase` misses that one."""


@cache
def _version() -> str:
    return version("wireway")


# --- processes ------------------------------------------------------------------------------------------------------


def _newest(workers: Sequence[WorkerInfo]) -> list[WorkerInfo]:
    """One for each number: while one takes another's place, the one that serves, else the newest."""
    found: dict[int, WorkerInfo] = {}
    for info in sorted(workers, key=lambda info: (info.state == "serving", info.generation)):
        found[info.number] = info
    return sorted(found.values(), key=lambda info: info.number)


def _figures(info: WorkerInfo) -> dict[str, float]:
    """What there is to tell of a process. Of one that has just gone, nothing more than that."""
    told: dict[str, float] = {"worker_up": float(info.state == "serving"), "worker_generation": info.generation}
    here = Path(f"/proc/{info.pid}")
    try:
        words = (here / "stat").read_text().rpartition(")")[2].split()
        told["worker_cpu_seconds"] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
        told["worker_resident_bytes"] = int(words[21]) * os.sysconf("SC_PAGE_SIZE")
        told["worker_descriptors_used"] = sum(1 for _ in (here / "fd").iterdir())
        limits = (here / "limits").read_text().splitlines()
        soft = next(line.split()[3] for line in limits if line.startswith("Max open files"))
        told["worker_descriptors_limit"] = float("inf") if soft == "unlimited" else int(soft)
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    return told
