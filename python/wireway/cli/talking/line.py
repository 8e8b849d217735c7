"""One connection to talk over, of a client that connects or of a side that listens: a `Line`, and where they come from.

Owns its making and its end. Knows no terminal, no file and no framing: bytes come as they came. Both kinds are pulled
with `receive`, and both stay open when the peer has ended its half, until this side has said all as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import wireway
from wireway._native import ServerCore
from wireway.cli.talking.plan import Plan
from wireway.config import native_options
from wireway.net.address import parse
from wireway.net.connecting import open_socket
from wireway.net.evidence import Evidence
from wireway.net.shaking import Shaking

__all__ = ["Line", "Lines", "Say", "open_lines"]

_LINGER = 2.0
"""Seconds for what is queued at the end; a person waits for it."""
_WAITING = 64
"""Connections that may wait for their turn while a listening side talks to another."""

Say = Callable[[str], None]
Lines = Callable[[], Awaitable["Line"]]
"""Waits for the next line: connects, or takes who came."""


class Hold:
    """What keeps a connection open: its handler, which waits here. It is kept as the connection's `state`."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[wireway.CloseReason] = loop.create_future()
        self.released: asyncio.Future[None] = loop.create_future()

    @classmethod
    def of(cls, conn: wireway.Connection) -> Hold:
        """That of a connection, made at the first time."""
        if conn.state is None:
            conn.state = cls()
        hold: Hold = conn.state
        return hold

    async def wait(self) -> None:
        """Until it is released, or over."""
        either: set[asyncio.Future[Any]] = {self.ended, self.released}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    def release(self) -> None:
        """The peer has said all, and so has this side: then the end is the peer's."""
        if not self.released.done():
            self.released.set_result(None)

    def end(self, reason: wireway.CloseReason) -> None:
        """It is over."""
        if not self.ended.done():
            self.ended.set_result(reason)


class Line:
    """A connection, its end and the reason of that."""

    def __init__(self, connection: wireway.Connection) -> None:
        self.connection = connection
        self._hold = Hold.of(connection)
        self._heard_all = False
        self.peer = _name(connection.peer)
        self.local = _name(connection.local)
        self.tls = connection.tls
        self.half_closed = False
        self._said_all: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def over(self) -> bool:
        """It is closed, or closing: nothing can be sent any more."""
        return self._hold.ended.done() or self.connection.is_closing

    async def pieces(self) -> AsyncIterator[bytes]:
        """What comes, until the peer has ended its half, or the connection is over; why, `reason` says."""
        while True:
            try:
                yield await self.connection.receive()
            except wireway.ConnectionClosedError:
                self._heard_all = True
                return

    async def send(self, data: bytes, *, text: bool = False) -> bool:
        """Send; waits while the peer takes nothing. False: the connection is over.

        :param text: it is meant as text; of no account where all is bytes.
        """
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
            self._said_all.set_result(None)
            self.connection.half_close()

    async def said_all(self) -> None:
        """Until our half is closed too, or all is over."""
        either: set[asyncio.Future[Any]] = {self._said_all, self._hold.ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    def close(self) -> None:
        """Both have said all."""
        if self._heard_all and not self.over:
            self._hold.release()
        else:
            self.connection.close("the talk is over")

    async def reason(self) -> wireway.CloseReason:
        """Why it ended; waits for the end."""
        return await asyncio.shield(self._hold.ended)

    def ending(self) -> str | None:
        """What the peer said at its end, where a protocol has words for that."""
        return None

    def complaint(self) -> str | None:
        """What is wrong with the end by the rules of a protocol, whatever the connection says of its own."""
        return None


@asynccontextmanager
async def open_lines(plan: Plan, say: Say) -> AsyncIterator[Lines]:
    """Where lines come from, as planned. All are closed at the end.

    :param say: told where it listens, and who came.
    :raises AddressInUseError: somebody else listens there.

    What it yields raises `ConnectError` where nobody is.
    """
    async with (_listening if plan.listen else _connecting)(plan, say) as bare:
        if plan.web is None:
            yield bare
        else:
            from wireway.cli.talking.websocket import over

            web = plan.web

            async def next_one() -> Line:
                return await over(bare, web, say, serving=plan.listen)

            yield next_one


def said_of(line: Line, plan: Plan) -> str:
    """Who is there, for a note."""
    text = f"{'connection from' if plan.listen else 'connected to'} {line.peer or plan.url}"
    if (tls := line.tls) is None:
        return text
    alpn = f", {tls.alpn} by ALPN" if tls.alpn else ""
    return f"{text}, {tls.version} {tls.cipher}{alpn}"


# --- connecting ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _connecting(plan: Plan, say: Say) -> AsyncIterator[Lines]:
    address = parse(plan.url)
    seconds = min(10.0, plan.timeout or 10.0, plan.wait or 10.0)
    shaking = Shaking(plan.tls, address)
    lines: list[Line] = []

    async def hold(conn: wireway.Connection) -> None:
        await Hold.of(conn).wait()

    def closed(conn: wireway.Connection, evidence: dict[str, Any]) -> None:
        shaking.failed(conn, evidence)
        told = Evidence(**{**evidence, "dialled": True})  # type: ignore[typeddict-item]
        Hold.of(conn).end(wireway.CloseReason.of(conn, told))

    # Not a `Client`: that closes when the peer has ended its half, and what stdin still has would be lost.
    handlers = {"message": None, "batch": None, "connect": hold, "closed": closed, "wants_close": True}
    options = native_options(wireway.Timeouts(connect=seconds, close_linger=_LINGER))
    core = ServerCore(asyncio.get_running_loop(), wireway.Raw()._native(), handlers, options)  # type: ignore[arg-type]
    shaking.begin(core)

    async def next_one() -> Line:
        sock = await open_socket(address, timeout=seconds)
        if plan.tls is None and address.scheme != "tls":
            conn = await _soon(lambda: core.adopt(sock.detach()))
        else:
            conn = await shaking.adopt(core, sock)
        line = Line(conn)
        lines.append(line)
        say(said_of(line, plan))
        return line

    try:
        yield next_one
    finally:
        await _close(lines)


async def _soon(make: Callable[[], wireway.Connection]) -> wireway.Connection:
    """Call it from the loop: a connection begins with its handler, and one Task can not be entered out of another."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[wireway.Connection] = loop.create_future()
    loop.call_soon(lambda: done.set_result(make()))
    return await done


# --- listening ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _listening(plan: Plan, say: Say) -> AsyncIterator[Lines]:
    came: asyncio.Queue[wireway.Connection] = asyncio.Queue()
    taken = False
    server = wireway.Server(
        plan.url,
        tls=plan.tls,
        timeouts=wireway.Timeouts(close_linger=_LINGER),
        drain_timeout=_LINGER,
        limits=wireway.Limits(connections=_WAITING + 1 if plan.keep else 1),
        stalls=None,
    )
    lines: list[Line] = []

    @server.on_connect
    async def hold(conn: wireway.Connection) -> None:
        nonlocal taken
        if taken and not plan.keep:
            raise wireway.Refused("one connection is all that wireway connect --listen takes without --keep")
        taken = True
        came.put_nowait(conn)
        await Hold.of(conn).wait()

    @server.on_close
    def left(conn: wireway.Connection, reason: wireway.CloseReason) -> None:
        Hold.of(conn).end(reason)

    async def next_one() -> Line:
        conn = await came.get()
        line = Line(conn)
        lines.append(line)
        say(said_of(line, plan))
        return line

    async with server:
        much = "for one connection after the other" if plan.keep else "for one connection"
        say(f"listens on {', '.join(map(plan_url(plan), server.addresses))}, {much}")
        try:
            yield next_one
        finally:
            await _close(lines)


def plan_url(plan: Plan) -> Callable[[str], str]:
    """Where it listens, in the words of the user: ws for tcp, where a WebSocket is spoken."""
    if plan.web is None:
        return lambda url: url
    return lambda url: url.replace("tls://", "wss://").replace("tcp://", "ws://")


# --- the end ------------------------------------------------------------------------------------------------------


async def _close(lines: list[Line]) -> None:
    for line in lines:
        line.close()
    for line in lines:
        await line.reason()


def _name(address: object) -> str:
    match address:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case None | "" | b"":
            return ""
    return str(address)
