"""`Client`: one connection to a server, made again when it is lost.

Owns the life of the connection and what is sent and received meanwhile. How to connect, when to try again, which
answer belongs to which request, what leaves again and what waits are in modules of their own beside it; the
connection itself is native. Knows nothing of pools.

Long because: one state machine, which two files would have to share.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Unpack

from wireway._native import Connection, ServerCore
from wireway.config import Buffers, Heartbeat, SocketOptions, Timeouts, native_options
from wireway.errors import ConfigError, ConnectError, ConnectionClosedError, TlsError, WirewayError
from wireway.framing import Framing, Raw
from wireway.loop import EventLoop
from wireway.net.address import parse
from wireway.net.client_options import (
    ClientOptions,
    ClientState,
    MessageHandler,
    ReconnectHandler,
    StateHandler,
)
from wireway.net.closing import CloseReason
from wireway.net.connecting import open_socket
from wireway.net.holding import Hold, caller
from wireway.net.inbox import Inbox
from wireway.net.outgoing import OutgoingQueue
from wireway.net.outlet import Outlet
from wireway.net.reconnecting import Backoff, Reconnect
from wireway.net.requests import Correlate, check_deadline
from wireway.net.resending import Resend
from wireway.net.sending import SendResult
from wireway.net.shaking import Shaking
from wireway.net.tls import Tls

__all__ = ["Client", "ClientOptions", "ClientState", "connect"]

logger = logging.getLogger("wireway.client")


_QUEUE = OutgoingQueue()


class Client:
    """A connection to a server. Await it, or enter it with ``async with``, to connect.

    ::

        async with wireway.connect("tcp://127.0.0.1:9000", framing=wireway.LengthPrefix(4)) as client:
            answer = await client.request(b"hello", deadline=5.0)

    :param address: ``tcp://host:port``, ``tls://host:port`` or ``unix:///path``.
    :param framing: how the stream is cut into messages; `Raw` (not at all) unless told.
    :param on_message: ``on_message(client, message: bytes)``, a plain function or ``async def``, called for each
        message that is no answer to a `request`: in order, one at a time. It may itself await `request`. None: they
        are for `receive` and ``async for``. Its exception closes the connection with code ``handler-error``.
    :param timeouts: deadlines; `Timeouts.connect` covers name resolution and all addresses together.
    :param heartbeat: pings to a silent server.
    :param buffers: what may wait to be sent on the connection.
    :param socket: options of the kernel; those of listening sockets do nothing here.
    :param local: host and port to connect from, port 0 for any.
    :param reconnect: when to try again after the connection is lost; None: not at all.
    :param on_reconnect: ``on_reconnect(client)``, run after each reconnect, before anything that waits leaves: the
        place to log in again. What it sends goes first. Its exception closes the connection, which counts as lost.
    :param on_state: ``on_state(client, state, reason)``, a plain function, called at each change of state; `reason`
        tells why the connection was lost, or could not be made.
    :param queue: what may wait while there is no connection; None: sending is refused then.
    :param resend: send again after a reconnect what was not acknowledged.
    :param requests: how answers find their requests; None: in order.
    :param tls: whom to trust and who to be, for ``tls://``; unless told, whom the system trusts.
    :raises ConfigError: an option is wrong. `AddressError`: the address is.

    A message that was handed to a connection may be lost with it (at most once), unless `resend` says otherwise.

    A client belongs to the thread that runs the loop. Keep a reference: one that is collected while it is open is
    closed, with a `ResourceWarning`. Its messages that nobody takes are bounded: reading pauses at 1,000 or 1 MiB.
    """

    _sleep = staticmethod(asyncio.sleep)

    def __init__(
        self,
        address: str,
        *,
        framing: Framing | None = None,
        on_message: MessageHandler | None = None,
        timeouts: Timeouts | None = None,
        heartbeat: Heartbeat | None = None,
        buffers: Buffers | None = None,
        socket: SocketOptions | None = None,
        local: tuple[str, int] | None = None,
        reconnect: Reconnect | None = None,
        on_reconnect: ReconnectHandler | None = None,
        on_state: StateHandler | None = None,
        queue: OutgoingQueue | None = _QUEUE,
        resend: Resend | None = None,
        requests: Correlate | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Check the options. Nothing is opened before the client is awaited."""
        self._address, self._url = parse(address), address
        self._framing: Framing = Raw() if framing is None else framing
        if not hasattr(self._framing, "_native"):
            raise ConfigError(f"framing is {framing!r}, it must be one such as wireway.LengthPrefix(4)")
        groups = {"timeouts": Timeouts, "heartbeat": Heartbeat, "buffers": Buffers, "socket": SocketOptions}
        groups |= {"reconnect": Reconnect, "queue": OutgoingQueue, "resend": Resend}
        given = (timeouts, heartbeat, buffers, socket, reconnect, queue, resend)
        for (name, kind), value in zip(groups.items(), given, strict=True):
            if value is not None and not isinstance(value, kind):
                raise ConfigError(f"{name} is {value!r}, it must be a {kind.__name__}, or None")
        for name, handler in (("on_message", on_message), ("on_reconnect", on_reconnect), ("on_state", on_state)):
            if handler is not None and not callable(handler):
                raise ConfigError(f"{name} is {handler!r}, it must be a function, or None")
        if resend is not None and reconnect is None:
            raise ConfigError("resend means nothing without reconnect")
        self._timeouts = Timeouts() if timeouts is None else timeouts
        self._options = native_options(timeouts=self._timeouts, buffers=buffers, heartbeat=heartbeat)
        self._drops = buffers is not None and buffers.when_slow in ("drop-oldest", "latest")
        self._socket, self._local = socket, local
        self._shaking = Shaking(tls, self._address)
        self._on_message, self._on_reconnect, self._on_state = on_message, on_reconnect, on_state
        self._backoff = None if reconnect is None else Backoff(reconnect)
        self._retries_start = reconnect is not None and reconnect.at_start
        self._hold = Hold(address, caller())
        self._outlet = Outlet(self._hold, None if reconnect is None else queue, resend, requests)
        self._inbox = Inbox(self._hold.resume)
        self._handling: asyncio.Task[None] | None = None
        self._failure: tuple[str, BaseException] | None = None
        self._over: asyncio.Future[None] | None = None
        self._core: ServerCore | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self.reconnects = 0
        """How often the connection was made again."""

    def __repr__(self) -> str:
        return f"<Client {self._url} {self._hold.state}>"

    # --- what it is doing -----------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The URL that it connects to."""
        return self._url

    @property
    def state(self) -> ClientState:
        """Where it is in its life."""
        return self._hold.state

    @property
    def connection(self) -> Connection | None:
        """The present connection; None while there is none."""
        return self._hold.connection

    @property
    def closed_reason(self) -> CloseReason | None:
        """Why the last connection ended, or could not be made; None before that."""
        return self._hold.reason

    @property
    def queued(self) -> int:
        """Messages that wait for a connection."""
        return self._outlet.queued

    @property
    def dropped(self) -> int:
        """Messages that the outgoing queue lost: for newer ones, or at the end."""
        return self._outlet.dropped

    @property
    def unread(self) -> int:
        """Messages that came and nobody has taken."""
        return len(self._inbox)

    @property
    def pending(self) -> int:
        """Requests whose answer somebody waits for."""
        return self._outlet.requests.pending

    # --- start ----------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Client]:
        """Connect.

        :raises ConnectError: the server can not be reached. With ``Reconnect(at_start=True)``: after all attempts.
        :raises WirewayError: it was opened before, or the loop is not a `wireway.EventLoop`.

        Cancellation closes the client and leaves no descriptor.
        """
        return self._open().__await__()

    async def __aenter__(self) -> Client:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self) -> Client:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, EventLoop):
            text = f"a Client runs on a wireway.EventLoop, not on {type(loop).__name__}: use wireway.run(...)"
            raise WirewayError(text)
        if self._hold.state is not ClientState.IDLE:
            raise WirewayError(f"a client is opened once, and this one is {self._hold.state}: make another")
        link = _Link(self)
        handlers = {"batch": link.batch, "closed": link.closed, "wants_close": True}
        self._core = ServerCore(loop, self._framing._native(), handlers, self._options)
        self._shaking.begin(self._core)
        self._over = loop.create_future()
        self._hold.loop = loop
        self._finalizer = weakref.finalize(self, self._hold.collected)
        self._finalizer.atexit = False
        try:
            while True:
                self._enter(ClientState.CONNECTING, self._hold.reason)
                try:
                    await self._connect()
                    self._outlet.ready = True
                    self._enter(ClientState.OPEN, None)
                    return self
                except OSError as error:
                    if isinstance(error, ConnectionClosedError):
                        raise
                    delay = self._failed(error, retries=self._retries_start)
                    if delay is None:
                        raise
                await self._sleep(delay)
                if self.state is not ClientState.WAITING:
                    raise self._hold.closed_error()
        except BaseException as error:
            self._end(CloseReason("aborted", f"the client did not open: {error!r}"))
            raise

    async def _connect(self) -> None:
        sock = await open_socket(self._address, timeout=self._timeouts.connect, local=self._local, options=self._socket)
        if self._hold.state is not ClientState.CONNECTING or self._core is None:
            sock.close()
            raise self._hold.closed_error()
        try:
            self._hold.connection = await self._shaking.adopt(self._core, sock)
        except TlsError:
            if self.state is not ClientState.CONNECTING:  # it was closed meanwhile
                raise self._hold.closed_error() from None
            raise
        self._failure = None
        if self._backoff is not None:
            self._backoff.opened(self._hold.now())

    def _failed(self, error: OSError, *, retries: bool) -> float | None:
        """An attempt failed: the delay until the next, or None at the end of the client."""
        reason = self._shaking.reason(error) or CloseReason.of_connect(error, self._url)
        delay = self._backoff.next() if retries and self._backoff is not None else None
        if delay is None:
            self._hold.gave_up = True
            self._end(reason)
        else:
            self._enter(ClientState.WAITING, reason)
        return delay if self.state is ClientState.WAITING else None

    def _enter(self, state: ClientState, reason: CloseReason | None) -> None:
        self._hold.state = state
        self._hold.reason = reason or self._hold.reason
        if self._on_state is not None:
            try:
                self._on_state(self, state, reason)
            except Exception as error:  # noqa: BLE001 - reported, and the client goes on
                text = f"on_state of {self!r} failed"
                self._hold.running().call_exception_handler({"message": text, "exception": error})

    # --- sending --------------------------------------------------------------------------------------

    async def send(self, message: bytes) -> None:
        """Send one message. Waits only while more than `Buffers.high` bytes wait to be sent.

        Without a connection it waits in the outgoing queue, and this returns at once.

        :raises ConnectionClosedError: the client is closed, or has no connection and no queue. `ConnectError`: it is
            closed since it could not connect again.
        :raises QueueFullError: the outgoing queue takes no more.

        Cancelled while it waits, the message is sent all the same, unless it waited for room in the outgoing queue.
        """
        await self._outlet.put(message, None)

    def send_nowait(self, message: bytes) -> SendResult:
        """The same without waiting. `SendResult.QUEUED` also for what waits for a connection."""
        return self._outlet.put_nowait(message)

    async def request(self, message: bytes, *, deadline: float | None = None) -> bytes:
        """Send `message`, wait for its answer and return that. Several may be under way: they are pipelined.

        :param deadline: seconds until `RequestTimeoutError`, the wait for a connection included; None: no limit.
        :raises RequestTimeoutError: no answer in time. One that comes later is swallowed.
        :raises ConnectionClosedError: the connection ended before the answer, and the request does not leave again
            (see `Resend`). The server may have acted on it.
        :raises QueueFullError: as for `send`, and when 10,000 requests are under way. The others of `send` as there.
        :raises ConfigError: answers are told apart by their order, and `Buffers.when_slow` drops messages.

        Cancellation leaves the request with the server; its answer is swallowed.
        """
        check_deadline(deadline)
        requests = self._outlet.requests
        if self._drops and requests.in_order:
            raise ConfigError(
                "answers in order need every message to arrive, and Buffers.when_slow drops some: "
                "give requests=Correlate(...), or when_slow='pause'"
            )
        waiting = requests.begin(bytes(message))
        return await requests.answer(waiting, self._outlet.put(waiting.message, waiting), deadline)

    # --- receiving ------------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """The next message that is no answer to a request. Goes on over reconnects; several may wait.

        :raises ConnectionClosedError: the client is closed and all its messages are taken. `ConnectError`: it is
            closed since it could not connect again.
        :raises WirewayError: the client has an `on_message`, or was not opened.

        Cancellation takes no message.
        """
        if self._on_message is not None:
            raise WirewayError("the client has an on_message, which gets its messages")
        self._hold.check_opened()
        message = await self._inbox.get()
        if message is None:
            raise self._hold.closed_error()
        return message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Each message as of `receive`. Ends without an error where the server closed cleanly, or this side."""
        while True:
            try:
                message = await self.receive()
            except (ConnectionClosedError, ConnectError):
                reason = self._hold.reason
                if reason is not None and reason.code in ("peer-closed", "closed") and not self._hold.gave_up:
                    return
                raise
            yield message

    def _received(self, connection: Connection, messages: list[bytes]) -> None:
        for message in messages:
            if self._outlet.received(message):
                continue
            if self._on_message is None or self._handling is not None:
                self._inbox.put(message)
            elif (handled := self._on_message(self, message)) is not None:
                self._handling = self._hold.running().create_task(self._handle(handled))
        if self._inbox.full:
            connection.pause()

    async def _handle(self, handled: Awaitable[None]) -> None:
        """Await a handler that suspended, then handle what came meanwhile."""
        assert self._on_message is not None
        try:
            await handled
            while (message := self._inbox.take()) is not None:
                if (more := self._on_message(self, message)) is not None:
                    await more
        except Exception as error:  # noqa: BLE001 - reported, and the connection closed
            self._fail("on_message", error)
        finally:
            self._handling = None

    def _fail(self, name: str, error: Exception) -> None:
        logger.error("%s of the client of %s failed", name, self._url, exc_info=error)
        if (connection := self._hold.connection) is not None:
            self._failure = (f"{name} failed: {error!r}", error)
            connection.abort(self._failure[0])

    # --- the connection is lost, and made again -------------------------------------------------------

    def _lost(self, connection: Connection, evidence: dict[str, Any]) -> None:
        if connection is not self._hold.connection:
            self._shaking.failed(connection, evidence)
            return
        if self._failure is not None:
            why, error = self._failure
            evidence = {**evidence, "code": "handler-error", "why": why, "error": error, "side": "local"}
        reason = CloseReason.of(connection, {**evidence, "dialled": True})  # type: ignore[typeddict-item]
        logger.debug("the connection to %s is lost: %s: %s", self._url, reason.code, reason.why)
        self._hold.connection, self._outlet.ready = None, False
        self._hold.cancel()
        if self._backoff is None or self._hold.state is not ClientState.OPEN:
            self._end(reason)
            return
        self._hold.reason = reason
        self._outlet.lost()
        self._backoff.closed(self._hold.now())
        delay = self._backoff.next()
        if delay is None:
            self._hold.gave_up = True
            self._end(reason)
            return
        self._enter(ClientState.WAITING, reason)
        if self.state is ClientState.WAITING:  # on_state may have closed it
            self._hold.task = self._hold.running().create_task(_keep_up(weakref.ref(self), self._sleep, delay))

    async def _again(self) -> float | None:
        """One attempt. Returns the delay until the next if it failed, None at the end of the attempts."""
        self._enter(ClientState.CONNECTING, self._hold.reason)
        try:
            await self._connect()
        except ConnectionClosedError:
            return None
        except OSError as error:
            return self._failed(error, retries=True)
        self.reconnects += 1
        self._enter(ClientState.OPEN, None)
        connection = self._hold.connection
        if connection is not None:
            await self._catch_up(connection)
        return None

    async def _catch_up(self, connection: Connection) -> None:
        """Greet the server, then let leave what waits. Cancelled when the connection ends."""
        if self._on_reconnect is not None:
            try:
                with self._outlet.greeting():
                    greeted = self._on_reconnect(self)
                    if greeted is not None:
                        await greeted
            except Exception as error:  # noqa: BLE001 - reported, and the connection closed
                if connection is self._hold.connection:
                    self._fail("on_reconnect", error)
                return
        if connection is self._hold.connection:  # else it was lost, or closed, and `on_reconnect` did not mind
            await self._outlet.catch_up(connection)

    # --- end ------------------------------------------------------------------------------------------

    async def close(self, why: str = "closed by the client") -> None:
        """Let what was sent leave, then close; `Timeouts.close_linger` bounds it. Several may wait for it.

        What waits for a connection in the outgoing queue is lost, and counted in `dropped`. A handler that is under
        way goes on. Cancellation aborts.
        """
        if self._hold.state is ClientState.IDLE:
            self._enter(ClientState.CLOSED, None)
        if self._over is None:
            return
        if self._hold.state not in (ClientState.CLOSING, ClientState.CLOSED):
            self._enter(ClientState.CLOSING, None)
            self._hold.cancel()
            connection = self._hold.connection
            if connection is None:
                self._end(CloseReason("closed", why))
            else:
                connection.close(why)
        try:
            await asyncio.shield(self._over)
        except asyncio.CancelledError:
            self.abort("close was cancelled")
            raise

    def abort(self, why: str = "aborted by the client") -> None:
        """Close at once: what was not sent is lost. Returns at once."""
        if self._over is None or self._hold.state is ClientState.CLOSED:
            return
        if self._hold.state is not ClientState.CLOSING:
            self._enter(ClientState.CLOSING, None)
        self._hold.cancel()
        if (connection := self._hold.connection) is not None:
            connection.abort(why)
        if self._hold.connection is None:
            self._end(CloseReason("aborted", why))

    def _end(self, reason: CloseReason) -> None:
        if self._hold.state is ClientState.CLOSED:
            return
        self._hold.cancel()
        self._shaking.give_up()
        self._hold.reason = reason
        self._hold.state = ClientState.CLOSED
        self._outlet.end()
        self._inbox.end()
        if self._finalizer is not None:
            self._finalizer.detach()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        self._enter(ClientState.CLOSED, reason)


def connect(address: str, *, framing: Framing | None = None, **options: Unpack[ClientOptions]) -> Client:
    """A client of the server at `address`: await it, or enter it with ``async with``. See `Client` for the options."""
    return Client(address, framing=framing, **options)


async def _keep_up(client_of: weakref.ref[Client], sleep: Callable[[float], Awaitable[None]], delay: float) -> None:
    """Connect again, after `delay` seconds and as often as need be. Holds no client while it waits."""
    following: float | None = delay
    while following is not None:
        await sleep(following)
        client = client_of()
        if client is None or client.state is not ClientState.WAITING:
            return
        following = await client._again()
        del client


class _Link:
    """What the native half calls. It does not keep the client alive: a lost client must be found out."""

    def __init__(self, client: Client) -> None:
        self._client = weakref.ref(client)

    def batch(self, connection: Connection, messages: list[bytes]) -> None:
        if (client := self._client()) is not None:
            client._received(connection, messages)

    def closed(self, connection: Connection, evidence: dict[str, Any]) -> None:
        if (client := self._client()) is not None:
            client._lost(connection, evidence)
