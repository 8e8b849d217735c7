"""The chat at the size of its goal: 5,000 people over JSON, 2,000 of them in one room, the others in rooms of 50.

    .venv/bin/python benchmarks/chat.py            a minute; writes benchmarks/report/chat.json
    .venv/bin/python benchmarks/chat.py --people 500

Each listener checks that every message of its room came once, in the order of each sender. Server and people are one
process each, on a core of their own. Ends with status 1 if a message was lost, came twice or out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import wireway

REPORT = Path(__file__).parent / "report" / "chat.json"
SMALL = 50


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
        self.tell(type="leave", room="lobby")
        self.tell(type="join", room=self.room)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.crowd.done.is_set():
            self.crowd.wrong += 1
            print(f"{self.nick} was disconnected: {error}")

    def tell(self, **command: str) -> None:
        data = json.dumps(command).encode()
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
            self.hear(json.loads(data[at + 4 : at + 4 + size]))
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
            case "people" if event["room"] == self.room:
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


async def talk(host: str, port: int, people: int, seconds: float) -> dict[str, Any]:
    """Fill the rooms, speak for so long, and see whether all was heard."""
    loop = asyncio.get_running_loop()
    crowd = Crowd(people)
    large = people * 2 // 5
    where = ["large"] * large + [f"room{number // SMALL}" for number in range(people - large)]
    crowded: list[Person] = []
    for first in range(0, people, 200):
        made = [
            loop.create_connection(lambda room=room: Person(crowd, room), host, port)
            for room in where[first : first + 200]
        ]
        crowded += [protocol for _, protocol in await asyncio.gather(*made)]
    async with asyncio.timeout(60):
        await crowd.all_there.wait()
    speakers = crowded[: min(40, large)]
    others = crowded[large:]
    expected = 0
    size = {room: where.count(room) for room in set(where)}
    began = time.monotonic()
    turn = 0
    while (elapsed := time.monotonic() - began) < seconds:
        # 50 messages a second in the large room, and one of each in the small rooms every 4 s.
        while turn < elapsed * 50:
            speakers[turn % len(speakers)].say()
            expected += size["large"]
            for person in others[turn % 200 :: 200]:
                person.say()
                expected += size[person.room]
            turn += 1
        await asyncio.sleep(0.005)
    spoke = time.monotonic() - began
    try:
        async with asyncio.timeout(30):
            crowd.expect(expected)
            await crowd.all_heard.wait()
    except TimeoutError:
        pass
    crowd.done.set()
    delays = sorted(crowd.delays)
    for person in crowded:
        assert person.transport is not None
        person.transport.abort()
    return {
        "people": people,
        "large_room": large,
        "small_rooms": len(set(where)) - 1,
        "seconds": round(spoke, 2),
        "said": sum(person.said for person in crowded),
        "deliveries": crowd.count,
        "expected": expected,
        "lost": expected - crowd.count,
        "out_of_order_or_wrong": crowd.wrong,
        "deliveries_per_second": round(crowd.count / spoke),
        "p50_ms": round(delays[len(delays) // 2] * 1e3, 2),
        "p99_ms": round(delays[len(delays) * 99 // 100] * 1e3, 2),
    }


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(description="5,000 people in a chat", allow_abbrev=False)
    parser.add_argument("--people", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    command = [sys.executable, "-m", "wireway", "serve", "chat", "--port", "0", "--json-port", "0", "--web-port", "0"]
    server = subprocess.Popen([*command, "--rate", "1000"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    said = ""
    for line in server.stdout:
        said += line
        if "stop it" in line:
            break
    found = re.search(r"programs +tcp://(\S+):(\d+)", said)
    assert found, said
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(server.pid, {0})
        os.sched_setaffinity(0, {1})
    try:
        outcome = wireway.run(talk(found[1], int(found[2]), options.people, options.seconds))
        with Path(f"/proc/{server.pid}/stat").open() as file:
            fields = file.read().rpartition(") ")[2].split()
        outcome["server_cpu_seconds"] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    finally:
        server.terminate()
        server.wait(30)
    print(json.dumps(outcome, indent=1))
    REPORT.write_text(json.dumps(outcome, indent=1) + "\n")
    return 1 if outcome["lost"] or outcome["out_of_order_or_wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
