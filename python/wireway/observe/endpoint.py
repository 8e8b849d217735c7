"""`Metrics`: an address where Prometheus, and those who ask for health, find a server.

Owns `/metrics`, `/livez` and `/readyz`. A listener of its own, on loopback unless told otherwise.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from wireway.config import Limits
from wireway.http import WebServer
from wireway.net.descriptors import budget
from wireway.net.server import Server
from wireway.observe.metrics import Collected

__all__ = ["Metrics"]

logger = logging.getLogger("wireway.metrics")

_ROOM = 16
"""With fewer free descriptors a server is not ready: it could hardly accept."""


class Metrics:
    """Serves metrics and health for as long as the block lasts.

    - ``/metrics``: Prometheus' text format, or OpenMetrics for who asks for it. Of a server with workers the counts are
      those of all of them.
    - ``/livez``: 200 while the loop turns.
    - ``/readyz``: 200 while every server accepts, descriptors are left, and every check of yours is true; else 503. A
      line for each says which.

    :param servers: those that it tells of; on the running loop.
    :param address: where it listens. Another than loopback is logged as a warning: who reaches it reads it.
    :param checks: by name, functions that say whether you are ready. They are called in the loop, and must not block;
        one that raises is not ready.
    :raises ConfigError: the address is wrong.
    :raises OSError: it is taken: `AddressInUseError`.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        address: str = "tcp://127.0.0.1:9100",
        *,
        checks: Mapping[str, Callable[[], bool]] | None = None,
    ) -> None:
        self._servers = list(servers)
        self._checks = dict(checks or {})
        limits = Limits(connections=50)
        self._web = WebServer(address, self._app, lifespan="off", limits=limits, drain_timeout=1.0)

    @property
    def addresses(self) -> list[str]:
        """Where it listens."""
        return self._web.addresses

    async def __aenter__(self) -> Self:
        await self._web.start()
        for address in self._web.addresses:
            if not _is_local(address):
                logger.warning("metrics and health are on %s: everybody who reaches it can read them", address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._web.close()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        status, kind, body = 404, "text/plain; charset=utf-8", b"there is /metrics, /livez and /readyz\n"
        if scope["method"] not in ("GET", "HEAD"):
            status, body = 405, b"Method Not Allowed\n"
        elif scope["path"] == "/metrics":
            status, kind, body = await self._exposition(headers.get(b"accept", ""))
        elif scope["path"] == "/livez":
            status, body = 200, b"ok\n"
        elif scope["path"] == "/readyz":
            status, body = self._readiness()
        said = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": said})
        await send({"type": "http.response.body", "body": body})

    async def _exposition(self, accept: str) -> tuple[int, str, bytes]:
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client.exposition import choose_encoder

        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        counted = [(server, await server.total_stats()) for server in self._servers]
        registry.register(Collected(counted))
        encode, kind = choose_encoder(accept)
        return 200, kind, encode(registry)

    def _readiness(self) -> tuple[int, bytes]:
        lines: list[tuple[str, bool]] = []
        for server in self._servers:
            place = (server.addresses or ["stopped"])[0]
            lines.append((f"accepting on {place}", bool(server.addresses)))
        backend = next((server.backend for server in self._servers if server.addresses), "epoll")
        lines.append(("descriptors", budget(backend).room >= _ROOM))
        for name, check in self._checks.items():
            try:
                good = bool(check())
            except Exception:
                logger.exception("the check %r failed", name)
                good = False
            lines.append((name, good))
        text = "".join(f"[{'+' if good else '-'}] {name}\n" for name, good in lines)
        ready = all(good for _, good in lines)
        return (200 if ready else 503), f"{text}{'ready' if ready else 'not ready'}\n".encode()


def _is_local(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    return ipaddress.ip_address(host).is_loopback
