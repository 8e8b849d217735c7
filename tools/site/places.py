"""Places in a page that the code writes: from `<!-- name: argument -->` to `<!-- end -->`. Knows no page."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["filled", "place"]


def place(name: str, argument: str = "") -> str:
    """The line that begins a place."""
    return f"<!-- {name}: {argument} -->" if argument else f"<!-- {name} -->"


def filled(page: str, name: str, write: Callable[[str], str]) -> str:
    """The page, with what `write` says for its argument in each place of that name."""
    places = re.compile(rf"^<!-- {name}(?:: ([^\n]*?))? -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)

    def one(match: re.Match[str]) -> str:
        argument = match[1] or ""
        return f"{place(name, argument)}\n\n{write(argument).strip()}\n\n<!-- end -->"

    return places.sub(one, page)
