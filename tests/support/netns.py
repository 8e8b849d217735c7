"""Owns two network namespaces joined by a cable, for tests of what a network does to connections.

A socket belongs to the namespace in which it was made, for its life: `with pair.ours.inside():` makes sockets and
servers there, and the loop may then run anywhere. Nothing of the machine's own network is touched.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import pytest

__all__ = ["Namespace", "Pair", "pair"]

_CLONE_NEWNET = 0x40000000
_NUMBERS = count(1)


def _ip(*words: str) -> None:
    done = subprocess.run(("ip", *words), capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Namespace:
    """One end: its name for `ip netns`, and its address on the cable."""

    name: str
    address: str
    cable: str = "cable"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread makes its sockets here until the block ends."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(there)
            os.close(home)

    def ip(self, *words: str) -> None:
        """`ip` within the namespace."""
        _ip("-n", self.name, *words)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command within the namespace, bounded."""
        line = ("ip", "netns", "exec", self.name, *command)
        return subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)


def _enter(descriptor: int) -> None:
    # os.setns is there from Python 3.12 on.
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@dataclass(frozen=True)
class Pair:
    """Ours and theirs."""

    ours: Namespace
    theirs: Namespace

    def cut(self) -> None:
        """From now on nothing of theirs arrives, without an error for anybody: a blackhole."""
        self.theirs.ip("route", "add", "blackhole", f"{self.ours.address}/32")

    def mend(self) -> None:
        """Undo `cut`."""
        self.theirs.ip("route", "del", "blackhole", f"{self.ours.address}/32")

    def unplug(self) -> None:
        """Our own interface goes down: this machine knows that nothing can be reached."""
        self.ours.ip("link", "set", self.ours.cable, "down")


@contextmanager
def pair() -> Iterator[Pair]:
    """Two namespaces and a cable between, gone at the end whatever happens. Skips the test where that is forbidden."""
    if os.geteuid():
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need `ip` (apt-get install iproute2)")
    stem = f"wireway-{os.getpid()}-{next(_NUMBERS)}"
    ends = Pair(Namespace(f"{stem}-a", "10.203.0.1"), Namespace(f"{stem}-b", "10.203.0.2"))
    try:
        try:
            for end in (ends.ours, ends.theirs):
                _ip("netns", "add", end.name)
                end.ip("link", "set", "lo", "up")
            there = ("peer", "name", ends.theirs.cable, "netns", ends.theirs.name)
            ends.ours.ip("link", "add", ends.ours.cable, "type", "veth", *there)
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        for end in (ends.ours, ends.theirs):
            end.ip("address", "add", f"{end.address}/24", "dev", end.cable)
            end.ip("link", "set", end.cable, "up")
        yield ends
    finally:
        for end in (ends.ours, ends.theirs):
            subprocess.run(("ip", "netns", "del", end.name), capture_output=True, timeout=20, check=False)
