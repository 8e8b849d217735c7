"""From samples to figures: medians, spreads, ratios, targets met and missed.

A ratio is taken within each round, where the two were measured a short time apart, and the median of
the rounds' ratios is what counts: the speed of a shared machine drifts more than the peers differ.

Pure: knows no process and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from harness.measure import Sample
from harness.workloads import Metric, Target, Workload

TICK = 0.01
"""Seconds of one tick of processor time."""


@dataclass(slots=True)
class Collected:
    """All that was measured, by workload and candidate."""

    samples: dict[tuple[str, str], dict[int, Sample]] = field(default_factory=dict)
    """The innermost key is the round."""
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
    """To the reference of the workload."""
    capacity_ratio: float | None
    """The same for messages in a second of the server's processor time."""
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
        return {"value": self.value, "user_us": self.user_us, "p99_us": self.p99_us}[name]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target, and what came of it."""

    target: Target
    got: float | None
    """The ratio, or the figure itself for an absolute target; `None` if it was not measured."""
    capacity: float | None
    """The ratio of what a second of processor time achieves, if the target is about a rate."""
    met: bool
    limited: bool = False
    """The generator was the limit of one of the two: the rate says less than the processor time."""


def _value(sample: Sample) -> float:
    return sample.value


def _capacity(sample: Sample) -> float:
    return sample.capacity


def _ratio(
    ours: Mapping[int, Sample], other: Mapping[int, Sample], of: Callable[[Sample], float] = _value
) -> float | None:
    """The median of the ratios of the rounds that both took part in."""
    ratios = [of(ours[number]) / of(other[number]) for number in ours if number in other and of(other[number])]
    return median(ratios) if ratios else None


def figures(workload: Workload, collected: Collected) -> list[Figure]:
    """The table of one workload, in the order of its candidates."""
    reference = collected.samples.get((workload.name, workload.reference), {})
    table = []
    for candidate in workload.candidates:
        key = (workload.name, candidate)
        if samples := collected.samples.get(key):
            table.append(_figure(candidate, samples, reference, collected.syscalls.get(key)))
    return table


def _figure(
    candidate: str, rounds: Mapping[int, Sample], reference: Mapping[int, Sample], syscalls: float | None
) -> Figure:
    samples = list(rounds.values())
    values = [sample.value for sample in samples]
    user, system = _processor_time(samples)
    return Figure(
        candidate=candidate,
        value=median(values),
        low=min(values),
        high=max(values),
        rounds=len(samples),
        ratio=_ratio(rounds, reference),
        capacity_ratio=_ratio(rounds, reference, _capacity),
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


def verdicts(workload: Workload, table: list[Figure], collected: Collected) -> list[Verdict]:
    """What came of the workload's targets."""
    by_candidate = {figure.candidate: figure for figure in table}
    return [_verdict(target, workload, by_candidate, collected) for target in workload.targets]


def _verdict(target: Target, workload: Workload, table: Mapping[str, Figure], collected: Collected) -> Verdict:
    ours, other = table.get(target.ours), table.get(target.of)
    if ours is None or (target.of and other is None):
        return Verdict(target, None, None, met=False)
    got: float | None = ours.metric(target.metric)
    capacity, limited = None, False
    if other is not None:
        mine, theirs = (collected.samples[workload.name, name] for name in (target.ours, target.of))
        if target.metric == "value":
            got = _ratio(mine, theirs)
            capacity = _ratio(mine, theirs, _capacity)
            limited = ours.generator_bound or other.generator_bound
        else:
            base = other.metric(target.metric)
            got = ours.metric(target.metric) / base if base else None
    if got is None:
        return Verdict(target, None, None, met=False)
    met = got >= target.factor if target.at == "at least" else got <= target.factor
    return Verdict(target, got, capacity, met, limited)
