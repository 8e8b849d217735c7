"""Building and installing the participants: the C peers, the load generator, the Python peers.

Everything lands under ``benchmarks/.build`` and ``benchmarks/.venvs``, which git ignores, and is made
again only when its source or requirement changed. A peer that cannot be had is a line in the report,
never the end of the run. Knows nothing of measuring.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.peers import BENCHMARKS, SOURCES, Peer

BUILD = BENCHMARKS / ".build"
VENVS = BENCHMARKS / ".venvs"
CHART = Peer("chart", "the chart", requires=("pygal==3.1.3",))


class MissingError(Exception):
    """Something that is needed is not there. The text says what, and how to get it."""


@dataclass(slots=True)
class Prepared:
    """What can be run, and why the rest cannot."""

    generator: Path
    programs: dict[str, list[str]] = field(default_factory=dict)
    """By peer: its executable, or its interpreter."""
    missing: dict[str, str] = field(default_factory=dict)
    """By peer: why not."""


def prepare(peers: Iterable[Peer]) -> Prepared:
    """Build and install.

    :raises MissingError: there is no load generator, so nothing can be measured.
    """
    prepared = Prepared(build_generator())
    for peer in peers:
        try:
            if peer.source:
                prepared.programs[peer.name] = [str(compile_c(peer.source))]
            elif peer.loop == "wireway":
                prepared.programs[peer.name] = [check_wireway(peer)]
            else:
                prepared.programs[peer.name] = [str(environment(peer))]
        except MissingError as error:
            prepared.missing[peer.name] = str(error)
    return prepared


def build_generator() -> Path:
    """The load generator, built by cargo."""
    cargo = shutil.which("cargo")
    if cargo is None:
        raise MissingError("cargo is missing: install Rust from https://rustup.rs")
    root = BENCHMARKS.parent
    command = [cargo, "build", "--release", "--quiet", "-p", "wireway-loadgen"]
    if subprocess.run(command, cwd=root, check=False).returncode != 0:
        raise MissingError("the load generator does not build; cargo says why above")
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return root / target / "release" / "wireway-loadgen"


def compile_c(source: str) -> Path:
    """A C peer, compiled if its source is newer."""
    program, file = BUILD / source, SOURCES / f"{source}.c"
    newest = max(path.stat().st_mtime for path in (file, *SOURCES.glob("*.h")))
    if program.exists() and program.stat().st_mtime > newest:
        return program
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise MissingError("there is no C compiler: apt-get install gcc libc6-dev")
    BUILD.mkdir(exist_ok=True)
    command = [compiler, "-O3", "-march=native", "-Wall", "-Wextra", "-o", str(program), str(file), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingError(f"{file.name} does not compile: {_last_line(done.stderr)}")
    return program


def check_wireway(peer: Peer) -> str:
    """The running interpreter, if it has a Wireway with this back end."""
    code = f"import wireway; wireway.new_event_loop({peer.backend!r}).close()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingError(f"{sys.executable} does not run it: {_last_line(done.stderr)}")
    return sys.executable


def environment(peer: Peer) -> Path:
    """The interpreter of the peer's own environment, made if it is not there."""
    python = interpreter(peer.python)
    identity = hashlib.sha256("\n".join((python, *peer.requires)).encode()).hexdigest()[:8]
    folder = VENVS / f"{peer.name}-{identity}"
    inside = folder / "bin" / "python"
    complete = folder / "complete"
    if complete.exists():
        return inside
    shutil.rmtree(folder, ignore_errors=True)
    print(f"  making an environment for {peer.title}", flush=True)
    _try([python, "-m", "venv", str(folder)], f"no environment for {peer.title} (apt-get install python3-venv?)")
    if peer.requires:
        pip = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _try([*pip, "--only-binary=:all:", *peer.requires], f"pip cannot install {' '.join(peer.requires)}")
    complete.touch()
    return inside


def interpreter(oldest: tuple[int, int]) -> str:
    """A Python that is new enough: the one that runs, or else the oldest other that will do."""
    if sys.version_info[:2] >= oldest:
        return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}")
    for minor in range(oldest[1], oldest[1] + 4):
        name = f"python{oldest[0]}.{minor}"
        pyenv = sorted(Path.home().glob(f".pyenv/versions/{oldest[0]}.{minor}.*/bin/{name}"))
        for path in (*map(str, pyenv), shutil.which(name)):
            if path is not None and _works(path):
                return path
    raise MissingError(f"needs Python {oldest[0]}.{oldest[1]} or newer, and none is on this machine")


def _works(python: str) -> bool:
    return subprocess.run([python, "-c", "import venv"], capture_output=True, check=False).returncode == 0


def _try(command: list[str], otherwise: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingError(f"{otherwise}: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if not line.startswith("[notice]")]
    return lines[-1].strip() if lines else "no reason given"
