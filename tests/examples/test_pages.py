"""The pages that are programs run on every back end, not only on the one that `auto` takes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from support.tree import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["docs/tutorial/chat-server.md", "docs/how-to/test-your-service.md"])
def test_its_blocks_run(page: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIREWAY_BACKEND", backend)
    names: dict[str, Any] = {"__name__": "page"}
    for block in BLOCK.findall((ROOT / page).read_text()):
        exec(compile(block, page, "exec"), names)
