"""The access log: a line for each request, with its fields for programs.

Owns what is said of a request. Each record has `fields`, a dict; `--log json` writes them beside the message. What a
client wrote stands in them as it came, so it can not begin a line of its own: a target is printable ASCII.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

from wireway._native import Connection, HttpExchange
from wireway.http.options import Scope

__all__ = ["tell", "tell_of_refusal", "tell_of_talk"]

access = logging.getLogger("wireway.access")


def tell(exchange: HttpExchange, began: float) -> None:
    """Tell of a request that was answered; status 0: the client had gone before."""
    scope = exchange.scope
    _tell(scope, scope["method"], exchange.status, exchange.sent, perf_counter() - began)


def tell_of_talk(scope: Scope, status: int, began: float) -> None:
    """Tell of a WebSocket's handshake: 101, or with what it was refused."""
    _tell(scope, "WebSocket", status, 0, perf_counter() - began)


def _tell(scope: Scope, method: str, status: int, size: int, seconds: float) -> None:
    client, query = scope["client"], scope["query_string"]
    target = (scope["raw_path"] + (b"?" + query if query else b"")).decode("ascii", "replace")
    who = _name(client)
    fields: dict[str, Any] = {
        "client": who,
        "method": method,
        "target": target,
        "version": scope["http_version"],
        "status": status,
        "bytes": size,
        "seconds": round(seconds, 6),
        "scheme": scope["scheme"],
    }
    for name, value in scope["headers"]:
        if name in (b"user-agent", b"referer", b"host"):
            fields[name.decode().replace("-", "_")] = value.decode("utf-8", "replace")
    access.info(
        '%s - "%s %s HTTP/%s" %d %d',
        *(who, method, target, scope["http_version"], status, size),
        extra={"fields": fields},
    )


def tell_of_refusal(conn: Connection, status: int, text: str) -> None:
    """Tell of what was no request."""
    peer = conn.peer
    who = _name(peer if isinstance(peer, tuple) else None)
    fields = {"client": who, "method": None, "target": None, "status": status, "bytes": 0, "why": text}
    access.info('%s - "-" %d 0 (%s)', who, status, text, extra={"fields": fields})


def _name(client: Any) -> str:
    if not client:
        return "-"
    return f"[{client[0]}]:{client[1]}" if ":" in client[0] else f"{client[0]}:{client[1]}"
