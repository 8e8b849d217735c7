"""From samples to figures: medians, spreads, ratios, targets met and missed.

Pure: knows no process and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from harness.measure import Sample
from harness.workloads import Metric, Target, Workload

TICK = 0.01
"""Seconds of one tick of processor time."""


@dataclass(slots=True)
class Collected:
    """All that was measured, by workload and candidate."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    syscalls: dict[tuple[str, str], float] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table."""

    candidate: str
    value: float
    low: float
    high: float
    rounds: int
    ratio: float | None
    user_us: float
    system_us: float
    syscalls: float | None
    switches: float
    p50_us: float
    p99_us: float
    p999_us: float
    server_cpu: float
    generator_bound: bool
    disturbed: int
    errors: int
    first_error: str
    what: str

    def metric(self, name: Metric) -> float:
        """The figure that a target is about."""
        return self.user_us if name == "user_us" else self.value


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target, and what came of it."""

    target: Target
    got: float | None
    """The ratio, or the figure itself for an absolute target; `None` if it was not measured."""
    met: bool
    limited: bool = False
    """The generator was the limit of one of the two: the rate says less than the processor time."""


def figures(workload: Workload, collected: Collected) -> list[Figure]:
    """The table of one workload, in the order of its candidates."""
    reference = collected.samples.get((workload.name, workload.reference))
    base = median(sample.value for sample in reference) if reference else None
    table = []
    for candidate in workload.candidates:
        key = (workload.name, candidate)
        if samples := collected.samples.get(key):
            table.append(_figure(candidate, samples, base, collected.syscalls.get(key)))
    return table


def _figure(candidate: str, samples: list[Sample], base: float | None, syscalls: float | None) -> Figure:
    values = [sample.value for sample in samples]
    user, system = _processor_time(samples)
    return Figure(
        candidate=candidate,
        value=median(values),
        low=min(values),
        high=max(values),
        rounds=len(samples),
        ratio=median(values) / base if base else None,
        user_us=user,
        system_us=system,
        syscalls=syscalls,
        switches=median(sample.voluntary for sample in samples),
        p50_us=median(sample.p50_us for sample in samples),
        p99_us=median(sample.p99_us for sample in samples),
        p999_us=median(sample.p999_us for sample in samples),
        server_cpu=median(sample.server_cpu for sample in samples),
        generator_bound=2 * sum(sample.generator_bound for sample in samples) > len(samples),
        disturbed=sum(sample.disturbed for sample in samples),
        errors=sum(sample.errors for sample in samples),
        first_error=next((sample.first_error for sample in samples if sample.first_error), ""),
        what=samples[0].what,
    )


def _processor_time(samples: list[Sample]) -> tuple[float, float]:
    """User and system microseconds for each message.

    The sum is exact. How it divides is known in ticks of 10 ms, so the ticks of all rounds are put
    together before dividing.
    """
    messages = sum(sample.messages for sample in samples)
    if not messages:
        return 0.0, 0.0
    each = median(sample.cpu_seconds / sample.messages for sample in samples if sample.messages) * 1e6
    user = sum(sample.user_ticks for sample in samples)
    ticks = user + sum(sample.system_ticks for sample in samples)
    share = user / ticks if ticks else 1.0
    return each * share, each * (1 - share)


def verdicts(workload: Workload, table: list[Figure]) -> list[Verdict]:
    """What came of the workload's targets."""
    by_candidate: Mapping[str, Figure] = {figure.candidate: figure for figure in table}
    return [_verdict(target, by_candidate) for target in workload.targets]


def _verdict(target: Target, by_candidate: Mapping[str, Figure]) -> Verdict:
    ours, other = by_candidate.get(target.ours), by_candidate.get(target.of)
    if ours is None or (target.of and other is None):
        return Verdict(target, None, met=False)
    got = ours.metric(target.metric)
    limited = target.metric == "value" and ours.generator_bound
    if other is not None:
        base = other.metric(target.metric)
        if not base:
            return Verdict(target, None, met=False)
        got /= base
        limited = target.metric == "value" and (ours.generator_bound or other.generator_bound)
    met = got >= target.factor if target.at == "at least" else got <= target.factor
    return Verdict(target, got, met, limited)
