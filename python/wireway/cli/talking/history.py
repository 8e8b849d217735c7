"""Owns the file in which typed lines are kept: where it is, and that nobody else reads it."""

from __future__ import annotations

import os
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

__all__ = ["history_at", "history_path"]


def history_path() -> Path:
    """Where it is unless told: XDG's folder for state (basedir-spec 0.8)."""
    folder = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(folder) / "wireway" / "connect_history"


class _Private(FileHistory):
    """A line that begins with a space is not kept, as in shells with HISTCONTROL=ignorespace."""

    def store_string(self, string: str) -> None:
        if not string.startswith(" "):
            super().store_string(string)


def history_at(path: Path | None) -> tuple[History, str | None]:
    """The history in a file of mode 0600; in memory, and why, where that can not be, or where none is wanted."""
    if path is None:
        return InMemoryHistory(), None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return InMemoryHistory(), f"no history is kept: {error.strerror}: {path}"
    return _Private(path), None
