"""An echo server in Python: one loop, one way of writing it.

Owns the handlers, written as a user of each interface would write them: the same handler runs on
every loop. Knows no load and measures nothing. Run by the benchmark runner, or by hand::

    python benchmarks/peers/echo.py --loop uvloop --mode streams-framed --port 9000

Prints ``ready`` and what runs once it listens; SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import platform
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HEADER = 4
MODES = (
    "protocol-raw",
    "protocol-framed",
    "streams-raw",
    "streams-framed",
    "server-plain",
    "server-async",
    "server-batch",
    "server-raw",
    "server-limits",
    "server-metrics",
    "server-events",
    "protocol-tls",
    "streams-tls",
    "server-tls",
)
LOOPS = ("asyncio", "uvloop", "rloop", "blazio", "wireway")


class RawEcho(asyncio.Protocol):
    """Bytes go back as they come."""

    __slots__ = ("transport",)
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class FramedEcho(asyncio.Protocol):
    """Frames with a 4-byte length: cut in Python, one write for each."""

    __slots__ = ("buffered", "partial", "transport", "wanted")
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.partial: list[bytes] = []
        self.buffered = 0
        self.wanted = HEADER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.buffered:
            self.partial.append(data)
            self.buffered += len(data)
            if self.buffered < self.wanted:
                return
            data = b"".join(self.partial)
            self.partial.clear()
        position, size = 0, len(data)
        self.wanted = HEADER
        while size - position >= HEADER:
            end = position + HEADER + int.from_bytes(data[position : position + HEADER], "big")
            if end > size:
                self.wanted = end - position
                break
            self.message(data[position + HEADER : end])
            position = end
        self.buffered = size - position
        if self.buffered:
            self.partial.append(data[position:])

    def message(self, payload: bytes) -> None:
        self.transport.write(len(payload).to_bytes(HEADER, "big") + payload)


async def raw_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes, through the streams interface."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def framed_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Frames, through the streams interface."""
    try:
        while True:
            size = int.from_bytes(await reader.readexactly(HEADER), "big")
            payload = await reader.readexactly(size)
            writer.write(size.to_bytes(HEADER, "big") + payload)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate that signs itself, ECDSA with P-256, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def openssl() -> ssl.SSLContext:
    """The standard library's TLS, with its defaults."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*certificate(Path(folder)))
    return context


def loop_factory(name: str, backend: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make a loop of this name."""
    if name == "asyncio":
        return asyncio.new_event_loop
    module = importlib.import_module(name)
    if name == "wireway":
        return partial(module.new_event_loop, backend)
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory


def ready(what: str) -> None:
    """Tell the runner, once everything that starting made is cleared away."""
    gc.collect()
    print(f"ready {what}; Python {platform.python_version()}", flush=True)


async def wait_for_the_end(server: asyncio.Server) -> None:
    """Say that it listens, and serve until the process ends."""
    loop = asyncio.get_running_loop()
    kind = type(loop)
    ready(f"{kind.__module__}.{kind.__qualname__} {getattr(loop, 'backend', '')}".strip())
    try:
        # Not serve_forever: rloop 0.5.0 stops listening there.
        await asyncio.Event().wait()
    finally:
        server.close()


def raise_descriptor_limit() -> None:
    """As many descriptors as are allowed."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(mode: str, port: int) -> None:
    """Serve with Protocol or streams on the running loop."""
    loop = asyncio.get_running_loop()
    secured = openssl() if mode.endswith("-tls") else None
    if mode.startswith("protocol"):
        protocol = RawEcho if mode == "protocol-raw" else FramedEcho
        server = await loop.create_server(protocol, "127.0.0.1", port, backlog=4096, ssl=secured)
    else:
        handler = raw_stream if mode == "streams-raw" else framed_stream
        server = await asyncio.start_server(handler, "127.0.0.1", port, backlog=4096, ssl=secured)
    await wait_for_the_end(server)


def serve_wireway(mode: str, port: int, backend: str, workers: int | None) -> None:
    """Serve with `wireway.Server`, in one process or in workers."""
    import wireway

    framing: Any = wireway.Raw() if mode == "server-raw" else wireway.LengthPrefix(4)
    guarded: dict[str, Any] = {}
    if mode == "server-limits":
        # High enough to hold nobody back: what they cost is measured, not what they do.
        guarded = {
            "timeouts": wireway.Timeouts(idle=60, write_stall=30, first_message=10),
            "heartbeat": wireway.Heartbeat(every=30, ping=b"ping", pong=b"pong"),
            "limits": wireway.Limits(
                connections=19_000, per_address=19_000, message_rate=1e9, byte_rate=1e12, handlers=100_000
            ),
        }
    scheme = "tcp"
    if mode == "server-tls":
        scheme = "tls"
        with tempfile.TemporaryDirectory() as folder:
            cert, key = (path.read_bytes() for path in certificate(Path(folder)))
        guarded = {"tls": wireway.Tls(cert=cert, key=key)}
    server = wireway.Server(f"{scheme}://127.0.0.1:{port}", framing=framing, **guarded)

    def plain(conn: wireway.Connection, message: bytes) -> None:
        conn.send_nowait(message)

    async def coroutine(conn: wireway.Connection, message: bytes) -> None:
        await conn.send(message)

    def batch(conn: wireway.Connection, messages: list[bytes]) -> None:
        for message in messages:
            conn.send_nowait(message)

    if mode == "server-batch":
        server.on_batch(batch)
    elif mode == "server-async":
        server.on_message(coroutine)
    else:
        server.on_message(plain)

    if mode == "server-events":
        log = Path("/dev/null").open("w")  # noqa: SIM115  as long as the process

        @server.on_event
        def told(event: Any) -> None:
            print(json.dumps(event.as_dict()), file=log)

    def started(running: wireway.Server) -> None:
        ready(f"wireway.Server {running.backend}")
        if mode in ("server-metrics", "server-events"):
            tasks.append(asyncio.ensure_future(scraped(running)))

    tasks: list[asyncio.Task[None]] = []
    server.run(backend=backend, workers=workers, on_started=started)


async def scraped(server: Any) -> None:
    """Metrics are told, and somebody in this very process reads them each second."""
    import threading
    import urllib.request

    from wireway.observe.endpoint import Metrics

    async with Metrics([server], "tcp://127.0.0.1:0") as metrics:
        url = metrics.addresses[0].replace("tcp", "http") + "/metrics"

        def read() -> None:
            while True:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    answer.read()
                time.sleep(1)

        threading.Thread(target=read, daemon=True).start()
        await asyncio.Event().wait()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description="an echo server for the benchmarks")
    parser.add_argument("--loop", choices=LOOPS, required=True)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--backend", default="auto", help="wireway's back end")
    parser.add_argument("--workers", type=int, help="processes, of wireway's server modes")
    options = parser.parse_args()
    raise_descriptor_limit()
    try:
        if options.mode.startswith("server"):
            if options.loop != "wireway":
                parser.error("server modes are wireway's")
            serve_wireway(options.mode, options.port, options.backend, options.workers)
        else:
            with asyncio.Runner(loop_factory=loop_factory(options.loop, options.backend)) as runner:
                runner.run(serve(options.mode, options.port))
    except KeyboardInterrupt:
        pass
    except (ImportError, OSError) as error:
        sys.exit(f"echo.py: {error}")


if __name__ == "__main__":
    main()
