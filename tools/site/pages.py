"""Which pages of the docs the code writes, and by what. As a program: writes them into docs/, for `make docs`.

The site fills them by itself; they are kept in the repository as well, for who reads them there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import command
import measured

import configuration

__all__ = ["DOCS", "FILLED", "stale"]

DOCS = Path(__file__).resolve().parents[2] / "docs"
BACK_ENDS = ("select", "poll", "sigio", "epoll", "io-uring")
FILLED: dict[str, Callable[[str], str]] = {
    "reference/command.md": command.fill,
    "reference/configuration.md": configuration.fill,
    "benchmarks.md": measured.benchmarks,
    "explanation/back-ends.md": measured.back_ends,
    "zh/io-models.md": measured.in_chinese,
    "explanation/c10k.md": measured.hold,
    **{f"explanation/back-ends/{name}.md": measured.back_end for name in BACK_ENDS},
}
"""Each takes the page as it is, and returns it as it should be."""


def stale() -> dict[Path, str]:
    """Pages that say something else than the code, with what they should say."""
    pages = {DOCS / name: fill((DOCS / name).read_text()) for name, fill in FILLED.items()}
    return {path: text for path, text in pages.items() if text != path.read_text()}


if __name__ == "__main__":
    for path, text in stale().items():
        path.write_text(text)
        print(f"wrote {path.relative_to(DOCS.parent)}")
