"""What the reports in benchmarks/report/ say, as Markdown for the pages that show it: the back ends, the benchmarks.

Knows the JSON of the reports. Every figure of those pages that was measured comes from here.
"""

from __future__ import annotations

from benchmarks_page import PLACES
from places import filled
from reports import facts, read

__all__ = ["back_end", "back_ends", "benchmarks", "hold", "in_chinese"]

WAITS = ("select", "poll", "sigio", "epoll", "io_uring")


def back_ends(page: str) -> str:
    """The page of all five: every figure."""
    return filled(page, "measured", lambda _: _waits(WAITS))


def in_chinese(page: str) -> str:
    """The same figures for the page in Chinese."""
    words = {
        "a turn in which nothing happens": "什么也没发生的一轮",
        "an echo of 100 bytes": "100 字节的一次回显",
        "does not fit": "放不下",
        " idle |": " 空闲 |",
        "Processor time of the server, the median of": "服务器的处理器时间，中位数：",  # noqa: RUF001
        "rounds of": "轮，每轮",  # noqa: RUF001
        "load before": "测前负载",
        "`make waits` measures it again.": "用 `make waits` 重新测量。",
    }
    table = _waits(WAITS)
    for english, chinese in words.items():
        table = table.replace(english, chinese)
    return filled(page, "measured", lambda _: table)


def back_end(page: str) -> str:
    """The page of one: its figures, and its system calls."""
    return filled(filled(page, "measured", lambda name: _waits((name,))), "calls", _calls)


def _waits(names: tuple[str, ...]) -> str:
    report = read("waits.json")
    counts = sorted({figure["idle"] for figure in report["figures"]})
    by = {(figure["backend"], figure["idle"]): figure for figure in report["figures"]}
    lines = []
    for key, title in (("turn_us", "a turn in which nothing happens"), ("echo_us", "an echo of 100 bytes")):
        lines += [f"| {title} | {' | '.join(f'{count:,} idle' for count in counts)} |", "|---|" + "---:|" * len(counts)]
        for name in names:
            cells = [_microseconds(by[name, count][key]) if (name, count) in by else "does not fit" for count in counts]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    rounds = f"Processor time of the server, the median of {report['rounds']} rounds of {report['seconds']:g} s"
    return "\n".join([*lines, f"{rounds}. {facts(report['machine'])}. `make waits` measures it again."])


def _microseconds(value: float) -> str:
    return f"{value / 1000:.2f} ms" if value >= 1000 else f"{value:.3g} µs"


def _calls(name: str) -> str:
    calls = read("waits.json")["calls"][name]
    return "\n".join(["```text", *(" ".join(call.split()) for call in calls), "```"])


def hold(page: str) -> str:
    """What a connection at rest weighs."""
    return filled(page, "hold", lambda _: _weights())


def _weights() -> str:
    report = read("hold.json")
    count, memory = report["connections"], report["memory"]
    ours = {"Wireway's core": memory["core_fixed"], "Python objects": memory["python"]}
    lines = ["| of a connection | bytes |", "|---|---:|"]
    lines += [f"| {name} | {value / count:,.0f} |" for name, value in ours.items()]
    lines.append(f"| resident memory of the workers, all of it | {report['resident'] / count:,.0f} |")
    slabs = report["kernel_slabs"] / count / 2
    lines.append(f"| the kernel's slabs, for one end (the clients were on the same machine) | {slabs:,.0f} |")
    held = (
        f"{report['held']:,} of {count:,} connections held for {report['seconds']:.0f} s by {report['workers']} workers"
    )
    return "\n".join([*lines, "", f"{held}. {facts(report['machine'])}."])


def benchmarks(page: str) -> str:
    """The page of the benchmarks."""
    for name, write in PLACES.items():
        page = filled(page, name, write)
    return page
