"""Owns the frames of a handover: bytes, and descriptors with them (SCM_RIGHTS, unix(7)). Knows no connection."""

from __future__ import annotations

import os
import socket
import struct

__all__ = ["MOST", "expect", "receive", "send"]

_FRAME = struct.Struct("!II")
"""Bytes of the body, descriptors that come with it."""
MOST = 200
"""Descriptors of one frame: SCM_MAX_FD is 253."""


def send(sock: socket.socket, body: bytes, descriptors: list[int]) -> None:
    """Send a frame."""
    socket.send_fds(sock, [_FRAME.pack(len(body), len(descriptors))], descriptors)
    sock.sendall(body)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """A frame: its body, and the descriptors that came with it.

    :raises EOFError: the other side ended, or descriptors got lost: too few are free in this process.
    """
    head, descriptors, _, _ = socket.recv_fds(sock, _FRAME.size, MOST + 50)
    head += _exactly(sock, _FRAME.size - len(head))
    size, count = _FRAME.unpack(head)
    if len(descriptors) != count:
        for fd in descriptors:
            os.close(fd)
        raise EOFError(f"{len(descriptors)} of {count} descriptors came: too few are free in this process")
    return _exactly(sock, size), descriptors


def expect(sock: socket.socket, word: bytes) -> None:
    """Take a word of the exchange.

    :raises EOFError: the other side ended, or said something else.
    """
    if _exactly(sock, len(word)) != word:
        raise EOFError("it says something else than was agreed on")


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(size - len(data), 1 << 20))
        if not piece:
            raise EOFError("it ended in the middle")
        data += piece
    return bytes(data)
