"""The chat at the size of its goal: 5,000 people over JSON, 2,000 of them in one room, the others in rooms of 50;
beside it the same rooms on plain asyncio and on uvloop (`peers/chat.py`), under the same load in the same run.

    .venv/bin/python benchmarks/chat.py            two minutes; writes benchmarks/report/chat.json
    .venv/bin/python benchmarks/chat.py --people 500 --rounds 1 --peers ''

Each listener checks that every message of its room came once, in the order of each sender. Server and people are one
process each, on a core of their own, and a fresh server for each measurement. The load is fixed: who needs less of the
processor for it is better, and ratios are taken within a round. Ends with status 1 if Wireway's chat lost a message, or
delivered one twice or out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import site
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

import wireway
from harness import environments, machine
from harness.peers import BENCHMARKS, all_peers

REPORT = BENCHMARKS / "report" / "chat.json"
SMALL = 50
OURS = "wireway"
PACES = (1.0, 3.0)
"""At the first all keep up, and the kernel's part is nearly all of the work. At the second they have to save it."""


decode = msgspec.json.Decoder().decode


class Person(asyncio.Protocol):
    """Somebody in one room, who counts what they hear."""

    def __init__(self, crowd: Crowd, room: str) -> None:
        self.crowd, self.room = crowd, room
        self.rest = b""
        self.nick = ""
        self.said = 0
        self.heard: dict[str, int] = {}
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.tell(type="join", room=self.room)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.crowd.done.is_set():
            self.crowd.wrong += 1
            print(f"{self.nick} was disconnected: {error}")

    def tell(self, **command: str) -> None:
        data = msgspec.json.encode(command)
        assert self.transport is not None
        self.transport.write(len(data).to_bytes(4, "big") + data)

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        at, end = 0, len(data)
        while end - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big")
            if end - at < 4 + size:
                break
            self.hear(decode(data[at + 4 : at + 4 + size]))
            at += 4 + size
        self.rest = data[at:]

    def hear(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "message":
                number, _, sent = event["text"].partition(" ")
                nick = event["nick"]
                expected = self.heard.get(nick, 0)
                if int(number) != expected or event["room"] != self.room:
                    self.crowd.wrong += 1
                self.heard[nick] = expected + 1
                self.crowd.heard(time.monotonic() - float(sent))
            case "welcome":
                self.nick = event["nick"]
            case "history" if event["room"] == self.room:
                self.crowd.came()
            case "error":
                self.crowd.wrong += 1
                print(event)

    def say(self) -> None:
        self.tell(type="say", room=self.room, text=f"{self.said} {time.monotonic():.6f}")
        self.said += 1


class Crowd:
    """All of them."""

    def __init__(self, people: int) -> None:
        self.people = people
        self.there = self.wrong = self.count = self.expected = 0
        self.all_there, self.all_heard = asyncio.Event(), asyncio.Event()
        self.delays: list[float] = []
        self.done = asyncio.Event()

    def came(self) -> None:
        self.there += 1
        if self.there == self.people:
            self.all_there.set()

    def expect(self, deliveries: int) -> None:
        self.expected = deliveries
        if self.count >= deliveries:
            self.all_heard.set()

    def heard(self, seconds: float) -> None:
        self.count += 1
        if self.count == self.expected:
            self.all_heard.set()
        if self.count % 101 == 0:
            self.delays.append(seconds)


async def talk(port: int, pid: int, people: int, seconds: float, pace: float) -> dict[str, Any]:
    """Fill the rooms, speak for so long, and see whether all was heard."""
    loop = asyncio.get_running_loop()
    crowd = Crowd(people)
    large = people * 2 // 5
    where = ["large"] * large + [f"room{number // SMALL}" for number in range(people - large)]
    crowded: list[Person] = []
    for first in range(0, people, 200):
        made = [
            loop.create_connection(lambda room=room: Person(crowd, room), "127.0.0.1", port)  # type: ignore[misc]
            for room in where[first : first + 200]
        ]
        crowded += [protocol for _, protocol in await asyncio.gather(*made)]
    async with asyncio.timeout(60):
        await crowd.all_there.wait()
    speakers = crowded[: min(40, large)]
    others = crowded[large:]
    expected = 0
    size = {room: where.count(room) for room in set(where)}
    used, own_used = cpu_of(pid), time.process_time()
    began = time.monotonic()
    turn = 0
    while (elapsed := time.monotonic() - began) < seconds:
        # At pace 1: 50 messages a second in the large room, and one of each in the small rooms every 4 s.
        while turn < elapsed * 50 * pace:
            speakers[turn % len(speakers)].say()
            expected += size["large"]
            for person in others[turn % 200 :: 200]:
                person.say()
                expected += size[person.room]
            turn += 1
        await asyncio.sleep(0.005)
    spoke = time.monotonic() - began
    try:
        async with asyncio.timeout(60):
            crowd.expect(expected)
            await crowd.all_heard.wait()
    except TimeoutError:
        pass
    took = time.monotonic() - began
    user, system = (round(after - before, 2) for after, before in zip(cpu_of(pid), used, strict=True))
    own_used = time.process_time() - own_used
    crowd.done.set()
    for person in crowded:
        assert person.transport is not None
        person.transport.abort()
    return {
        "people": people,
        "large_room": large,
        "small_rooms": len(set(where)) - 1,
        "seconds": round(spoke, 2),
        "until_all_was_heard": round(took, 2),
        "said": sum(person.said for person in crowded),
        "deliveries": crowd.count,
        "expected": expected,
        "lost": expected - crowd.count,
        "out_of_order_or_wrong": crowd.wrong,
        "deliveries_per_second": round(crowd.count / took),
        "server_cpu_seconds": round(user + system, 2),
        "server_system_seconds": system,
        "people_cpu_seconds": round(own_used, 2),
        "delays": sorted(crowd.delays),
    }


def measure(
    name: str, command: list[str], environment: dict[str, str], people: int, seconds: float, pace: float
) -> dict[str, Any]:
    """One server under the load: what came of it, and what it took."""
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    assert server.stdout is not None
    try:
        port = None
        for line in server.stdout:
            found = re.search(r"programs +tcp://\S+:(\d+)|^ready (\d+)", line)
            port = int(found[1] or found[2]) if found else port
            if "stop it" in line or line.startswith("ready"):
                break
        assert port is not None, f"{name} did not start"
        if (os.cpu_count() or 1) > 1:
            os.sched_setaffinity(server.pid, {0})
            os.sched_setaffinity(0, {1})
        stolen = machine.times()
        outcome = wireway.run(talk(port, server.pid, people, seconds, pace))
        outcome["stolen"] = round(machine.stolen_since(stolen), 3)
    finally:
        server.terminate()
        server.wait(60)
    return outcome


def cpu_of(pid: int) -> tuple[float, float]:
    """Seconds of the processor that a process has used: its own, and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK"), int(fields[12]) / os.sysconf("SC_CLK_TCK")


def together(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """All rounds of one server as one."""
    sums = ("seconds", "until_all_was_heard", "said", "deliveries", "expected", "lost", "out_of_order_or_wrong")
    used = ("server_cpu_seconds", "server_system_seconds", "people_cpu_seconds")
    whole = rounds[0] | {name: round(sum(each[name] for each in rounds), 2) for name in (*sums, *used)}
    delays = sorted(delay for each in rounds for delay in each["delays"])
    del whole["delays"]
    whole["deliveries_per_second"] = round(whole["deliveries"] / whole["until_all_was_heard"])
    whole["cpu_us_per_delivery"] = round(whole["server_cpu_seconds"] / whole["deliveries"] * 1e6, 2)
    for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
        whole[f"{name}_ms"] = round(delays[int(len(delays) * part)] * 1e3, 2)
    whole["largest_ms"] = round(delays[-1] * 1e3, 2)
    return whole


def commands(peers: list[str]) -> dict[str, tuple[list[str], dict[str, str]]]:
    """How each is started: its command, and what its environment has more."""
    ours = [sys.executable, "-m", "wireway", "serve", "chat", "--port", "0", "--json-port", "0", "--web-port", "0"]
    found: dict[str, tuple[list[str], dict[str, str]]] = {OURS: ([*ours, "--room", "", "--rate", "1000"], {})}
    paths = [str(BENCHMARKS.parent / "python"), *site.getsitepackages()]
    for name in peers:
        try:
            python = environments.environment(all_peers()[name])
        except environments.MissingError as error:
            print(f"left out: {name}: {error}")
            continue
        command = [str(python), str(BENCHMARKS / "peers" / "chat.py"), "--loop", name]
        found[name] = (command, {"PYTHONPATH": os.pathsep.join(paths)})
    return found


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(description="5,000 people in a chat", allow_abbrev=False)
    parser.add_argument("--people", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each server, pace and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peers", default="uvloop,asyncio", help="the same rooms on these loops; '' for none")
    options = parser.parse_args()
    about = machine.describe()
    candidates = commands([name for name in options.peers.split(",") if name])
    report: dict[str, Any] = {}
    for pace in PACES:
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in candidates}
        for number in range(options.rounds):
            for name, (command, environment) in candidates.items():
                outcome = measure(name, command, environment, options.people, options.seconds, pace)
                rounds[name].append(outcome)
                said = {key: value for key, value in outcome.items() if key != "delays"}
                print(f"pace {pace:g}, round {number + 1}, {name}: {json.dumps(said)}", flush=True)
        report[f"pace_{pace:g}"] = compared(rounds)
    report |= {"machine": about, "load_at_the_end": " ".join(f"{value:.1f}" for value in os.getloadavg())}
    print(json.dumps(report, indent=1))
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    ours = [report[f"pace_{pace:g}"][OURS] for pace in PACES]
    return 1 if any(each["lost"] or each["out_of_order_or_wrong"] for each in ours) else 0


def compared(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Each candidate, and what a delivery took of the processor, to ours in the same round."""
    whole = {name: together(each) for name, each in rounds.items()}

    def cost(outcome: dict[str, Any]) -> float:
        return float(outcome["server_cpu_seconds"] / outcome["deliveries"])

    for name, each in rounds.items():
        ratios = [cost(theirs) / cost(ours) for theirs, ours in zip(each, rounds[OURS], strict=True)]
        whole[name]["cpu_to_ours"] = round(statistics.median(ratios), 2)
    return whole


if __name__ == "__main__":
    sys.exit(main())
