"""The wheel that `make wheel` built: it holds the extension, the stub and `py.typed`, and works once unpacked."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tree import ROOT, files


@pytest.fixture
def wheel() -> Iterator[zipfile.ZipFile]:
    found = sorted((ROOT / "dist").glob("wireway-*.whl"))
    if not found:
        pytest.skip("no wheel in dist/: `make wheel` builds it, and `make test` does so first")
    with zipfile.ZipFile(found[-1]) as archive:
        yield archive


def test_it_holds_the_whole_package(wheel: zipfile.ZipFile) -> None:
    names = {Path(name) for name in wheel.namelist()}
    package = {path.relative_to("python") for path in files() if path.is_relative_to("python")}
    assert {Path("wireway/py.typed"), Path("wireway/_native.pyi")} <= package
    assert package <= names, f"missing in the wheel: {sorted(map(str, package - names))}"


def test_it_is_built_for_this_interpreter_only(wheel: zipfile.ZipFile) -> None:
    extensions = [name for name in wheel.namelist() if name.endswith(".so")]
    assert extensions == [f"wireway/_native{sysconfig.get_config_var('EXT_SUFFIX')}"]
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert f"-{tag}-{tag}-" in Path(wheel.filename or "").name


def test_it_names_the_licence_and_the_command(wheel: zipfile.ZipFile) -> None:
    info = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
    assert "License-Expression: Apache-2.0" in wheel.read(f"{info}/METADATA").decode()
    assert "wireway=wireway.cli:main" in wheel.read(f"{info}/entry_points.txt").decode().replace(" ", "")
    assert f"{info}/licenses/LICENSE" in wheel.namelist()


def test_it_works_where_it_is_unpacked(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import asyncio, wireway; "
        "wireway.run(asyncio.sleep(0)); print(wireway.__file__)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(tmp_path / "wireway" / "__init__.py"), done.stderr
