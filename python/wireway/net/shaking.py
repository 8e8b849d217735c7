"""Owns a client's TLS: the handshake between a connected socket and a connection, and how it fails.

Knows no client: it gets a socket and gives a connection.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from wireway._native import Connection, ServerCore, TlsClient
from wireway.errors import ConfigError, TlsError
from wireway.net.address import Address
from wireway.net.closing import CloseReason
from wireway.net.evidence import Evidence
from wireway.net.tls import Tls

__all__ = ["Shaking"]


class Shaking:
    """The TLS of one client, and none for addresses without. Belongs to the loop's thread."""

    def __init__(self, tls: Tls | None, address: Address) -> None:
        """Read the files.

        :raises ConfigError: an option is wrong, or does not fit the address.
        """
        if tls is not None and not isinstance(tls, Tls):
            raise ConfigError(f"tls is {tls!r}, it must be a Tls, or None")
        if tls is not None and address.scheme != "tls":
            raise ConfigError(f"tls is given, and {address} does not begin with tls://")
        self._address = address
        self._tls = (tls or Tls()) if address.scheme == "tls" else None
        self._native: TlsClient | None = None if self._tls is None else self._tls.make_client()
        self._connection: Connection | None = None
        self._done: asyncio.Future[None] | None = None
        self._why: tuple[TlsError, CloseReason] | None = None

    def begin(self, core: ServerCore) -> None:
        """Say what the handshakes are made with. Sessions are resumed among those of one client."""
        if self._tls is not None and self._native is not None:
            name = self._tls.server_name or self._address.host
            core._secure(self._native, name, float(self._tls.handshake_timeout))

    async def adopt(self, core: ServerCore, sock: socket.socket) -> Connection:
        """Make a connection of a connected socket, which it owns from now on.

        :raises TlsError: the handshake failed. Cancelled or failed, it leaves no descriptor.
        """
        if self._tls is None:
            return core.adopt(sock.detach())
        self._why = None
        self._done = done = asyncio.get_running_loop().create_future()
        self._connection = connection = core.adopt(sock.detach(), self._shaken)
        try:
            await done
            if self._why is not None:  # it ended between the end of the handshake and now
                raise self._why[0]
        except BaseException:
            connection.abort("the handshake was given up")
            raise
        finally:
            self._connection = self._done = None
        return connection

    def _shaken(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def give_up(self) -> None:
        """End the handshake that is under way, if one is."""
        if self._connection is not None:
            self._connection.abort("its client was closed")

    def failed(self, connection: Connection, evidence: dict[str, Any]) -> None:
        """A connection ended. If it is the one under way its handshake failed."""
        if self._done is None or (self._connection or connection) is not connection:
            return
        error = self._error(Evidence(**evidence))  # type: ignore[typeddict-item]
        self._why = (error, CloseReason.of(connection, Evidence(**{**evidence, "error": error})))  # type: ignore[typeddict-item]
        if not self._done.done():
            self._done.set_exception(error)

    def reason(self, error: BaseException) -> CloseReason | None:
        """The reason that belongs to an error of `adopt`."""
        return self._why[1] if self._why is not None and self._why[0] is error else None

    def _error(self, evidence: Evidence) -> TlsError:
        error = TlsError(f"{self._address} was reached, but TLS failed: {evidence.get('why', '')}")
        error.code = evidence.get("code", "tls-error")
        return error
