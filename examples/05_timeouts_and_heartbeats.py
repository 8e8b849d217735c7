"""Peers that say nothing, and peers that are gone without a word.

Shows deadlines of each phase, and pings for silent peers: a peer that spoke within 30 seconds is not pinged, one that
does not answer within 10 more is closed. 100,000 connections cost one native timer, not 100,000 callbacks.
Try it: python examples/05_timeouts_and_heartbeats.py, then: nc 127.0.0.1 9000, and wait, or type once and wait.
"""

from __future__ import annotations

import wireway

server = wireway.Server(
    "tcp://127.0.0.1:9000",
    framing=wireway.Lines(),
    timeouts=wireway.Timeouts(
        first_message=10.0,  # connects and says nothing, or one byte a second
        write_stall=30.0,  # does not read what we send
        lifetime=24 * 3600.0,  # comes back tomorrow, and may be given to another server then
    ),
    heartbeat=wireway.Heartbeat(every=30.0, timeout=10.0, ping=b"ping", pong=b"pong", answers={b"PING": b"PONG"}),
)


@server.on_message
def measured(conn: wireway.Connection, line: bytes) -> None:
    """Heartbeats never come here: the native half sends, answers and swallows them."""
    conn.send_nowait(b"noted: " + line)


@server.on_close
def closed(conn: wireway.Connection, reason: wireway.CloseReason) -> None:
    """The code tells which deadline it was: first-message-timeout, heartbeat-timeout, write-stalled, lifetime."""
    print(f"connection {conn.id}: {reason.code}: {reason.why}")


if __name__ == "__main__":
    server.run()
