"""What mkdocs calls while it builds the site: the places that the code writes are filled, so they are true on the site.

`mkdocs.yml` names this file under `hooks`; the modules beside it write a page each.
"""

from __future__ import annotations

from typing import Any

from pages import FILLED


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the page, if it is one of those."""
    fill = FILLED.get(page.file.src_uri)
    return markdown if fill is None else fill(markdown)
