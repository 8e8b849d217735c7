"""Owns a server that runs as a person runs it, `wireway serve …` in a process, and commands that ask it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["WIREWAY", "command", "served"]

WIREWAY = (sys.executable, "-m", "wireway")


@contextmanager
def served(*words: str) -> Iterator[str]:
    """Run ``wireway serve WORDS`` for the block; gives its address."""
    process = subprocess.Popen([*WIREWAY, "serve", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        said, found = "", ""
        for line in process.stdout:
            said += line
            if line.startswith("  address"):
                found = line.split()[1].rstrip(",")
            if "stop it" in line:
                break
        assert found, said
        yield found
    finally:
        process.terminate()
        process.communicate(timeout=30)


def command(*words: str) -> tuple[int, str, str]:
    """Run ``wireway WORDS``: its exit status, what it printed, what it said on stderr."""
    done = subprocess.run([*WIREWAY, *words], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr
