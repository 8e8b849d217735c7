"""Owns the option groups: what a server or a client may be told, each value checked when the group is made.

A group is a frozen, keyword-only value: it may be shared by many servers, and threads. Durations are seconds (int or
float, more than 0), sizes are bytes, rates are per second; `None` turns an option off. `True` and `False` are no
numbers. What is wrong is a `ConfigError` that names the option, the value and what is allowed.

Knows no socket, no loop and no server. `native_options` alone makes of groups what the native half takes.

Long because: each option is explained where it is declared.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal, get_args

from wireway.errors import ConfigError
from wireway.units import Bytes, BytesAtOnce, BytesPerSecond, PerSecond, Seconds, WholeSeconds

__all__ = [
    "LIMITS",
    "Access",
    "Ban",
    "Buffers",
    "Capture",
    "Handover",
    "Heartbeat",
    "Keepalive",
    "Limits",
    "SocketOptions",
    "Stalls",
    "Timeouts",
    "WhenSlow",
    "native_options",
]

WhenSlow = Literal["pause", "drop-oldest", "latest", "close"]
ProxyProtocol = Literal["off", "optional", "required"]

LIMITS = frozenset(
    {
        *("connections", "per_address", "per_subnet", "accept_rate", "message_rate", "byte_rate"),
        *("queued_bytes", "handlers", "ban", "soft", "hard"),
    }
)
"""The limits that `Limits.dry_run` may name: those of `Limits`, and `soft` and `hard` of `Buffers`."""


# --- checks -------------------------------------------------------------------------------------------------------


def _refuse(group: object, name: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{type(group).__name__}: {name} is {value!r}, {allowed}", option=name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _durations(group: object, *names: str) -> None:
    """Each is a number of seconds above 0, or None."""
    for name in names:
        value = getattr(group, name)
        if value is not None and not (_is_number(value) and value > 0):
            raise _refuse(group, name, value, "it must be more than 0 seconds, or None for no limit")


def _rates(group: object, *names: str) -> None:
    """Each is a number above 0, or None."""
    for name in names:
        value = getattr(group, name)
        if value is not None and not (_is_number(value) and value > 0):
            raise _refuse(group, name, value, "it must be more than 0 a second, or None for no limit")


def _numbers(group: object, least: int, unit: str, *names: str, most: int | None = None, off: bool = True) -> None:
    """Each is a whole number of at least `least`, at most `most`, or, with `off`, None."""
    for name in names:
        value = getattr(group, name)
        if value is None and off:
            continue
        if type(value) is not int or value < least or (most is not None and value > most):
            span = f"at least {least:,}" if most is None else f"{least:,} to {most:,}"
            raise _refuse(group, name, value, f"it must be {span} {unit}{', or None' if off else ''}")


def _bools(group: object, *names: str) -> None:
    for name in names:
        value = getattr(group, name)
        if not isinstance(value, bool):
            raise _refuse(group, name, value, "it must be True or False")


def _choice(group: object, name: str, allowed: Collection[str]) -> None:
    value = getattr(group, name)
    if not isinstance(value, str) or value not in allowed:
        raise _refuse(group, name, value, f"allowed are {', '.join(map(repr, allowed))}")


def _is_group(group: object, name: str, kind: type) -> None:
    value = getattr(group, name)
    if value is not None and not isinstance(value, kind):
        raise _refuse(group, name, value, f"it must be a {kind.__name__}, or None")


def _set(group: object, name: str, value: object) -> None:
    object.__setattr__(group, name, value)  # frozen: only while it is made


# --- groups -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """Deadlines of a connection, each in seconds or None for none. All live in one native timer: 100,000 are cheap.

    A deadline is kept to 1/128 of a second, and never early. Each ends a connection with a code of its own.
    """

    connect: Seconds | None = field(default=10.0, metadata={"client": True})
    """A client's attempt to connect: name resolution and all addresses of the name together. Of no use to a server.
    Without it the kernel decides, after about two minutes for each address (tcp(7), `tcp_syn_retries`)."""
    first_message: Seconds | None = None
    """From accepting to the first whole message, PROXY header included; code `first-message-timeout`. The guard
    against peers that connect and say nothing, or one byte a second. While `on_connect` runs it does not count, and
    then from its end; with `on_connect` alone, from its first `receive`."""
    idle: Seconds | None = None
    """Without a byte in either direction; code `idle-timeout`. Too short, it closes peers that merely have nothing
    to say: give those a `Heartbeat`. While a handler runs the peer waits for us: that does not count, unless the
    handler itself waits for the peer in `receive`."""
    idle_read: Seconds | None = None
    """Without a byte from the peer; code `read-timeout`. It does not run while reading is paused by us, nor
    while a handler runs, as for `idle`."""
    idle_write: Seconds | None = None
    """Without a byte that the kernel took from us; code `write-timeout`. For peers that must hear from us regularly."""
    write_stall: Seconds | None = None
    """Bytes wait to be sent and the kernel takes none; code `write-stalled`. The guard against peers that do not
    read: what they hold is our memory. Too short, it closes peers on bad radio links."""
    close_linger: Seconds | None = 5.0
    """After `close`: to send what is queued, send FIN, and see the peer's FIN, so that the last bytes are not lost to
    a RST; code `linger-timeout` if it passes. None waits as long as sending takes, and not for the peer's FIN."""
    lifetime: Seconds | None = None
    """The whole life of a connection, whatever it does; code `lifetime`. To spread peers over servers anew."""

    def __post_init__(self) -> None:
        _durations(
            self,
            *("connect", "first_message", "idle", "idle_read", "idle_write", "write_stall", "close_linger", "lifetime"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """Pings for peers that are silent. Native: no Task, no callback, one deadline for each connection.

    :raises ConfigError: an option is wrong.
    """

    every: Seconds
    """Seconds without a byte from the peer after which `ping` is sent. A peer that speaks is never pinged. Short
    costs wake-ups on both sides (and radio on a phone); long finds a dead peer late. Firewalls forget idle
    connections after minutes: 30 to 60 suits most."""
    ping: bytes
    """The message that is sent, framed as any other."""
    pong: bytes | None = None
    """A message from the peer that equals it is swallowed: it counts as life and reaches no handler."""
    timeout: Seconds | None = None
    """Seconds after `every`, still without a byte, that close with code `heartbeat-timeout`; `every` unless told."""
    jitter: float = 0.1
    """The part of `every`, 0 to 1, by which each interval is shortened at random: else all clients that came back
    together are pinged together, for ever."""
    answers: Mapping[bytes, bytes] = field(default_factory=dict, hash=False)
    """The peer's pings and our answers: a message that equals a key is answered natively and reaches no handler."""

    def __post_init__(self) -> None:
        if self.every is None:
            raise _refuse(self, "every", None, "it must be more than 0 seconds")
        _durations(self, "every", "timeout")
        if not isinstance(self.ping, bytes) or not self.ping:
            raise _refuse(self, "ping", self.ping, "it must be the bytes of one message, at least 1")
        if self.pong is not None and (not isinstance(self.pong, bytes) or not self.pong):
            raise _refuse(self, "pong", self.pong, "it must be the bytes of one message, at least 1, or None")
        if not (_is_number(self.jitter) and 0 <= self.jitter <= 1):
            raise _refuse(self, "jitter", self.jitter, "it must be a part of `every`, 0 to 1")
        answers = self.answers
        if not isinstance(answers, Mapping) or not all(
            isinstance(key, bytes) and key and isinstance(value, bytes) for key, value in answers.items()
        ):
            raise _refuse(self, "answers", answers, "it must map messages to answers, both bytes")
        if self.pong is not None and self.pong in answers:
            raise _refuse(self, "answers", answers, f"{self.pong!r} is the pong: two sides would answer each other")
        _set(self, "answers", dict(answers))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ban:
    """Refuse an address that misbehaves for a while. A strike is a frame or a PROXY header that can not be read, a
    connection that ends within a second without one whole message, or one that `per_address` refused.

    Danger: behind one address there may be a whole office or a mobile network (NAT).
    """

    after: int = 5
    """Strikes of one address within `within` seconds that ban it. At most 65,536 addresses are remembered."""
    within: Seconds = 60.0
    """Seconds in which strikes are counted together."""
    seconds: Seconds = 300.0
    """How long its connections are closed at once, with code `banned`. They count no further strike."""

    def __post_init__(self) -> None:
        _numbers(self, 1, "strikes", "after", off=False)
        for name in ("within", "seconds"):
            if getattr(self, name) is None:
                raise _refuse(self, name, None, "it must be more than 0 seconds")
        _durations(self, "within", "seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much a server takes on. Each limit is off (None) unless told, native, and a few machine instructions.

    Refused connections are accepted and closed at once, with a code of their own: the peer sees an end, not a
    silence. Rates are token buckets: `rate` is refilled each second, `burst` is what may come at once.

    :raises ConfigError: an option is wrong.
    """

    connections: int | None = None
    """Open connections of the server; code `limit-connections`."""
    per_address: int | None = None
    """Open connections of one IP address; code `limit-address`. NAT puts many people behind one address. Unix peers
    have no address and are not counted, here and in `per_subnet`."""
    per_subnet: int | None = None
    """Open connections of one network, see `subnet_v4` and `subnet_v6`; code `limit-subnet`."""
    subnet_v4: int = 24
    """Bits of an IPv4 address that are its network, 0 to 32."""
    subnet_v6: int = 64
    """Bits of an IPv6 address that are its network, 0 to 128. A home has 64 or fewer: below it one person has as many
    addresses as they like, so `per_address` alone limits nobody on IPv6."""
    accept_rate: PerSecond | None = None
    """Connections accepted a second; code `limit-accept-rate`."""
    accept_burst: float | None = None
    """Connections that may come at once; `accept_rate`, at least 1, unless told."""
    message_rate: PerSecond | None = None
    """Messages a second of one connection. Over it nobody is closed: reading pauses, and TCP holds the peer back."""
    message_burst: float | None = None
    """Messages that may come at once; `message_rate`, at least 1, unless told."""
    byte_rate: BytesPerSecond | None = None
    """Bytes a second of one connection. Over it reading pauses."""
    byte_burst: BytesAtOnce | None = None
    """Bytes that may come at once; `byte_rate`, at least 1, unless told."""
    queued_bytes: Bytes | None = None
    """Bytes that wait to be sent on all connections of the loop together. Over it the connection that queues most is
    closed, with code `memory-budget`: the server lives on, and the slowest consumer pays."""
    handlers: int | None = None
    """Suspended handlers of the server at one time. At it, connections whose next message waits are not read from."""
    ban: Ban | None = None
    """Refuse addresses that send bad frames, or that are refused again and again."""
    dry_run: frozenset[str] | bool = False
    """Limits that only count what they would have closed, in `server.stats.would_close`: names out of `LIMITS`, or
    True for all. For finding the right value in production. Danger: a limit on trial protects nothing."""

    def __post_init__(self) -> None:
        _numbers(self, 1, "connections", "connections", "per_address", "per_subnet")
        _numbers(self, 0, "bits", "subnet_v4", most=32, off=False)
        _numbers(self, 0, "bits", "subnet_v6", most=128, off=False)
        _rates(self, "accept_rate", "message_rate", "byte_rate")
        for kind in ("accept", "message", "byte"):
            burst = getattr(self, f"{kind}_burst")
            if burst is None:
                continue
            if not (_is_number(burst) and burst >= 1):
                raise _refuse(self, f"{kind}_burst", burst, "it must be at least 1, or None")
            if getattr(self, f"{kind}_rate") is None:
                raise _refuse(self, f"{kind}_burst", burst, f"it means nothing without {kind}_rate")
        _numbers(self, 1, "bytes", "queued_bytes")
        _numbers(self, 1, "handlers", "handlers")
        _is_group(self, "ban", Ban)
        if isinstance(self.dry_run, bool):
            return
        allowed = f"it must be True, False, or a set of names out of {', '.join(sorted(LIMITS))}"
        if isinstance(self.dry_run, str) or not isinstance(self.dry_run, Collection):
            raise _refuse(self, "dry_run", self.dry_run, allowed)
        names = frozenset(self.dry_run)
        if names - LIMITS:
            raise _refuse(self, "dry_run", self.dry_run, allowed)
        _set(self, "dry_run", names)


@dataclass(frozen=True, kw_only=True, slots=True)
class Buffers:
    """What may wait to be sent on one connection, in bytes, and what happens when a peer reads too slowly.

    Memory: at most about `hard` (or, with `when_slow="pause"` and a handler that awaits, `high` and one message) for
    each connection, beside the kernel's own buffers. `low <= high`, and both at most `soft` and `hard`.

    :raises ConfigError: an option is wrong.
    """

    low: Bytes = 16 * 1024
    """Below it `await conn.send()` goes on, and the connection is read from again."""
    high: Bytes = 64 * 1024
    """Above it `await conn.send()` waits, and no further message of that connection is handled. Too small costs
    throughput on long ways: about bandwidth times round trip keeps a link busy."""
    soft: Bytes | None = None
    """Above it for `soft_seconds` without a break closes, with code `slow-consumer`."""
    soft_seconds: Seconds = 10.0
    """See `soft`."""
    hard: Bytes | None = None
    """Above it closes at once, with code `slow-consumer`. None: `send_nowait` without looking at its result may take
    all memory."""
    when_slow: WhenSlow = "pause"
    """What a send above `high` does, if it does not wait: `"pause"` queues it (the handler is paused), `"drop-oldest"`
    drops what waits longest, `"latest"` keeps the last of each key, `"close"` closes with code `slow-consumer`. What
    has begun to leave is never dropped: the stream stays whole."""
    droppable: int = 1000
    """Messages that may wait at most under `"drop-oldest"` and `"latest"`, beside the bytes."""

    def __post_init__(self) -> None:
        _numbers(self, 0, "bytes", "low", "high", off=False)
        _numbers(self, 0, "bytes", "soft", "hard")
        _numbers(self, 1, "messages", "droppable", off=False)
        if self.soft_seconds is None:
            raise _refuse(self, "soft_seconds", None, "it must be more than 0 seconds")
        _durations(self, "soft_seconds")
        _choice(self, "when_slow", get_args(WhenSlow))
        given = [(name, getattr(self, name)) for name in ("low", "high", "soft", "hard")]
        order = [(name, value) for name, value in given if value is not None]
        for (name, value), (above, more) in pairwise(order):
            if value > more:
                text = f"Buffers: {name}={value:,} is more than {above}={more:,}: low, high, soft, hard rise"
                raise ConfigError(text, option=name)


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The kernel's probes of a silent peer (tcp(7)): whole seconds, 1 to 32,767. They reach no program of the peer."""

    idle: WholeSeconds = 60
    """Seconds of silence until the first probe (`TCP_KEEPIDLE`)."""
    interval: WholeSeconds = 10
    """Seconds between probes (`TCP_KEEPINTVL`)."""
    count: int = 3
    """Probes without an answer that end the connection (`TCP_KEEPCNT`, 1 to 127), with code `timed-out`."""

    def __post_init__(self) -> None:
        _numbers(self, 1, "seconds", "idle", "interval", most=32767, off=False)
        _numbers(self, 1, "probes", "count", most=127, off=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class SocketOptions:
    """Options of the kernel, for TCP; Unix sockets know `backlog` only. A server sets them on its listening sockets,
    and each accepted socket inherits them: none costs a system call for each connection.

    :raises ConfigError: an option is wrong.
    """

    backlog: int = 4096
    """Connections that the kernel holds until they are accepted; it cuts this to `net.core.somaxconn` (listen(2))."""
    no_delay: bool = True
    """Send small pieces at once (`TCP_NODELAY`). Wireway sends once for each callback, so Nagle gains nothing."""
    keepalive: Keepalive | None = field(default_factory=Keepalive)
    """Probe silent peers. It finds dead hosts, not stuck programs: those need a `Heartbeat`."""
    user_timeout: Seconds | None = 30.0
    """Seconds that sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`, RFC 5482). It takes the place of
    `keepalive.count`: a silent peer is given up at the first probe that is due after this time. None leaves it to
    the kernel: about 15 minutes (`tcp_retries2`)."""
    defer_accept: WholeSeconds | None = None
    """Seconds for which a connection without a first byte is kept from us (`TCP_DEFER_ACCEPT`): floods of silent
    peers cost no descriptor. Not for protocols in which the server speaks first, and it hides silent peers from
    `Timeouts.first_message`."""
    fast_open: int | None = None
    """Connections whose first bytes came with their SYN that may wait (`TCP_FASTOPEN`, RFC 7413). The sysctl
    `net.ipv4.tcp_fastopen` must have bit 2. Danger: a SYN may come twice, so the first message may be handled twice."""
    send_buffer: Bytes | None = None
    """Bytes of `SO_SNDBUF`, which the kernel doubles and cuts to `net.core.wmem_max`. None lets it grow by itself,
    which is best on nearly every link."""
    receive_buffer: Bytes | None = None
    """Bytes of `SO_RCVBUF`, set before `listen` so that the window can be scaled (tcp(7)); see `send_buffer`."""
    dual_stack: bool = True
    """An address `[::]` takes IPv4 too; peers of IPv4 then have addresses like `::ffff:192.0.2.1` in `conn.peer`."""

    def __post_init__(self) -> None:
        _numbers(self, 1, "connections", "backlog", most=(1 << 31) - 1, off=False)
        _bools(self, "no_delay", "dual_stack")
        _is_group(self, "keepalive", Keepalive)
        _durations(self, "user_timeout")
        if self.user_timeout is not None and self.user_timeout > (most := ((1 << 31) - 1) // 1000):
            raise _refuse(self, "user_timeout", self.user_timeout, f"the kernel takes at most {most:,} seconds")
        _numbers(self, 1, "seconds", "defer_accept", most=65535)
        _numbers(self, 1, "connections", "fast_open", most=(1 << 31) - 1)
        _numbers(self, 1, "bytes", "send_buffer", "receive_buffer", most=(1 << 30) - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """Who may connect, and whose word about the peer's address is taken.

    Networks are texts as in `ipaddress`: ``"192.0.2.0/24"``, ``"2001:db8::/32"``, or one address. They are compared
    with the peer's address, the real one behind a trusted proxy. IPv4 in IPv6 (``::ffff:…``) counts as IPv4.

    :raises ConfigError: an option is wrong.
    """

    allow: tuple[str, ...] = ()
    """Only these may connect; all unless told. Code `denied`."""
    deny: tuple[str, ...] = ()
    """These may not, even if `allow` has them. Code `denied`."""
    proxy_protocol: ProxyProtocol = "off"
    """The header of the PROXY protocol, version 1 or 2, before the first message: `"required"` closes without it
    (code `bad-proxy-header`), `"optional"` takes what comes. Danger: without `proxies` anybody may claim to be anyone,
    and with `"optional"` a peer chooses whether to."""
    proxies: tuple[str, ...] = ()
    """Networks of the proxies whose header is read; all unless told. From elsewhere a header is a message like any
    other under `"optional"`; under `"required"` nobody else may connect (code `denied`)."""

    def __post_init__(self) -> None:
        _choice(self, "proxy_protocol", get_args(ProxyProtocol))
        for name in ("allow", "deny", "proxies"):
            _set(self, name, _networks(self, name))
        if self.proxies and self.proxy_protocol == "off":
            raise _refuse(self, "proxies", self.proxies, "they mean nothing with proxy_protocol='off'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stalls:
    """When a loop that does not turn is a stall, and what is kept of it. It costs a thread, and two stores a turn.

    :raises ConfigError: an option is wrong.
    """

    after: Seconds = 1.0
    """Seconds that one turn of the loop may last."""
    stack: bool = True
    """Read the Python stack of the loop's thread while it lasts, and log it."""
    keep: int = 100
    """Stalls that `Server.stalls` keeps; the oldest goes first."""

    def __post_init__(self) -> None:
        if not (_is_number(self.after) and self.after >= 0.01):
            raise _refuse(self, "after", self.after, "it must be at least 0.01 seconds; Server(stalls=None) is off")
        _bools(self, "stack")
        _numbers(self, 1, "stalls", "keep", off=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """What is kept of each connection's last messages, for who looks at it: `wireway top`, `wireway ls ID`.

    Off unless told: ``Server(capture=Capture())`` for all connections from the start, and `wireway capture` for one or
    all while it runs. It costs `room` bytes a connection at most, and a copy of `shown` bytes a message; without it,
    nothing. What peers say is then told to who may use the control socket, also what came by TLS.

    :raises ConfigError: an option is wrong.
    """

    messages: int = 20
    """Messages that are kept, both ways together; the oldest goes first."""
    shown: int = 1024
    """Bytes that are kept of each message: its first."""
    room: int = 32 * 1024
    """Bytes for all of them."""

    def __post_init__(self) -> None:
        _numbers(self, 1, "messages", "messages", off=False)
        _numbers(self, 1, "bytes", "shown", "room", off=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Handover:
    """How a server hands its connections to the next program, when SIGUSR2 asks for it.

    :raises ConfigError: an option is wrong.
    """

    encode: Callable[[Any], bytes] | None = None
    """`Connection.state` as bytes; None: by pickle. What it raises leaves the connection with the old program."""
    decode: Callable[[bytes], Any] | None = None
    """The state of such bytes, in the new program."""
    check: Callable[[], object] | None = None
    """Called in the new program before it takes anything: what it raises is the end of it, and the old goes on."""
    ready: Seconds = 30.0
    """Seconds that the new program may take until it is ready."""
    handlers: Seconds = 5.0
    """Seconds that handlers in flight may take to finish; connections whose handler takes longer stay."""

    def __post_init__(self) -> None:
        for name in ("encode", "decode", "check"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise _refuse(self, name, value, "it must be a function, or None")
        if (self.encode is None) != (self.decode is None):
            raise _refuse(self, "decode", self.decode, "encode and decode are given both, or neither")
        for name in ("ready", "handlers"):
            value = getattr(self, name)
            if not (_is_number(value) and value > 0):
                raise _refuse(self, name, value, "it must be more than 0 seconds")


def _networks(group: Access, name: str) -> tuple[str, ...]:
    value = getattr(group, name)
    if isinstance(value, str) or not isinstance(value, Collection):
        raise _refuse(group, name, value, 'it must be a sequence of networks, like ("192.0.2.0/24",)')
    found = []
    for text in value:
        try:
            found.append(str(ipaddress.ip_network(text)))
        except ValueError as error:
            raise _refuse(group, name, text, f"it must be a network like '192.0.2.0/24': {error}") from error
    return tuple(found)


# --- for the native half ------------------------------------------------------------------------------------------


def native_options(
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    buffers: Buffers | None = None,
    heartbeat: Heartbeat | None = None,
    access: Access | None = None,
) -> dict[str, Any]:
    """All groups as one flat dict for `ServerCore`; a group that is None has its defaults. Every key is always there.

    ====================================================================== ================================
    keys                                                                   type
    ====================================================================== ================================
    first_message idle idle_read idle_write write_stall close_linger       float | None, seconds
    lifetime connect
    connections per_address per_subnet queued_bytes handlers               int | None
    subnet_v4 subnet_v6                                                    int, bits
    accept_rate message_rate byte_rate                                     float | None, a second
    accept_burst message_burst byte_burst                                  float; None if its rate is None
    ban_after                                                              int | None: no ban
    ban_within ban_seconds                                                 float, seconds
    dry_run                                                                frozenset[str] out of `LIMITS`
    low high droppable                                                     int
    soft hard                                                              int | None, bytes
    soft_seconds                                                           float, seconds
    when_slow                                                              "pause" "drop-oldest" "latest" "close"
    every                                                                  float | None: no heartbeat, seconds
    ping                                                                   bytes, b"" without a heartbeat
    pong                                                                   bytes | None
    timeout                                                                float, seconds after `every`
    jitter                                                                 float, 0 to 1
    answers                                                                dict[bytes, bytes]
    allow deny proxies                                                     tuple[str, ...]: address/bits
    proxy_protocol                                                         "off" "optional" "required"
    ====================================================================== ================================
    """
    options: dict[str, Any] = {}
    for group in (timeouts or Timeouts(), limits or Limits(), buffers or Buffers(), access or Access()):
        options |= _fields(group)
    ban, dry_run = options.pop("ban"), options["dry_run"]
    options |= {
        "ban_after": None if ban is None else ban.after,
        "ban_within": 0.0 if ban is None else float(ban.within),
        "ban_seconds": 0.0 if ban is None else float(ban.seconds),
        "dry_run": dry_run if isinstance(dry_run, frozenset) else LIMITS if dry_run else frozenset(),
    }
    for kind in ("accept", "message", "byte"):
        rate, burst = options[f"{kind}_rate"], options[f"{kind}_burst"]
        options[f"{kind}_burst"] = None if rate is None else float(max(rate, 1.0) if burst is None else burst)
    if heartbeat is None:
        return options | {"every": None, "ping": b"", "pong": None, "timeout": 0.0, "jitter": 0.0, "answers": {}}
    late = heartbeat.every if heartbeat.timeout is None else heartbeat.timeout
    return options | _fields(heartbeat) | {"timeout": float(late), "answers": dict(heartbeat.answers)}


_FLOATS = ("float", "Seconds", "PerSecond", "BytesPerSecond", "BytesAtOnce")


def _fields(group: Any) -> dict[str, Any]:
    """The fields of a group, whole numbers made floats where the field is a float."""
    found = {}
    for each in fields(group):
        value = getattr(group, each.name)
        found[each.name] = float(value) if type(value) is int and str(each.type).startswith(_FLOATS) else value
    return found
