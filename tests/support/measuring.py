"""Owns a run of `wireway bench` that was never made: what was wanted, and figures as the native half gives them."""

from __future__ import annotations

from typing import Any

import wireway
from wireway.cli.measuring.asked import Wanted
from wireway.cli.measuring.targets import Target

__all__ = ["WANTED", "figures"]

WANTED = Wanted(
    target=Target("tcp://127.0.0.1:1", [("127.0.0.1", 1)]),
    message=b"x",
    framing=wireway.Raw(),
    verify="content",
    connections=1,
    connect_timeout=1,
    in_flight=1,
    rate=None,
    duration=1,
    count=None,
    warm_up=0,
    timeout=1,
)


def figures(messages: float, intended: float, p99: float, **others: Any) -> dict[str, Any]:
    """Of one second."""
    found: dict[str, Any] = {
        "seconds": 1.0,
        "messages": messages,
        "intended": intended,
        "unanswered": 0,
        "not_sent": 0,
        "busy": 0.5,
        "waited": 0.0,
        "errors": {},
        "ended": None,
        "latency": {"percentiles": {"p99": p99}},
        "lateness": {"p99": 0.0},
    }
    return found | others
