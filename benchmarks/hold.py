"""Very many connections at once, over workers: `make hold`. Held or lost, what they cost, and who has the memory.

Owns the course of one run. `peers/many.py` is the server, the load generator's ``heartbeats`` the clients: each opens
its share over one interval, answers every ping, and ends with an error if a connection is lost or has no ping in the
window.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import environments, machine
from harness.peers import BENCHMARKS, SOURCES
from harness.process import free_port

RESERVE = 400
"""Descriptors of a process that are not for connections."""
UNEVEN = 0.95
"""How full a worker may be on the average: the kernel deals connections by a hash of the addresses, not by turns."""
NETWORK = 10
"""Clients come from 127.0.10.0/24 and on, a network for each process."""


class HoldError(Exception):
    """It could not be measured. The text is one line for people."""


def main() -> None:
    """Run it, print the table, write the JSON. Exit status: 0 all were held, 1 not all, or it could not be run."""
    parser = argparse.ArgumentParser(description="hold very many connections over workers")
    parser.add_argument("--connections", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long, once all are open (default 300)")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two heartbeats (default 20)")
    parser.add_argument("--workers", type=int, help="as many as the descriptors of a process ask for, unless told")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "report" / "hold.json")
    options = parser.parse_args()
    if options.connections < 1 or options.seconds <= 0 or options.every <= 0:
        parser.error("--connections, --seconds and --every must be above 0")
    try:
        result = hold(options)
    except (HoldError, environments.MissingError) as error:
        sys.exit(f"hold: {error}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))
    sys.exit(0 if result["held"] == options.connections and not result["lost"] else 1)


def hold(options: argparse.Namespace) -> dict[str, Any]:
    """One run.

    :raises HoldError: it could not be measured.
    """
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - RESERVE
    workers = options.workers or max(1, -(-options.connections // int(room * UNEVEN)))
    clients = max(1, -(-options.connections // room))
    generator = environments.build_generator()
    before = kernel()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        server = start_server(stack, options, port, workers, folder)
        until(lambda: len(list(folder.glob("*.pid"))) == workers, 60, "the workers did not start")
        pids = [int(path.stem) for path in folder.glob("*.pid")]
        rest = workers_memory(pids)
        opening = options.every
        running = start_clients(stack, options, generator, port, clients, opening)
        began = time.monotonic()
        until(lambda: total(folder, pids, running)["open"] >= options.connections, 4 * opening + 60, "not all came", 2)
        opened = time.monotonic() - began
        busy, since = processor(pids), time.monotonic()
        time.sleep(max(1.0, options.seconds * 0.8))
        used, held = processor(pids) - busy, time.monotonic() - since
        reports = ask(folder, pids)
        last = reports[0]["total"]
        after, full = kernel(), workers_memory(pids)
        answers = [end(client, options, opening) for client in running]
        if server.poll() is not None:
            raise HoldError(f"the server ended by itself, status {server.returncode}")
    lost = [answer for answer in answers if "lost" in answer or answer.get("errors")]
    owners = list(reports[0]["memory"]["sums"])
    return {
        "machine": machine.describe(),
        "connections": options.connections,
        "held": last["open"],
        "lost": lost,
        "closed": last["closed"],
        "seconds": options.seconds,
        "every": options.every,
        "workers": workers,
        "clients": clients,
        "opened_in": round(opened, 1),
        "spread": sorted(report["stats"]["open"] for report in reports),
        "processor": round(used / held, 3),
        "pings": sum(answer.get("messages", 0) for answer in answers),
        "memory": {name: sum(report["memory"]["sums"][name] for report in reports) for name in owners},
        "shared": sum(
            report["memory"][name] for report in reports for name in ("shared_blocks", "shared_driver", "shared_groups")
        ),
        "resident": full - rest,
        "machine_memory": before["available"] - after["available"],
        "kernel_slabs": after["slab"] - before["slab"],
    }


def start_server(
    stack: ExitStack, options: argparse.Namespace, port: int, workers: int, folder: Path
) -> subprocess.Popen[bytes]:
    """The supervisor, which ends with the block."""
    command = [sys.executable, str(SOURCES / "many.py"), "--loop", "wireway", "--mode", "server-heartbeat"]
    command += ["--port", str(port), "--every", str(options.every), "--backend", options.backend]
    command += ["--workers", str(workers), "--reports", str(folder)]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    stack.callback(stop, server)
    return server


def start_clients(
    stack: ExitStack, options: argparse.Namespace, generator: Path, port: int, clients: int, opening: float
) -> list[subprocess.Popen[bytes]]:
    """The clients, which share the connections."""
    running = []
    for number in range(clients):
        share = options.connections // clients + (number < options.connections % clients)
        command = [str(generator), "heartbeats", "--port", str(port), "--connections", str(share)]
        command += ["--every", str(opening), "--warmup", str(3 * opening), "--seconds", str(options.seconds)]
        command += ["--network", str(NETWORK + number)]
        client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        stack.callback(stop, client)
        running.append(client)
    return running


def end(client: subprocess.Popen[bytes], options: argparse.Namespace, opening: float) -> dict[str, Any]:
    """What a client has seen."""
    try:
        said, words = client.communicate(timeout=options.seconds + 4 * opening + 60)
    except subprocess.TimeoutExpired:
        raise HoldError("a client did not end") from None
    if client.returncode != 0:
        return {"lost": words.decode(errors="replace").strip()}
    answer: dict[str, Any] = json.loads(said)
    return answer


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, at the latest after 30 s."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(folder: Path, pids: list[int]) -> list[dict[str, Any]]:
    """What each worker holds."""
    for path in folder.glob("*.json"):
        path.unlink()
    for pid in pids:
        try:
            os.kill(pid, signal.SIGUSR1)
        except ProcessLookupError:
            raise HoldError(f"worker process {pid} is gone") from None
    until(lambda: len(list(folder.glob("*.json"))) == len(pids), 60, "a worker did not answer")
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def total(folder: Path, pids: list[int], clients: list[subprocess.Popen[bytes]]) -> dict[str, Any]:
    """The counts of all workers together."""
    for client in clients:
        if client.poll() is not None:
            words = client.stderr.read().decode(errors="replace").strip() if client.stderr else ""
            raise HoldError(f"a client ended before all connections were open: {words or client.returncode}")
    counts: dict[str, Any] = ask(folder, pids[:1])[0]["total"]
    return counts


def until(holds: Callable[[], bool], seconds: float, otherwise: str, step: float = 0.1) -> None:
    """Wait for what other processes do.

    :raises HoldError: it did not come.
    """
    limit = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > limit:
            raise HoldError(f"{otherwise} within {seconds:g} s")
        time.sleep(step)


def processor(pids: list[int]) -> float:
    """Processor time of the workers, seconds."""
    ticks = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def workers_memory(pids: list[int]) -> int:
    """Private memory of the workers, bytes."""
    found = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                found += int(line.split()[1]) * 1024
    return found


def kernel() -> dict[str, int]:
    """The machine's memory, bytes: both ends of the connections are on it."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    sizes = {name: int(value.split()[0]) * 1024 for name, value in lines.items()}
    return {"available": sizes["MemAvailable"], "slab": sizes["Slab"]}


def table(result: dict[str, Any]) -> str:
    """For people."""
    count = max(1, result["held"])
    rows = [
        ("connections", f"{result['held']:,} of {result['connections']:,} held for {result['seconds']:g} s"),
        ("lost", json.dumps(result["lost"]) if result["lost"] else "none"),
        ("closed", json.dumps(result["closed"]) if result["closed"] else "none"),
        ("workers", f"{result['workers']}, with {result['spread'][0]:,} to {result['spread'][-1]:,}"),
        ("opened in", f"{result['opened_in']} s"),
        ("heartbeats", f"{result['pings']:,} answered, one each {result['every']:g} s"),
        ("processor", f"{result['processor']} s a second, all workers"),
    ]
    rows += [(name, f"{size:,} bytes, {size / count:,.0f} a connection") for name, size in result["memory"].items()]
    for name in ("shared", "resident", "kernel_slabs", "machine_memory"):
        rows.append((name, f"{result[name]:,} bytes, {result[name] / count:,.0f} a connection"))
    return "\n".join(f"{name:<16} {text}" for name, text in rows)


if __name__ == "__main__":
    main()
