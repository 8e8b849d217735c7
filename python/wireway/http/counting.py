"""Owns the counts of a web server's requests: how many, by method and status, and how long they took."""

from __future__ import annotations

from wireway._native import Histogram

__all__ = ["INVALID", "RequestCounts"]

INVALID = "invalid"
"""The method of what was no request of HTTP/1.1."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", INVALID})


class RequestCounts:
    """Counts of one server. Methods that HTTP does not name are ``other``: a client could make up any number."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self.seconds = Histogram()
        """From the end of a request's head to the end of the answer."""

    def note(self, method: str, status: int) -> None:
        """Count a request. `seconds` is the caller's."""
        key = (method if method in _METHODS else "other", status)
        self._counts[key] = self._counts.get(key, 0) + 1

    def requests(self) -> dict[str, int]:
        """How many, by ``METHOD STATUS``."""
        return {f"{method} {status}": count for (method, status), count in self._counts.items()}
