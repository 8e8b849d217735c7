"""One server process: pinned to a core, started, waited for, stopped.

Owns the process and its error output. Knows nothing of load.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

STARTING = 15.0
"""Seconds that a server may take until it says that it is ready."""


class PeerError(Exception):
    """A peer did not start, or a measurement against it failed. The text is one line for people."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens."""

    pid: int
    """The process that serves: another than was started, where that one only watches."""
    port: int
    what: str
    """What it said of itself."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pinned(core: int) -> partial[None]:
    """For ``preexec_fn``: stay on one core, with the runner's priority against everything else."""
    return partial(_settle, core, os.getpriority(os.PRIO_PROCESS, 0))


def _settle(core: int, nice: int) -> None:
    os.sched_setaffinity(0, {core})
    if nice:
        # Where the kernel groups processes by session, nice only counts within the group, and the group
        # has a nice value of its own (sched(7), "The autogroup feature").
        os.setsid()
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(nice))


@contextmanager
def serving(command: list[str], port: int, core: int) -> Iterator[Running]:
    """Run a server for the length of the block.

    :raises PeerError: it did not start, with its own words.
    """
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words, preexec_fn=pinned(core)
        )
        try:
            line = _first_line(process)
            if not line.startswith("ready"):
                raise PeerError(f"did not start: {_last_words(words) or line or 'it said nothing'}")
            what, _, pid = line.removeprefix("ready").strip().partition(" pid=")
            yield Running(int(pid or process.pid), port, what)
            if process.poll() is not None:
                raise PeerError(f"ended by itself, status {process.returncode}: {_last_words(words)}")
        finally:
            _stop(process)


def _first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], STARTING)
    return process.stdout.readline().decode(errors="replace").strip() if readable else ""


def _last_words(words: IO[bytes]) -> str:
    words.seek(0)
    lines = words.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0)):
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
    if process.stdout is not None:
        process.stdout.close()
