"""One connection to talk over: of a client that connects, or the first that a listening side accepts.

Owns its making and its end. Knows no terminal, no file and no framing: bytes come as they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import wireway
from wireway.cli.talking.words import Input, View

__all__ = ["Line", "Plan", "open_line"]

_LINGER = 2.0
"""Seconds for what is queued at the end; a person waits for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What the command line said."""

    url: str
    framing: wireway.Framing
    listen: bool = False
    tls: wireway.Tls | None = None
    timeout: float | None = None
    sends: tuple[bytes, ...] = ()
    expects: tuple[str, ...] = ()
    input: Input = Input.TEXT
    view: View = View.TEXT
    eol: bytes = b""
    timestamps: bool = False
    verbose: bool = False
    quiet: bool = False
    history: Path | None = None


class Line:
    """A connection, its end and the reason of that."""

    stays_open = True
    """Whether our half stays open when the peer has ended its own: a server's does, a client's connection closes."""

    def __init__(self, connection: wireway.Connection, ended: asyncio.Future[wireway.CloseReason]) -> None:
        self.connection, self._ended = connection, ended
        self.peer = _name(connection.peer)
        self.local = _name(connection.local)
        self.tls = connection.tls
        self.half_closed = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """What comes, until none can come; why, `reason` says."""
        while True:
            try:
                yield await self.connection.receive()
            except wireway.ConnectionClosedError:
                return

    async def send(self, data: bytes) -> bool:
        """Send; waits while the peer takes nothing. False: the connection is over."""
        try:
            if data:
                await self.connection.send(data)
        except wireway.ConnectionClosedError:
            return False
        return True

    def half_close(self) -> None:
        """That was all from this side."""
        if not self.half_closed:
            self.half_closed = True
            self.connection.half_close()

    def close(self) -> None:
        """Both have said all."""
        self.connection.close("the talk is over")

    async def reason(self) -> wireway.CloseReason:
        """Why it ended; waits for the end."""
        return await asyncio.shield(self._ended)


@asynccontextmanager
async def open_line(plan: Plan, say: Callable[[str], None]) -> AsyncIterator[Line]:
    """A connection as planned, closed at the end.

    :param say: told where it listens, and who came.
    :raises ConnectError: nobody is there. `AddressInUseError`: somebody else listens there.
    """
    # Both sides are a server's or a client's connection, pulled; the client's `receive` would go on over its inbox.
    async with _listening(plan, say) if plan.listen else _connecting(plan) as line:
        secured = f", {line.tls.version} {line.tls.cipher}" if line.tls is not None else ""
        say(f"{'connection from' if plan.listen else 'connected to'} {line.peer or plan.url}{secured}")
        yield line


@asynccontextmanager
async def _connecting(plan: Plan) -> AsyncIterator[Line]:
    ended: asyncio.Future[wireway.CloseReason] = asyncio.get_running_loop().create_future()

    def changed(_: wireway.Client, state: wireway.ClientState, reason: wireway.CloseReason | None) -> None:
        if state is wireway.ClientState.CLOSED and reason is not None and not ended.done():
            ended.set_result(reason)

    seconds = min(10.0, plan.timeout or 10.0)
    timeouts = wireway.Timeouts(connect=seconds, close_linger=_LINGER)
    client = wireway.connect(plan.url, timeouts=timeouts, tls=plan.tls, on_state=changed)
    async with client:
        assert client.connection is not None
        yield _ClientLine(client, ended)


class _ClientLine(Line):
    """A client hands its messages out itself."""

    stays_open = False

    def __init__(self, client: wireway.Client, ended: asyncio.Future[wireway.CloseReason]) -> None:
        assert client.connection is not None
        super().__init__(client.connection, ended)
        self._client = client

    async def pieces(self) -> AsyncIterator[bytes]:
        while True:
            try:
                piece = await self._client.receive()
            except (wireway.ConnectionClosedError, wireway.ConnectError):
                return
            yield piece


@asynccontextmanager
async def _listening(plan: Plan, say: Callable[[str], None]) -> AsyncIterator[Line]:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[wireway.CloseReason] = loop.create_future()
    came: asyncio.Future[wireway.Connection] = loop.create_future()
    server = wireway.Server(
        plan.url,
        tls=plan.tls,
        timeouts=wireway.Timeouts(close_linger=_LINGER),
        drain_timeout=_LINGER,
        limits=wireway.Limits(connections=1),
        stalls=None,
    )

    @server.on_connect
    async def taken(conn: wireway.Connection) -> None:
        if came.done():
            raise wireway.Refused("one connection is all that wireway connect --listen takes")
        came.set_result(conn)
        await asyncio.shield(ended)

    @server.on_close
    def left(conn: wireway.Connection, reason: wireway.CloseReason) -> None:
        if came.done() and conn is came.result() and not ended.done():
            ended.set_result(reason)

    async with server:
        say(f"listens on {', '.join(server.addresses)}, for one connection")
        conn = await came
        try:
            yield Line(conn, ended)
        finally:
            conn.close("the talk is over")


def _name(address: object) -> str:
    match address:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case None | "" | b"":
            return ""
    return str(address)
