"""The echo service: every message goes back to where it came from."""

from __future__ import annotations

import shlex

import wireway
from wireway.framing.names import framing_name
from wireway.services.contract import Listener, Service

__all__ = ["echo_server", "service"]


def echo_server(address: str, *, framing: wireway.Framing | None = None) -> wireway.Server:
    """A server that sends every message back.

    The handler is a plain function: it is called, and what it sends leaves in one piece with all else that it sends.
    A peer that sends and never reads is held back by the server: above `Buffers.high` it is not read from.

    :param address: see `wireway.Server`.
    :param framing: see `wireway.Server`.
    :raises ConfigError: the address or the framing is wrong.
    """
    return _echo(wireway.Server(address, framing=framing))


def _echo(server: wireway.Server) -> wireway.Server:
    @server.on_message
    def echo(conn: wireway.Connection, message: bytes) -> None:
        conn.send_nowait(message)

    return server


def _try_it(listener: Listener, address: str) -> str:
    match listener.framing:
        case None | wireway.Raw():
            framing, words = "", "hello"
        case wireway.FixedLength(size):
            framing, words = f" --framing fixed:{size}", ("hello " * size)[:size]
        case wireway.Mbap():
            framing, words = " --framing mbap", r"\x00\x01\x00\x00\x00\x06\x01\x03\x00\x00\x00\x01"
        case other:
            framing, words = f" --framing {framing_name(other)}", "hello"
    trust = " --insecure" if address.startswith("tls:") else ""  # whose certificate it is only its owner knows
    return f"wireway connect {address}{trust}{framing} --send {shlex.quote(words)} --expect {shlex.quote(words)}"


service = Service(
    summary="Send every message back.",
    make=lambda listener, options: _echo(listener.server()),
    try_it=_try_it,
)
