"""Servers whose many connections mostly wait: a broadcast to all, and heartbeats.

Owns the handlers, written as a user of each interface would write them. Knows no load and measures
nothing. Takes the options of ``echo.py``, whose framing and start it uses::

    python benchmarks/peers/many.py --loop uvloop --mode protocol-broadcast --port 9000

- ``broadcast``: a message goes to every connection but the one that it came from.
- ``heartbeat``: a message goes back; every so many seconds ``ping`` is sent, and ``pong`` comes. Who does
  not answer for two intervals is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from echo import HEADER, LOOPS, FramedEcho, loop_factory, raise_descriptor_limit, ready, wait_for_the_end

if TYPE_CHECKING:
    import wireway

MODES = ("protocol-broadcast", "protocol-heartbeat", "server-broadcast", "server-heartbeat")
PING, PONG = b"ping", b"pong"


def framed(payload: bytes) -> bytes:
    """A message with its length before it."""
    return len(payload).to_bytes(HEADER, "big") + payload


class Broadcast(FramedEcho):
    """A message to all others: framed once, one write for each."""

    __slots__ = ()
    everybody: set[asyncio.Transport] = set()  # noqa: RUF012 - one for all, as in any chat server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.everybody.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.everybody.discard(self.transport)

    def message(self, payload: bytes) -> None:
        data, mine = framed(payload), self.transport
        for transport in self.everybody:
            if transport is not mine:
                transport.write(data)


class Heartbeat(FramedEcho):
    """A ping every so often, each connection with a timer of its own."""

    __slots__ = ("answered", "loop", "timer")
    every = 10.0
    ping = framed(PING)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.loop = asyncio.get_running_loop()
        self.answered = True
        self.timer = self.loop.call_later(self.every, self.beat)

    def connection_lost(self, exc: Exception | None) -> None:
        self.timer.cancel()

    def beat(self) -> None:
        """Close a peer that did not answer the last ping, or send the next."""
        if not self.answered:
            self.transport.abort()
            return
        self.answered = False
        self.transport.write(self.ping)
        self.timer = self.loop.call_later(self.every, self.beat)

    def message(self, payload: bytes) -> None:
        self.answered = True
        if payload != PONG:
            self.transport.write(framed(payload))


async def serve(mode: str, port: int, every: float) -> None:
    """Serve with Protocol on the running loop."""
    loop = asyncio.get_running_loop()
    Heartbeat.every = every
    protocol = Broadcast if mode == "protocol-broadcast" else Heartbeat
    await wait_for_the_end(await loop.create_server(protocol, "127.0.0.1", port, backlog=4096))


def serve_wireway(mode: str, port: int, backend: str, every: float, workers: int | None, reports: Path | None) -> None:
    """Serve with `wireway.Server`, in one process or in workers."""
    import wireway

    address, framing = f"tcp://127.0.0.1:{port}", wireway.LengthPrefix(4)
    if mode == "server-broadcast":
        server = wireway.Server(address, framing=framing)

        @server.on_message
        def broadcast(conn: wireway.Connection, message: bytes) -> None:
            server.broadcast(message, exclude=(conn,))
    else:
        server = wireway.Server(
            address,
            framing=framing,
            timeouts=wireway.Timeouts(idle=6 * every, write_stall=30, first_message=10),
            heartbeat=wireway.Heartbeat(every=every, ping=PING, pong=PONG),
        )

        @server.on_message
        def echo(conn: wireway.Connection, message: bytes) -> None:
            conn.send_nowait(message)

    def started(_server: wireway.Server) -> None:
        if reports is not None:
            on_request(server, reports)
        ready(f"wireway.Server {server.backend}")

    server.run(backend=backend, workers=workers, on_started=started)


def on_request(server: wireway.Server, reports: Path) -> None:
    """Answer SIGUSR1 with a file of what this process holds, ``PROCESS.json``."""
    place = reports / f"{os.getpid()}.json"
    tasks: set[asyncio.Task[None]] = set()

    async def tell() -> None:
        memory, total = server.memory(largest=0), await server.total_stats()
        told = {"memory": asdict(memory), "stats": asdict(server.stats), "total": asdict(total)}
        unfinished = place.with_suffix(".new")
        unfinished.write_text(json.dumps(told))
        unfinished.replace(place)

    def asked() -> None:
        tasks.add(task := asyncio.ensure_future(tell()))
        task.add_done_callback(tasks.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, asked)
    place.with_suffix(".pid").touch()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description="a server of many connections for the benchmarks")
    parser.add_argument("--loop", choices=LOOPS, required=True)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backend", default="auto", help="wireway's back end")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two heartbeats")
    parser.add_argument("--workers", type=int, help="processes, of wireway's server modes")
    parser.add_argument("--reports", type=Path, help="folder for what each of them holds, when SIGUSR1 asks")
    options = parser.parse_args()
    raise_descriptor_limit()
    try:
        if options.mode.startswith("server"):
            if options.loop != "wireway":
                parser.error("server modes are wireway's")
            serve_wireway(options.mode, options.port, options.backend, options.every, options.workers, options.reports)
        else:
            with asyncio.Runner(loop_factory=loop_factory(options.loop, options.backend)) as runner:
                runner.run(serve(options.mode, options.port, options.every))
    except KeyboardInterrupt:
        pass
    except (ImportError, OSError) as error:
        sys.exit(f"many.py: {error}")


if __name__ == "__main__":
    main()
