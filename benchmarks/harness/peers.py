"""Who takes part: the C references, the Python loops, and Wireway on each back end.

Owns names and command lines. Knows nothing of installing and nothing of measuring. To add a Python
peer, add a table to ``peers/python_peers.toml`` and name it in `workloads`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent
SOURCES = BENCHMARKS / "peers"
BACKENDS = ("epoll", "io_uring", "poll", "select", "sigio")


@dataclass(frozen=True, slots=True)
class Peer:
    """One participant."""

    name: str
    title: str
    source: str = ""
    """The C file without its ending; empty for Python."""
    loop: str = ""
    """What ``peers/echo.py`` calls the loop; empty for C."""
    backend: str = "auto"
    requires: tuple[str, ...] = ()
    python: tuple[int, int] = (3, 11)
    """The oldest Python that it runs on."""

    def serve(self, program: list[str], mode: str, port: int, every: float = 10.0) -> list[str]:
        """The command line of a server; `program` is its executable, or the interpreter.

        :param every: seconds between two heartbeats, for the modes that have them.
        """
        if self.source:
            flags = {"broadcast": ["--broadcast"], "heartbeat": ["--every", str(every)], "framed": ["--framed"]}
            return [*program, "--port", str(port), *flags.get(mode, [])]
        how = ["--mode", mode, "--port", str(port)]
        if mode == "web":
            return [*self._python(program, "web.py"), *how]
        if mode.endswith(("-broadcast", "-heartbeat")):
            return [*self._python(program, "many.py"), *how, "--every", str(every)]
        return [*self._python(program, "echo.py"), *how]

    def exercise(self, program: list[str], name: str, seconds: float) -> list[str]:
        """The command line of one exercise of the loop itself."""
        return [*self._python(program, "primitives.py"), "--measure", name, "--seconds", str(seconds)]

    def _python(self, program: list[str], script: str) -> list[str]:
        return [*program, str(SOURCES / script), "--loop", self.loop, "--backend", self.backend]


def is_framed(mode: str) -> bool:
    """Whether a server in this mode expects a length before each message."""
    return not mode.endswith("raw")


def all_peers() -> dict[str, Peer]:
    """Every participant by name."""
    peers = [
        Peer("c-epoll", "C epoll", source="epoll_echo"),
        Peer("c-io_uring", "C io_uring", source="uring_echo"),
        Peer("c-epoll-many", "C epoll", source="epoll_many"),
    ]
    with (SOURCES / "python_peers.toml").open("rb") as file:
        for name, table in tomllib.load(file).items():
            major, minor = table["python"].split(".")
            peers.append(
                Peer(
                    name,
                    table["title"],
                    loop=table["loop"],
                    requires=tuple(table["requires"]),
                    python=(int(major), int(minor)),
                )
            )
    peers += [Peer(f"wireway-{name}", f"Wireway {name}", loop="wireway", backend=name) for name in BACKENDS]
    return {peer.name: peer for peer in peers}
