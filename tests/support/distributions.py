"""Owns tiny distributions for tests: modules and metadata in a folder, as `pip install --target` leaves them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["install"]


def install(folder: Path, name: str, modules: dict[str, str], services: dict[str, str], version: str = "1.0") -> None:
    """Put a distribution into a folder, which is to be on the path. `services` are its entry points."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = "".join(f"{each} = {target}\n" for each, target in services.items())
    (about / "entry_points.txt").write_text(f"[wireway.services]\n{points}")
