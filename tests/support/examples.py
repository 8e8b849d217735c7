"""Owns how tests load an example: a fresh module each time, on a free port."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from support.tree import ROOT

FOLDER = ROOT / "examples"


def example(number: int) -> Any:
    """The example with that number, as a new module, with port 0 where it says another."""
    path = path_of(number)
    source = re.sub(r"((?:tcp|tls)://127\.0\.0\.1):\d+", r"\1:0", path.read_text())
    module = ModuleType(path.stem)
    exec(compile(source, str(path), "exec"), vars(module))
    return module


def path_of(number: int) -> Path:
    """Its file."""
    (path,) = FOLDER.glob(f"{number:02}_*.py")
    return path
