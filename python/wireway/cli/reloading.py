"""`--reload`: the command runs in a child, which is started anew when a file changes. For development.

Owns the watching and the child. A child that ends by itself, say on an error in a file, is waited for no longer: the
next change starts another.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

import typer

from wireway.cli import logs

__all__ = ["run_again_and_again"]

_GRACE = 15.0
"""Seconds that a child may take to drain; a second Ctrl-C, or this, ends it at once."""
_SUFFIXES = (".py", ".pyi", ".toml")


def run_again_and_again(watched: Sequence[Path]) -> int:
    """Run this command without `--reload`, and again whenever one of the files beneath `watched` changes.

    Returns the exit status once SIGINT or SIGTERM ends it: that of the last child.
    """
    import watchfiles

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it counts what we name
    command = [sys.executable, "-m", "wireway", *(word for word in sys.argv[1:] if word != "--reload")]
    over = threading.Event()
    child = _Child(command)

    def end(number: int, frame: FrameType | None) -> None:
        if over.is_set():
            child.kill()
        over.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        child.start()
        names = {path.absolute() for path in watched if path.is_file()}
        wanted = _Wanted(names)
        for changes in watchfiles.watch(
            *_folders(watched), watch_filter=wanted, stop_event=over, raise_interrupt=False
        ):
            found = sorted({Path(path).name for _, path in changes})
            text = f"changed: {', '.join(found[:5])}{' …' if len(found) > 5 else ''}; starting anew"
            logs.event(text, event="reload", files=found) if logs.is_json() else typer.echo(text)
            child.end()
            if over.is_set():
                break
            child.start()
    finally:
        child.end()
        for number, handler in before.items():
            signal.signal(number, handler)
    return child.status


class _Wanted:
    """Which changes count: sources and configurations, and files that are watched by name."""

    def __init__(self, names: set[Path]) -> None:
        import watchfiles

        self._names = names
        self._usual = watchfiles.DefaultFilter()

    def __call__(self, change: object, path: str) -> bool:
        """As watchfiles asks."""
        return Path(path) in self._names or (path.endswith(_SUFFIXES) and self._usual(change, path))  # type: ignore[arg-type]


def _folders(watched: Iterable[Path]) -> list[Path]:
    """Folders: a file that an editor replaces is another file, which only its folder tells of."""
    folders = {(path if path.is_dir() else path.parent).absolute() for path in watched}
    return sorted(each for each in folders if each.is_dir() and not any(other in folders for other in each.parents))


class _Child:
    """The process that serves, and its group."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = False
        self.status = 0

    def start(self) -> None:
        """Start it. It has a group of its own: Ctrl-C is for us, who tell it."""
        self._process = process = subprocess.Popen(self._command, process_group=0)
        threading.Thread(target=self._mind, args=[process], daemon=True).start()

    def _mind(self, process: subprocess.Popen[bytes]) -> None:
        """Say when it ends by itself."""
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is reaped by who ends it
        if self._process is process and not self._ending:
            text = "the server has ended; waiting for a file to change"
            logs.event(text, event="ended") if logs.is_json() else typer.echo(text)

    def end(self) -> None:
        """Let it drain, and end; kill it if it does not."""
        process = self._process
        if process is None:
            return
        self._ending = True
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
            process.wait()
        # Ended by a signal of ours is ended well.
        self.status = max(process.returncode, 0)
        self._process, self._ending = None, False

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
