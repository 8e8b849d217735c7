"""Owns a server whose connections are watched to their end, with the evidence: for tests of why they ended."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext

from support.netns import Namespace
from wireway import Connection, Raw, Server, SocketOptions
from wireway.net.closing import CloseReason
from wireway.net.tcp_info import TcpInfo

_NEVER = SocketOptions(keepalive=None, user_timeout=None)


class Watched:
    """One accepted connection, seen from the server's side."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.got = asyncio.Event()
        self.end: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()

    def send(self, data: bytes) -> None:
        self.conn.send_nowait(data)

    def info(self) -> TcpInfo:
        """What the kernel says of it now."""
        return self.conn.tcp_info()

    async def reason(self) -> CloseReason:
        """Why it ended, once it did."""
        return await self.end


class House:
    """The server and its connections in the order of their coming."""

    def __init__(self, host: str, options: SocketOptions) -> None:
        self.server = Server(f"tcp://{host}:0", framing=Raw(), socket=options)
        self.arrived: asyncio.Queue[Watched] = asyncio.Queue()

        @self.server.on_connect
        def connected(conn: Connection) -> None:
            conn.state = Watched(conn)
            self.arrived.put_nowait(conn.state)

        @self.server.on_message
        def message(conn: Connection, _data: bytes) -> None:
            conn.state.got.set()

        @self.server.on_close
        def closed(conn: Connection, reason: CloseReason) -> None:
            conn.state.end.set_result(reason)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.server.addresses[0].removeprefix("tcp://").rpartition(":")
        return host, int(port)


@asynccontextmanager
async def house(where: Namespace | None = None, options: SocketOptions = _NEVER) -> AsyncIterator[House]:
    """A running server, in a namespace if told; unless told, its kernel gives no peer up before the test ends."""
    home = House(where.address if where else "127.0.0.1", options)
    with where.inside() if where else nullcontext():
        await home.server.start()
    try:
        yield home
    finally:
        await home.server.close()


@contextmanager
def peer(address: tuple[str, int], *, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A connected plain socket."""
    with socket.socket() as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(10)
        sock.connect(address)
        yield sock
