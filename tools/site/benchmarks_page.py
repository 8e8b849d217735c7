"""The page of the benchmarks, from the reports: what was to be reached and was not, and the table of each workload.

Knows the JSON of the reports of `make bench`, `make chat`, `make hold`, `make reload` and `make scale`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from reports import REPORT, facts, read

__all__ = ["PLACES"]

RUNS = ("report", "web/report")
"""The reports of `make bench`: the loop and the framework, and the web."""


def _targets(run: str) -> Iterator[list[str]]:
    """The rows of "Figures to reach" of a report: workload, ours, target, measured, by processor time, verdict."""
    _, _, rest = (REPORT / f"{run}.md").read_text().partition("## Figures to reach")
    for line in rest.partition("\n## ")[0].splitlines():
        if line.startswith("| ") and not line.startswith("| workload "):
            yield [cell.strip().replace("\\*", "").strip() for cell in line.strip("| ").split(" | ")]


def targets(_: str) -> str:
    """How many were met, and each that was not."""
    rows = [row for run in RUNS for row in _targets(run)]
    missed = [row for row in rows if "missed" in row[-1]]
    lines = ["| missed | ours | target | measured |", "|---|---|---|---:|"]
    lines += [f"| {row[0]} | {row[1]} | {row[2]} | {row[3]} |" for row in missed]
    return "\n".join([f"{len(rows) - len(missed)} of {len(rows)} figures were reached. These were not:", "", *lines])


def goals(_: str) -> str:
    """What the front door was to reach, over all its workloads: the worst of them counts."""
    rows = list(_targets("web/report"))
    lines = ["| goal | measured | |", "|---|---|---|"]
    for goal, word, only in (
        ("web: at least 1.5 times uvicorn's requests, and by processor time", "uvicorn", "web-"),
        ("web: level with granian or better", "granian", "web-"),
        ("metrics: under 3 % of the framed echo", "", "metrics"),
    ):
        of = [row for row in rows if word in row[2] and row[0].startswith(only)]
        if of:
            by_rate, by_time = (min(float(row[column]) for row in of) for column in (3, 4))
            verdict = "**missed**" if any("missed" in row[-1] for row in of) else "met"
            many = f"at least {by_rate:.2f}, by processor time {by_time:.2f}, over {len(of)} comparisons"
            lines.append(f"| {goal} | {many} | {verdict} |")
    ours = [pace["wireway"] for name, pace in read("chat.json").items() if name.startswith("pace_")]
    wrong = sum(run["lost"] + run["out_of_order_or_wrong"] for run in ours)
    people, heard = min(run["people"] for run in ours), sum(run["deliveries"] for run in ours)
    measured = f"{people:,} people, {heard:,} deliveries at {len(ours)} paces: {wrong} lost, twice or out of order"
    met = "met" if not wrong and people >= 5000 else "**missed**"
    lines.append(f"| chat: 5,000 people, a room of 2,000, rooms of 50: in order, none lost | {measured} | {met} |")
    return "\n".join(lines)


def all_targets(_: str) -> str:
    """Every figure to reach."""
    lines = ["| workload | ours | target | measured | |", "|---|---|---|---:|---|"]
    for run in RUNS:
        lines += [f"| {row[0]} | {row[1]} | {row[2]} | {row[3]} | {row[-1]} |" for row in _targets(run)]
    return "\n".join(lines)


def workloads(run: str) -> str:
    """A table for each workload of a report."""
    report = read(f"{run}.json")
    said = f"{report['rounds']} rounds of {report['seconds']:g} s, interleaved. {facts(report['facts'])}."
    return "\n\n".join([said, *(_workload(each) for each in report["workloads"])])


def _workload(workload: dict[str, Any]) -> str:
    """Rates, ratios to the reference, processor time and latency."""
    plain = not workload["more_is_better"]
    reference = next((f["title"] for f in workload["figures"] if f["candidate"] == workload["reference"]), "")
    last = [] if plain else ["µs of CPU each", "p50", "p99"]
    head = ["", workload["unit"], *([f"to {reference}"] if reference else []), *last]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    order = sorted(workload["figures"], key=lambda figure: figure["value"], reverse=not plain)
    for figure in order:
        ours = figure["candidate"].startswith("wireway")
        cells = [f"**{figure['title']}**" if ours else figure["title"], _quantity(figure["value"])]
        if reference:
            cells.append("" if figure["ratio"] is None else f"{figure['ratio']:.2f}")
        if last:
            cells += [_processor(figure), _span(figure.get("p50_us")), _span(figure.get("p99_us"))]
        lines.append(f"| {' | '.join(cells)} |")
    return f"### {workload['title']}\n\n" + "\n".join(lines)


def _processor(figure: dict[str, Any]) -> str:
    used = [figure.get(key) for key in ("user_us", "system_us")]
    return "" if None in used else f"{sum(used):.2f}"


def _quantity(value: float) -> str:
    for limit, name in ((1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e6 if name == 'M' else 1e3):,.2f} {name}"
    return f"{value:,.0f}"


def _span(microseconds: float | None) -> str:
    if not microseconds:
        return ""
    return f"{microseconds / 1000:.2f} ms" if microseconds >= 1000 else f"{microseconds:.0f} µs"


def chat(_: str) -> str:
    """5,000 people in a chat."""
    report = read("chat.json")
    told = []
    for pace, candidates in report.items():
        if not pace.startswith("pace_"):
            continue
        ours = candidates["wireway"]
        told.append(
            f"{ours['people']:,} people, {ours['large_room']:,} in one room, {ours['small_rooms']} small rooms; "
            f"{ours['said']:,} messages in {ours['seconds']:g} s are {ours['expected']:,} deliveries:\n"
        )
        told.append("| | lost; wrong | until all was heard | p50 | p99 | µs of CPU for a delivery | to ours |")
        told.append("|---|---:|---:|---:|---:|---:|---:|")
        for name, each in candidates.items():
            title = "**`wireway serve chat`**" if name == "wireway" else f"the same rooms on {name}"
            cells = (
                f"{each['lost']}; {each['out_of_order_or_wrong']}",
                f"{each['until_all_was_heard']:.1f} s",
                *(_span(each[f"{part}_ms"] * 1000) for part in ("p50", "p99")),
                f"{each['cpu_us_per_delivery']:.2f}",
                f"{each['cpu_to_ours']:.2f}",
            )
            told.append(f"| {' | '.join((title, *cells))} |")
        told.append("")
    return "\n".join(told) + f"\n{facts(report['machine'])}; load after: {report['load_at_the_end'].split()[0]}."


def hold(_: str) -> str:
    """Very many connections."""
    hold = read("hold.json")
    rows = {
        "connections; held; lost": f"{hold['connections']:,}; {hold['held']:,}; {len(hold['lost'])}",
        "for; workers": f"{hold['seconds']:.0f} s; {hold['workers']}",
        "heartbeats answered": f"{hold['pings']:,}",
        "opened in": f"{hold['opened_in']:g} s",
        "resident memory of the workers, each connection": f"{hold['resident'] / hold['connections']:,.0f} bytes",
    }
    return _pairs(rows) + f"\n\n{facts(hold['machine'])}."


def reload(_: str) -> str:
    """A program replaced under load."""
    report = read("reload.json")
    lines = ["| | workers rolled (SIGHUP) | program replaced (SIGUSR2) |", "|---|---:|---:|"]
    kinds = [report["rolls"], report["restarts"]]
    for title, cell in (
        ("times", lambda kind: str(kind["replaced"])),
        ("messages a second", lambda kind: f"{kind['rate']:,}"),
        ("sent; answered", lambda kind: f"{kind['sent']:,}; {kind['answered']:,}"),
        ("lost; wrong; disconnected", lambda kind: f"{kind['lost']}; {kind['wrong']}; {kind['disconnects']}"),
        ("pause of a connection, median; longest", lambda k: f"{median(k['pauses_ms']):g}; {max(k['pauses_ms']):g} ms"),
        ("delay p99", lambda kind: f"{kind['delay_p99_ms']} ms"),
    ):
        lines.append(f"| {title} | {' | '.join(cell(kind) for kind in kinds)} |")
    return "\n".join(lines) + f"\n\n{report['connections']:,} connections. {facts(report['machine'])}."


def scale(_: str) -> str:
    """Two workers against one."""
    report = read("scale.json")
    rows = {
        f"{count} worker{'s' if count != '1' else ''}": f"{median(each[count] for each in report['rounds']):,.0f}"
        for count in ("1", str(report["workers"]))
    }
    where = "the load shared their cores" if report["shared"] else "the load had its own cores"
    told = f"Ratio {report['ratio']:.2f} on {report['cores']} cores; {where}. {facts(report['machine'])}."
    return _pairs(rows, "messages a second") + f"\n\n{told}"


def _pairs(rows: dict[str, str], title: str = "") -> str:
    return "\n".join([f"| | {title} |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())])


PLACES: dict[str, Callable[[str], str]] = {
    "goals": goals,
    "targets": targets,
    "all targets": all_targets,
    "workloads": workloads,
    "chat": chat,
    "hold": hold,
    "reload": reload,
    "scale": scale,
}
"""What stands where."""
