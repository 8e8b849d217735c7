"""Owns the page on which a worker keeps its counts where its death does not reach them. Knows nothing of who counts.

Memory of the kernel (memfd_create(2)) that the supervisor makes and the worker inherits. It has two halves, written in
turn: a worker killed in the middle of writing leaves the half before it whole, and a sum tells which is.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from dataclasses import asdict

from wireway.net.stats import ServerStats

__all__ = ["new_page", "read_page", "write_page"]

_HALF = 32 << 10
_HEAD = struct.Struct("!QII")
"""Which writing it is, from 1; bytes that follow; their sum."""


def new_page() -> int:
    """A descriptor of an empty page, whose size nobody can change."""
    fd = os.memfd_create("wireway-counts", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 2 * _HALF)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def write_page(fd: int, turn: int, stats: ServerStats) -> None:
    """Write what was counted, whole or not at all. `turn` is one more each time, from 1."""
    text = json.dumps(asdict(stats), separators=(",", ":")).encode()
    if len(text) > _HALF - _HEAD.size:
        raise ValueError(f"the counts take {len(text)} bytes, the page has {_HALF - _HEAD.size}")
    os.pwrite(fd, _HEAD.pack(turn, len(text), zlib.crc32(text, turn & 0xFFFFFFFF)) + text, (turn & 1) * _HALF)


def read_page(fd: int) -> ServerStats:
    """What was written last; nothing counted, if nothing was. Never half of something."""
    newest, found = 0, ServerStats()
    for half in (0, 1):
        raw = os.pread(fd, _HALF, half * _HALF)
        turn, length, total = _HEAD.unpack_from(raw)
        text = raw[_HEAD.size : _HEAD.size + length]
        if turn > newest and len(text) == length and zlib.crc32(text, turn & 0xFFFFFFFF) == total:
            newest, found = turn, ServerStats.of(json.loads(text))
    return found
