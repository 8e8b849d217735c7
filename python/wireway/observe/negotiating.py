"""Which of the formats of metrics a client wants most: RFC 9110, 12.5.1. Owns the reading of `Accept`; the formats are
prometheus_client's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["encoder"]

_OPEN, _TEXT = "application/openmetrics-text", "text/plain"
_VERSIONS = {_OPEN: ("1.0.0",), _TEXT: ("0.0.4", "1.0.0")}


def encoder(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """What writes a registry, and its content type.

    OpenMetrics if the client likes it best, else Prometheus' text format, also for who likes neither: every collector
    reads that.
    """
    from prometheus_client.exposition import choose_encoder

    offers = [offer for part in accept.split(",") if (offer := _read(part)) is not None]
    best = max(offers, key=lambda offer: offer[0], default=None)  # of equals the first
    return choose_encoder("" if best is None else best[1])


def _read(part: str) -> tuple[float, str] | None:
    """How much a range is liked, and the range without that; None: it is not ours, or not wanted."""
    kind, *parameters = [word.strip() for word in part.split(";")]
    kind = kind.lower()
    liked, rest = 1.0, []
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                liked = float(value)
            except ValueError:
                return None
        else:
            if name.strip().lower() == "version" and value.strip() not in _VERSIONS.get(kind, ()):
                return None
            rest.append(parameter)
    if kind in ("*/*", "text/*"):
        kind, rest = _TEXT, []
    elif kind == "application/*":
        kind, rest = _OPEN, []
    if kind not in (_OPEN, _TEXT) or not liked > 0:
        return None
    return liked, ";".join((kind, *rest))
