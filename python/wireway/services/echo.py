"""The echo service: every message goes back to where it came from."""

from __future__ import annotations

import wireway

__all__ = ["echo_server"]


def echo_server(address: str, *, framing: wireway.Framing | None = None) -> wireway.Server:
    """A server that sends every message back.

    The handler is a plain function: it is called, and what it sends leaves in one piece with all else that it sends.
    A peer that sends and never reads is held back by the server: above `Buffers.high` it is not read from.

    :param address: see `wireway.Server`.
    :param framing: see `wireway.Server`.
    :raises ConfigError: the address or the framing is wrong.
    """
    server = wireway.Server(address, framing=framing)

    @server.on_message
    def echo(conn: wireway.Connection, message: bytes) -> None:
        conn.send_nowait(message)

    return server
