"""The web servers of the benchmarks, each with the same ASGI application: one process, no access log.

    python web.py --loop uvicorn --mode web --port 9000

Prints ``ready NAME VERSION, Python X.Y.Z pid=PID`` once the port answers; PID serves, which is a child with granian.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

PLAIN = [(b"content-type", b"text/plain; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]
LARGE = bytes(100_000)


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[Any]]
) -> None:
    """Hello, a small JSON document, or 100 KB. It reads its request, as applications do."""
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    await receive()
    path = scope["path"]
    if path == "/json":
        import json

        body, headers = json.dumps({"message": "Hello, World!", "items": [1, 2, 3]}).encode(), JSON
    elif path == "/large":
        body, headers = LARGE, PLAIN
    else:
        body, headers = b"Hello, World!", PLAIN
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def tell_when_ready(name: str, port: int) -> None:
    """Print the line that the runner waits for."""
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
            continue
        break
    pid = os.getpid()
    if name == "granian":
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[-1])
    version = importlib.metadata.version(name)
    print(f"ready {name} {version}, Python {platform.python_version()} pid={pid}", flush=True)


def serve(name: str, backend: str, port: int) -> None:
    """Serve until SIGTERM."""
    if name == "wireway":
        from wireway.http import WebServer

        WebServer(f"tcp://127.0.0.1:{port}", app).run(backend=backend)
    elif name == "uvicorn":
        import uvicorn

        uvicorn.run(
            app, port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning", backlog=16384
        )
    elif name == "granian":
        from granian.constants import Interfaces, Loops
        from granian.server import Server

        Server(
            "web:app",
            port=port,
            backlog=16384,
            backpressure=16384,
            interface=Interfaces.ASGI,
            loop=Loops.uvloop,
            log_access=False,
            log_enabled=False,
        ).serve()
    elif name == "hypercorn":
        from hypercorn.config import Config
        from hypercorn.run import run

        config = Config()
        config.application_path, config.bind, config.worker_class = "web:app", [f"127.0.0.1:{port}"], "uvloop"
        config.workers, config.loglevel, config.backlog = 0, "ERROR", 16384
        run(config)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--loop", required=True)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--mode", choices=["web"], required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    threading.Thread(target=tell_when_ready, args=(options.loop, options.port), daemon=True).start()
    serve(options.loop, options.backend, options.port)


if __name__ == "__main__":
    main()
