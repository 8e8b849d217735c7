"""System calls for each message, counted in a run apart, because counting slows the server.

By ``perf``, which counts in the kernel; by ``strace`` where perf is not allowed; otherwise not at all.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

EVENT = "raw_syscalls:sys_enter"


@cache
def counter() -> str:
    """The tool that counts here: ``perf``, ``strace`` or nothing."""
    with tempfile.NamedTemporaryFile() as file:
        if shutil.which("perf") is not None:
            command = ["perf", "stat", "-x,", "-o", file.name, "-e", EVENT, "true"]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return "perf"
    return "strace" if shutil.which("strace") is not None else ""


def for_each_message(pid: int, generator: list[str]) -> float | None:
    """Run the generator and count the calls of process `pid` meanwhile; `None` if nothing can count."""
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        if counter() == "perf":
            command = ["perf", "stat", "-x,", "-o", file.name, "-e", EVENT, "-p", str(pid), "--", *generator]
            messages = _messages(command)
            calls = _perf_count(path.read_text())
        elif counter() == "strace":
            strace = subprocess.Popen(
                ["strace", "-f", "-q", "-c", "-U", "calls,name", "-o", file.name, "-p", str(pid)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                _traced(pid)
                messages = _messages(generator)
            finally:
                strace.send_signal(signal.SIGINT)
                strace.wait(5)
            calls = _strace_count(path.read_text())
        else:
            return None
    return calls / messages if calls is not None and messages else None


def _messages(command: list[str]) -> int:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0 or not done.stdout:
        return 0
    return int(json.loads(done.stdout.splitlines()[-1])["all_messages"])


def _perf_count(text: str) -> int | None:
    for line in text.splitlines():
        count = line.split(",", 1)[0]
        if EVENT in line and count.isdigit():
            return int(count)
    return None


def _strace_count(text: str) -> int | None:
    lines = [line.split() for line in text.splitlines() if line.rstrip().endswith("total")]
    return int(lines[-1][0]) if lines and lines[-1][0].isdigit() else None


def _traced(pid: int) -> None:
    """Wait until a tracer is attached: nothing tells, so look."""
    for _ in range(200):
        if "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.01)
