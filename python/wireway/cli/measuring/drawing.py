"""Pictures of runs, PNG or SVG: latency by percentile, and over time what came back and the slowest of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from wireway.cli.failing import Exit, Failure
from wireway.cli.looking import quantity
from wireway.cli.measuring.running import Outcome

__all__ = ["check_picture", "draw"]

_NINES = {2: "50 %", 10: "90 %", 100: "99 %", 1000: "99.9 %", 10_000: "99.99 %", 100_000: "99.999 %"}
_MOST = 240
"""Points over time; of longer runs several slots make one."""


def check_picture(path: Path) -> None:
    """Whether `draw` can draw there: asked before the measurement, not after it.

    :raises Failure: matplotlib is not there, or the file is of another kind.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise Failure(f"{path}: a picture is .png or .svg", Exit.USAGE)
    if importlib.util.find_spec("matplotlib") is None:
        raise Failure("a picture needs matplotlib: pip install 'wireway[plots]'", Exit.MISSING)


def draw(outcomes: list[Outcome], path: Path) -> None:
    """Draw them, each in a colour of its own.

    :raises Failure: see `check_picture`.
    """
    check_picture(path)
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplot_mosaic(
        [["latency", "rate"], ["latency", "worst"]], figsize=(12, 5.5), layout="constrained"
    )
    for outcome in outcomes:
        closed = outcome.wanted.rate is None
        label = "closed loop" if closed else f"{quantity(outcome.wanted.rate or 0)}/s"
        across, up = _nines(outcome)
        axes["latency"].step(across, up, label=label, where="pre")
        when, rates, worst = _over_time(outcome)
        axes["rate"].plot(when, rates, label=label)
        axes["worst"].plot(when, worst, label=label)
    most = max((nines for outcome in outcomes for nines in _nines(outcome)[0]), default=10)
    ticks = [each for each in _NINES if each <= most]
    axes["latency"].set(xscale="log", yscale="log", xlabel="percentile", ylabel="latency, ms", title="Latency")
    axes["latency"].set_xticks(ticks, [_NINES[each] for each in ticks])
    axes["latency"].set_xticks([], minor=True)
    axes["latency"].yaxis.set_major_formatter("{x:g}")
    unit = "requests" if outcomes[0].wanted.target.http else "messages"
    axes["rate"].set(ylabel=f"{unit}/s", title="What came back", ylim=(0, None))
    axes["rate"].yaxis.set_major_formatter(lambda value, _: quantity(value))
    axes["worst"].set(xlabel="second", ylabel="ms", title="The slowest of it", ylim=(0, None))
    axes["rate"].sharex(axes["worst"])
    for each in axes.values():
        each.grid(visible=True, alpha=0.3)
    axes["latency"].legend()
    figure.suptitle(outcomes[0].wanted.target.url)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _nines(outcome: Outcome) -> tuple[list[float], list[float]]:
    """As HDR histograms are drawn, each further nine has the same room: 1/(1-percentile), and milliseconds."""
    latency = outcome.figures["latency"]
    across, up = [], []
    for value, share, _ in latency["distribution"]:
        nines = 1 / (1 - share) if share < 1 else float(latency["count"])
        # The largest value stands at the number of messages: further out there is nothing to know.
        if nines <= latency["count"]:
            across.append(nines)
            up.append(value * 1e3)
    return across, up


def _over_time(outcome: Outcome) -> tuple[list[float], list[float], list[float]]:
    """Seconds, messages a second and the slowest in milliseconds; the last slot only if it is whole."""
    timeline: dict[str, Any] = outcome.figures["timeline"]
    slot, messages, worst = timeline["slot"], timeline["messages"], timeline["worst"]
    whole = max(1, int(outcome.figures["seconds"] / slot + 1e-6))
    messages = (messages + [0] * whole)[:whole]
    worst = (worst + [0] * whole)[:whole]
    together = max(1, -(-whole // _MOST))
    starts = range(0, whole, together)
    groups = [messages[start : start + together] for start in starts]
    return (
        [(start + len(group) / 2) * slot for start, group in zip(starts, groups, strict=True)],
        [sum(group) / (len(group) * slot) for group in groups],
        [max(worst[start : start + together]) * 1e3 for start in starts],
    )
