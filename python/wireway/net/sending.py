"""Owns `SendResult`, what `send_nowait` answers. Imports nothing of the package: the extension looks it up."""

from __future__ import annotations

import enum

__all__ = ["SendResult"]


class SendResult(enum.Enum):
    """What became of a message that was given to `Connection.send_nowait`."""

    QUEUED = "queued"
    """It leaves with the present callback's other messages."""
    OVER = "over"
    """It is queued, and more waits than the high watermark: a sender that can should pause (``await conn.drain()``)."""
    DROPPED = "dropped"
    """A message was lost: the peer does not take what waits, and `Buffers.when_slow` says to drop. This one waits; the
    oldest that waited, or the older one of its key, does not any more. Or this one was one too many, and the connection
    has ended (`Buffers.hard`, `Limits.queued_bytes`)."""
