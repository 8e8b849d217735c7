"""`Metrics`: an address where Prometheus, and those who ask for health, find a server.

Owns `/metrics`, `/livez` and `/readyz`. A listener of its own, on loopback unless told otherwise. What is told of
readiness is `readiness.py`'s, the metrics are those of `metrics.py`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs

from wireway.config import Timeouts
from wireway.errors import ConfigError, WirewayError
from wireway.http import HttpOptions, WebServer
from wireway.net.address import parse
from wireway.net.listening import Listening, listen
from wireway.net.reach import WorkerInfo
from wireway.net.server import Server
from wireway.observe.door import Door
from wireway.observe.metrics import Account, Collected, Joined
from wireway.observe.negotiating import encoder
from wireway.observe.readiness import CHECK_TIMEOUT, Check, Finding, Readiness

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Metrics"]

logger = logging.getLogger("wireway.metrics")

_CONNECTIONS = 200
"""Collectors and probes at once: many more than there are, and few enough to leave descriptors to the servers."""
_GRACE = 50
"""Hundredths of a second that who has come in has to ask."""
_TEXT = "text/plain; charset=utf-8"


class Metrics:
    """Serves metrics and health for as long as the block lasts.

    - ``/metrics``: Prometheus' text format, or OpenMetrics for who likes it better. Of a server with workers the counts
      are those of all of them, whichever answers. ``?name[]=`` gives only those names.
    - ``/livez``: 200 while the loop turns.
    - ``/readyz``: 200 while every server accepts, descriptors are left, and every check of yours is true; else 503. A
      line for each says which.

    Health is told as JSON to who sends ``Accept: application/json``. Handlers and requests are timed from now on:
    `Server.time_handlers`.

    :param servers: those that it tells of; on the running loop.
    :param address: where it listens. Another than loopback is logged as a warning: who reaches it reads it.
    :param checks: by name, functions that say whether you are ready, plain or ``async def``. A plain one is called in
        the loop and must not block. One that raises, or is not done in time, is not ready.
    :param check_timeout: seconds that an ``async def`` check has.
    :param registry: metrics of yours, which are told too; prometheus_client's own unless told. With workers each has
        its own: they are told if prometheus_client joins them (`PROMETHEUS_MULTIPROC_DIR`).
    :raises ConfigError: the address is wrong.
    :raises OSError: it is taken: `AddressInUseError`.
    """

    def __init__(
        self,
        servers: Sequence[Server] = (),
        address: str = "tcp://127.0.0.1:9100",
        *,
        checks: Mapping[str, Check] | None = None,
        check_timeout: float = CHECK_TIMEOUT,
        registry: CollectorRegistry | None = None,
    ) -> None:
        parsed = parse(address)
        if parsed.scheme == "tls":
            raise ConfigError(f"{address!r}: metrics are told without TLS: write tcp:// or unix://, behind a proxy")
        self._address = parsed
        self._servers = list(servers)
        self._readiness = Readiness(checks or {}, check_timeout)
        self._registry = registry
        self._labels: dict[Server, str] = {}
        self._listening: Listening | None = None
        self._web = _Web(
            address,
            self._app,
            lifespan="off",
            http=HttpOptions(head_size=16 * 1024, head_timeout=10.0, keep_alive=180.0, body_size=16 * 1024),
            timeouts=Timeouts(close_linger=1.0, write_stall=10.0),
            drain_timeout=1.0,
        )
        self._web._stalls = None  # the servers' own tell of stalls

    @property
    def addresses(self) -> list[str]:
        """Where it listens."""
        return self._web.addresses

    def watch(self, servers: Sequence[Server]) -> None:
        """Tell of these too."""
        self._servers += servers

    def listen(self) -> list[socket.socket]:
        """Open the listening sockets now, so that a taken address is known before anything is served.

        :raises OSError: as the block does.
        """
        self._listening = listen([self._address], self._web._socket)
        self._web._listening = self._listening
        for address in self._web.addresses:
            if not _is_local(address):
                logger.warning("metrics and health are on %s: everybody who reaches it can read them", address)
        return self._listening.sockets

    def inherit(self, sockets: list[socket.socket]) -> None:
        """Answer on these sockets, which another process opened."""
        self._listening = self._web._listening = Listening(sockets)

    def close(self) -> None:
        """Close the sockets that are open, and were not given to a block."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    async def __aenter__(self) -> Self:
        if self._listening is None:
            self.listen()
        self._web._given, self._listening = self._listening, None
        await self._web.start()
        for server in self._servers:
            server.time_handlers()
            if server._reach is not None:
                # Before it parts from the others: what it counted alone is less than what it told before.
                server._leaving.append(self._leave)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._web.close()

    async def _leave(self) -> None:
        """Let nobody in any more, and answer those who came in just now: another process answers the next."""
        self._web._stop_accepting()
        for _ in range(_GRACE):
            if all(conn.stats["messages_in"] for conn in self._web.connections):
                break
            await asyncio.sleep(0.01)
        await self._web.close()

    # --- requests -----------------------------------------------------------------------------------------

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        status, kind, body = 404, _TEXT, b"there is /metrics, /livez and /readyz\n"
        more: list[tuple[bytes, bytes]] = []
        if scope["path"] in ("/metrics", "/livez", "/readyz") and scope["method"] not in ("GET", "HEAD"):
            status, body, more = 405, b"Method Not Allowed\n", [(b"allow", b"GET, HEAD")]
        elif scope["path"] == "/metrics":
            status, kind, body = await self._exposition(accept, scope["query_string"])
        elif scope["path"] == "/livez":
            status, kind, body = _told([], "ok", 200, accept)
        elif scope["path"] == "/readyz":
            found = await self._readiness.find(self._servers)
            ready = all(each.good for each in found)
            status, kind, body = _told(found, "ready" if ready else "not ready", 200 if ready else 503, accept)
        said = [
            (b"content-type", kind.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            *more,
        ]
        await send({"type": "http.response.start", "status": status, "headers": said})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _exposition(self, accept: str, query: bytes) -> tuple[int, str, bytes]:
        try:
            accounts = [
                Account(label, await server.total_stats())
                for server in self._servers
                if (label := self._label(server)) is not None
            ]
            workers = await self._workers()
        except WirewayError as error:
            return 503, _TEXT, f"{error}\n".encode()
        several = any(info.number for info in workers)
        only = parse_qs(query.decode("latin-1")).get("name[]", [])
        backend = next((server.backend for server in self._servers if server.state not in ("new", "ended")), "")
        ours = Collected(accounts, workers, backend)
        encode, kind = encoder(accept)
        try:
            return 200, kind, encode(Joined([ours, *self._of_others(several)], only))
        except Exception:
            logger.exception("the metrics of your registry can not be told")
            return 200, kind, encode(Joined([ours], only))

    def _of_others(self, several: bool) -> list[Any]:
        """The registry of the program, and what prometheus_client tells of the process."""
        from prometheus_client import REGISTRY, CollectorRegistry, ProcessCollector

        registry = REGISTRY if self._registry is None else self._registry
        if not several:
            return [registry, ProcessCollector(registry=None)]
        # What one worker tells would jump to what another does with each answer.
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return []
        from prometheus_client.multiprocess import MultiProcessCollector

        joined = CollectorRegistry(auto_describe=False)
        MultiProcessCollector(joined)  # type: ignore[no-untyped-call]
        return [joined]

    async def _workers(self) -> list[WorkerInfo]:
        """The processes of all servers: one may have more of them than another."""
        told = await asyncio.gather(*(server.workers() for server in self._servers))
        found = [info for infos in told for info in infos]
        return [info for info in found if info.number] or found[:1]

    def _label(self, server: Server) -> str | None:
        """Its first address, which it keeps when it stops; None before it starts."""
        if server.addresses:
            self._labels[server] = server.addresses[0]
        return self._labels.get(server)


class _Web(WebServer):
    """A web server whose listening sockets other processes have too."""

    def _accept(self) -> None:
        assert self._core is not None
        loop, core = self._running(), self._core
        self._listeners = [Door(loop, sock, core, _CONNECTIONS) for sock in self._listening.sockets]


def _told(found: list[Finding], verdict: str, status: int, accept: str) -> tuple[int, str, bytes]:
    if "application/json" in accept.lower():
        checks = [{"name": each.name, "ok": each.good, "why": each.why} for each in found]
        told = {"ok": status == 200, "status": verdict, "checks": checks}
        return status, "application/json", json.dumps(told).encode() + b"\n"
    lines = (f"[{'+' if each.good else '-'}] {each.name}{f': {each.why}' if each.why else ''}\n" for each in found)
    return status, _TEXT, f"{''.join(lines)}{verdict}\n".encode()


def _is_local(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = address.partition("://")[2].rpartition(":")[0].strip("[]")
    return ipaddress.ip_address(host).is_loopback
