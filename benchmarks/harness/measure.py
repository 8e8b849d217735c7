"""One round of one workload against one fresh server.

Owns how a figure is taken: the server alone on one core, the generator alone on another. Knows nothing
of rounds, medians and targets.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import syscalls
from harness.environments import Prepared
from harness.peers import Peer, is_framed
from harness.process import PeerError, Running, free_port, pinned, serving
from harness.workloads import Workload

SERVER_CORE, GENERATOR_CORE = 0, 1
DISTURBED = 0.05
"""A round in which either side waited longer for its core (share of the time) had company."""
SOME, MORE = 1000, 5000
"""Idle connections: memory is the difference that the second lot makes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How long to measure."""

    seconds: float = 2.0
    warmup: float = 0.3
    retry_disturbed: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round gave. Times of the server are of the measured window only."""

    value: float
    """The main figure, in the workload's unit."""
    what: str = ""
    """What the server said of itself."""
    messages: float = 0.0
    cpu_seconds: float = 0.0
    user_ticks: int = 0
    system_ticks: int = 0
    server_cpu: float = 0.0
    generator_cpu: float = 0.0
    generator_bound: bool = False
    voluntary: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    p999_us: float = 0.0
    slowest_connection: float = 0.0
    waited: float = 0.0
    """The larger share of the time that server or generator waited for its core."""
    errors: int = 0
    first_error: str = ""

    @property
    def capacity(self) -> float:
        """Messages for each second that the server was on its core, waiting not counted."""
        return self.messages / self.cpu_seconds if self.cpu_seconds else 0.0

    @property
    def disturbed(self) -> bool:
        """Whether something else ran on the cores."""
        return self.waited > DISTURBED

    def as_dict(self) -> dict[str, Any]:
        """For the JSON report."""
        return asdict(self)


def measure(workload: Workload, peer: Peer, mode: str, prepared: Prepared, settings: Settings) -> Sample:
    """One round; taken once more if something else disturbed it.

    :raises PeerError: the server does not start, or the generator got no figure.
    """
    sample = _once(workload, peer, mode, prepared, settings)
    if sample.disturbed and settings.retry_disturbed:
        again = _once(workload, peer, mode, prepared, settings)
        return min(sample, again, key=lambda one: one.waited)
    return sample


def count_syscalls(workload: Workload, peer: Peer, mode: str, prepared: Prepared) -> float | None:
    """System calls for each message, of a short run of its own; `None` if they cannot be counted here."""
    if workload.kind not in ("echo", "churn"):
        return None
    port = free_port()
    with serving(peer.serve(prepared.programs[peer.name], mode, port), port, SERVER_CORE) as server:
        generator = _generator(workload, mode, prepared, server, Settings(0.3, 0.1))
        return syscalls.for_each_message(server.pid, generator)


def _once(workload: Workload, peer: Peer, mode: str, prepared: Prepared, settings: Settings) -> Sample:
    program = prepared.programs[peer.name]
    if workload.kind == "exercise":
        return _exercise(peer.exercise(program, mode, settings.seconds / 4))
    port = free_port()
    with serving(peer.serve(program, mode, port, workload.every), port, SERVER_CORE) as server:
        if workload.kind == "idle":
            return _idle(workload, mode, prepared.generator, server)
        if workload.kind == "heartbeats":
            # They open over the first interval, and are measured for the two after it.
            settings = Settings(2 * workload.every, workload.every + 0.3)
            return _load(server, _generator(workload, mode, prepared, server, settings), _cost)
        return _load(server, _generator(workload, mode, prepared, server, settings))


def _generator(workload: Workload, mode: str, prepared: Prepared, server: Running, settings: Settings) -> list[str]:
    kind = workload.kind if workload.kind != "echo" else ("framed" if is_framed(mode) else "raw")
    command = [str(prepared.generator), kind, "--port", str(server.port), "--server-pid", str(server.pid)]
    command += ["--connections", str(workload.connections), "--depth", str(workload.depth)]
    command += ["--size", str(workload.size), "--core", str(GENERATOR_CORE)]
    command += ["--seconds", str(settings.seconds), "--warmup", str(settings.warmup)]
    if kind == "http":
        command += ["--path", workload.path]
    if kind == "heartbeats":
        command += ["--every", str(workload.every)]
    if kind == "churn" and not is_framed(mode):
        command.append("--unframed")
    return command


def _run(command: list[str], core: int = GENERATOR_CORE) -> dict[str, Any]:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=120, preexec_fn=pinned(core)
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"{Path(command[0]).name} did not end within 120 s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise PeerError(lines[-1] if lines else f"{Path(command[0]).name}: status {done.returncode}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def _rate(got: dict[str, Any]) -> float:
    rate: float = got["rate"]
    return rate


def _cost(got: dict[str, Any]) -> float:
    """The server's processor time: microseconds in each second."""
    share: float = got["server"]["cpu"]
    return share * 1e6


def _load(server: Running, command: list[str], value: Callable[[dict[str, Any]], float] = _rate) -> Sample:
    got = _run(command)
    used = got["server"]
    return Sample(
        value=value(got),
        what=server.what,
        messages=got["messages"],
        cpu_seconds=used["cpu_seconds"],
        user_ticks=used["user_ticks"],
        system_ticks=used["system_ticks"],
        server_cpu=used["cpu"],
        generator_cpu=got["generator_cpu"],
        generator_bound=got["generator_bound"],
        voluntary=used["voluntary_switches"],
        p50_us=got["p50_us"],
        p99_us=got["p99_us"],
        p999_us=got["p999_us"],
        slowest_connection=got.get("slowest_connection", 0.0),
        waited=max(used["waited"], got["generator_waited"]),
        errors=got["errors"],
        first_error=got["first_error"] or "",
    )


def _exercise(command: list[str]) -> Sample:
    got = _run(command, SERVER_CORE)
    return Sample(value=got["rate"], what=got["what"])


def _idle(workload: Workload, mode: str, generator: Path, server: Running) -> Sample:
    command = [str(generator), "idle", "--port", str(server.port), "--size", str(workload.size)]
    if not is_framed(mode):
        command.append("--unframed")
    held: list[subprocess.Popen[bytes]] = []
    try:
        memory = []
        for connections in (SOME, workload.connections):
            held.append(_hold([*command, "--connections", str(connections)]))
            time.sleep(0.2)  # what the server does after its last reply is no event that we could wait for
            memory.append(_private_bytes(server.pid))
        return Sample(value=(memory[1] - memory[0]) / workload.connections, what=server.what)
    finally:
        for process in held:
            process.communicate()


def _hold(command: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=pinned(GENERATOR_CORE),
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        _, words = process.communicate()
        raise PeerError(words.decode(errors="replace").strip() or "the generator ended")
    return process


def _private_bytes(pid: int) -> int:
    """Memory that belongs to the process alone."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Private_"))
