"""Owns the terminal of the tests: a private tmux, in which a command runs, keys are typed and the screen is read."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["Terminal", "terminal"]

_PATIENCE = 30.0


class Terminal:
    """A terminal of a given size in which one command runs."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-L", self._name, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    def keys(self, *keys: str) -> None:
        """Type: names of keys as tmux knows them (Enter, C-k), or text."""
        self._tmux("send-keys", *keys)

    def paste(self, text: str) -> None:
        """Paste, as a terminal does it: in brackets, where the command asks for that."""
        self._tmux("set-buffer", text)
        self._tmux("paste-buffer", "-p")

    def screen(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p")

    def wait_for(self, *texts: str, gone: str | None = None) -> str:
        """Wait until all of them are on the screen, and `gone` is not. Returns it."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            screen = self.screen()
            if all(text in screen for text in texts) and (gone is None or gone not in screen):
                return screen
            assert time.monotonic() < deadline, f"not within {_PATIENCE:g} s: {texts}, gone {gone!r}\n{screen}"
            time.sleep(0.05)


@contextmanager
def terminal(
    command: Sequence[str], *, columns: int = 140, lines: int = 40, folder: Path | None = None, **environment: str
) -> Iterator[Terminal]:
    """Run a command in a terminal. When it has ended, ``ended N`` is on the screen, with its exit status."""
    if shutil.which("tmux") is None:
        text = "there is no tmux: apt-get install tmux, or tests/interop/install.sh"
        if os.environ.get("WIREWAY_INTEROP_STRICT") == "1":
            pytest.fail(text)
        pytest.skip(text)
    name = f"wireway-{uuid.uuid4().hex[:12]}"
    words = " ".join(f"'{word}'" for word in command)
    size = ["-x", str(columns), "-y", str(lines)]
    given = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "TERM": "xterm-256color", **environment}
    given.setdefault("LC_ALL", "C.UTF-8")
    for key in ("PYTHONPATH", "XDG_RUNTIME_DIR"):
        if key in os.environ:
            given.setdefault(key, os.environ[key])
    # Ctrl-C is for the command: the shell stays, to say how it ended.
    shell = f"trap : INT; {words}; printf 'ended %s\\n' $?; sleep 600"
    start = ["tmux", "-L", name, "-f", "/dev/null", "new-session", "-d", *size, "sh", "-c", shell]
    subprocess.run(start, check=True, env=given, cwd=folder, timeout=30)
    try:
        yield Terminal(name)
    finally:
        subprocess.run(["tmux", "-L", name, "kill-server"], check=False, capture_output=True, timeout=30)
