"""Echo: each line that comes goes back.

Shows a server, a framing, and a handler that is called with whole messages.
Try it: python examples/01_echo.py, then in another shell: nc 127.0.0.1 9000, and type.
"""

from __future__ import annotations

import wireway

server = wireway.Server("tcp://127.0.0.1:9000", framing=wireway.Lines())


@server.on_message
async def echo(conn: wireway.Connection, line: bytes) -> None:
    """Waits only if the peer does not read: so a slow peer slows its own handler down, and nobody else's."""
    await conn.send(line)


if __name__ == "__main__":
    server.run()
