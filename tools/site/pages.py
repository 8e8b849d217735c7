"""Which pages of the docs the code writes, and by what. As a program: writes them into docs/, for `make docs`.

The site fills them by itself; they are kept in the repository as well, for who reads them there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import command

__all__ = ["DOCS", "FILLED", "stale"]

DOCS = Path(__file__).resolve().parents[2] / "docs"
FILLED: dict[str, Callable[[str], str]] = {
    "reference/command.md": command.fill,
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
