"""The shape of a configuration file: its tables, and their options with defaults.

Owns which options a file has, and what is said of them; `config.py` has those of the groups. Knows no service: which
options of its own one has is told by it (`services/contract.py`).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from wireway.config import Access, Buffers, Heartbeat, Limits, SocketOptions, Stalls, Timeouts
from wireway.configuration.kinds import Kind, Special
from wireway.configuration.mistakes import said
from wireway.errors import ConfigError
from wireway.framing import Delimiter, FixedLength, Framing, LengthPrefix, Lines, Mbap, Raw, Tpkt, Varint
from wireway.framing.names import FRAMING_NAMES, framing_name, framing_of
from wireway.net.address import parse
from wireway.units import Seconds

__all__ = [
    "ADDRESSES",
    "FRAMING",
    "FRAMINGS",
    "OPTIONS",
    "SERVICE",
    "Certificate",
    "Configuration",
    "ControlTable",
    "HandoverTable",
    "ListenerTable",
    "LogTable",
    "MetricsTable",
    "TlsTable",
]

FRAMINGS: dict[str, type] = {
    "raw": Raw,
    "lines": Lines,
    "length": LengthPrefix,
    "varint": Varint,
    "fixed": FixedLength,
    "tpkt": Tpkt,
    "mbap": Mbap,
    "delimiter": Delimiter,
}
"""By the `kind` of a framing's table."""


# --- kinds of their own -------------------------------------------------------------------------------------------


def _read_address(value: Any, folder: Path) -> str:
    if not isinstance(value, str):
        raise ConfigError(f'is {said(value)}, it must be an address: "tcp://127.0.0.1:9000"')
    if value.startswith("unix://") and not value.startswith("unix:///") and len(value) > len("unix://"):
        value = f"unix://{folder / value.removeprefix('unix://')}"
    try:
        return str(parse(value))
    except ConfigError as error:
        scheme = difflib.get_close_matches(value.partition("://")[0], ("tcp", "tls", "unix"), 1)
        near = f"; did you mean {scheme[0]}://?" if scheme and not value.startswith(f"{scheme[0]}://") else ""
        raise ConfigError(f"{error}{near}") from None


def _read_addresses(value: Any, folder: Path) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    if not given:
        raise ConfigError("is empty, it must have at least one address")
    return tuple(_read_address(each, folder) for each in given)


def _read_framing(value: Any, folder: Path) -> Framing:
    if not isinstance(value, str):
        raise ConfigError(f"is {said(value)}, it must be one of {FRAMING_NAMES}, or a table with a kind")
    return framing_of(value)


def _show_framing(value: Any) -> Any:
    name = framing_name(value)
    try:
        if framing_of(name) == value:
            return name
    except ConfigError:
        pass
    return value


def _read_workers(value: Any, folder: Path) -> int | str:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        found: int | str = value
        return found
    raise ConfigError(f'is {said(value)}, it must be a number of processes from 1 up, or "auto" for one on each core')


def _read_text(value: Any, folder: Path) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ConfigError(f"is {said(value)}, it must be a text, in quotes")
    return value


def _same(value: Any) -> Any:
    return value


_TEXT = {"type": "string"}
_URL = {"type": "string", "pattern": "^(tcp|tls|unix)://", "examples": ["tcp://127.0.0.1:9000"]}
ADDRESS = Kind("address", _read_address, _same, _URL)
ADDRESSES = Kind(
    "address, or list of them",
    _read_addresses,
    lambda value: value[0] if len(value) == 1 else list(value),
    {"anyOf": [_URL, {"type": "array", "items": _URL, "minItems": 1}]},
)
_NAMED = {
    "type": "string",
    "pattern": f"^({'|'.join(FRAMINGS)})(:.+)?$",
    "examples": ["raw", "lines", "length:4", "length:2:le", "varint", "fixed:64", "tpkt", "mbap", "delimiter:0d0a"],
}
FRAMING = Kind("framing", _read_framing, _show_framing, _NAMED)
SERVICE = Kind("service", _read_text, _same, _TEXT)
OPTIONS = Kind("options of the service", lambda value, folder: value, _same, {"type": "object"})
WORKERS = Kind(
    'number, or "auto"', _read_workers, _same, {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}
)


def _more_than_0(table: object, *names: str) -> None:
    for name in names:
        if not getattr(table, name) > 0:
            raise ConfigError(f"{name} is {getattr(table, name)!r}, it must be more than 0 seconds", option=name)


# --- tables -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class LogTable:
    """How it logs, on stderr."""

    style: Literal["human", "json"] = "human"
    """``human``: lines for people. ``json``: one object a line, the start among them."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is less urgent is not logged. ``debug`` has a line for each connection that ends: it costs under load."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsTable:
    """Metrics and health over HTTP."""

    address: Annotated[str, Special(ADDRESS)] | None = None
    """Where ``/metrics``, ``/livez`` and ``/readyz`` are: ``tcp://127.0.0.1:9100``. Who reaches it can read them:
    another address than loopback is logged as a warning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlTable:
    """The control socket, which `wireway top`, `ls`, `kick` and `closed` ask."""

    enabled: bool = True
    """Have one. Only this user and root may use it."""
    path: Path | None = None
    """Where it is; `$XDG_RUNTIME_DIR/wireway/PID.sock`, or that beneath `/tmp/wireway-UID`, unless told. The second
    worker's has ``.2`` at its end, and so on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """One more certificate, for another name (SNI)."""

    cert: Path
    """A PEM file: the certificate, behind it those of its issuers."""
    key: Path | None = None
    """The PEM file of its key; that of `cert` unless told."""
    key_password: str | None = field(default=None, metadata={"secret": True})
    """What the key was encrypted with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsTable:
    """TLS, for addresses that begin with ``tls://``. Versions 1.2 and 1.3."""

    cert: Path
    """A PEM file: the certificate, behind it those of its issuers."""
    key: Path | None = None
    """The PEM file of its key; that of `cert` unless told."""
    key_password: str | None = field(default=None, metadata={"secret": True})
    """What the key was encrypted with. Better in a file of its own: `key_password_file`."""
    key_password_file: Path | None = None
    """The file of that password; a line end at its end is no part of it."""
    certificates: tuple[Certificate, ...] = ()
    """More of them: a client gets the one for the name that it asks for (SNI), and the first of all if none is."""
    client_ca: Path | None = None
    """A PEM file: who may have issued certificates of clients."""
    client_auth: Literal["none", "optional", "required"] = "none"
    """Whether clients are asked for a certificate. One that is shown is always checked."""
    alpn: tuple[str, ...] = ()
    """Application protocols, the most wanted first (RFC 7301). A client that offers only others is refused."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version. 1.3 shuts out clients from before about 2019."""
    reload: Literal["watch", "signal", "off"] = "watch"
    """``watch``: files that change are read again, at most a second later. Else SIGHUP does so, with new workers."""
    handshake_timeout: Seconds = 10.0
    """From accepting to the end of the handshake; code ``tls-handshake-timeout``."""

    def __post_init__(self) -> None:
        _more_than_0(self, "handshake_timeout")
        if self.key_password is not None and self.key_password_file is not None:
            text = "key_password is given twice: leave it out, and keep it in the file of key_password_file"
            raise ConfigError(text, option="key_password")


@dataclass(frozen=True, kw_only=True, slots=True)
class HandoverTable:
    """How SIGHUP hands live connections to the next worker."""

    ready: Seconds = 30.0
    """How long the new worker may take until it is ready."""
    handlers: Seconds = 5.0
    """How long handlers in flight may take to finish; connections whose handler takes longer stay and are drained."""

    def __post_init__(self) -> None:
        _more_than_0(self, "ready", "handlers")


@dataclass(frozen=True, kw_only=True, slots=True)
class ListenerTable:
    """One listener: where, which service, within which limits."""

    address: Annotated[tuple[str, ...], Special(ADDRESSES)]
    """``tcp://host:port``, ``tls://host:port``, ``unix:///path`` (``unix://name`` is beside the file); or a list of
    them. The host ``*`` is every address of this machine, IPv4 and IPv6; port 0 is any free one."""
    service: Annotated[str, Special(SERVICE)]
    """Which service: ``echo``, ``chat``, ``web``, or one of an installed package: `wireway serve --help`."""
    name: Annotated[str, Special(SERVICE)] = ""
    """What logs and `wireway top` call it; that of the service unless told. Each has another."""
    options: Annotated[Any, Special(OPTIONS)] = None
    """The service's own options."""
    framing: Annotated[Framing, Special(FRAMING)] = field(default_factory=Raw)
    """How the stream is cut into messages: ``raw`` (not at all), ``lines``, ``length:4`` (bytes of the length,
    big-endian; ``length:4:le``: little-endian), ``varint``, ``fixed:64``, ``tpkt``, ``mbap``, ``delimiter:0d0a`` (hex).
    Or a table: its `kind`, and the options of that framing."""
    workers: Annotated[int | str, Special(WORKERS)] = 1
    """Processes that serve it; ``auto``: one for each core. Worker k serves the listeners that have k workers or
    more. Each has connections and handlers of its own."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    """Deadlines of a connection."""
    heartbeat: Heartbeat | None = None
    """Pings for peers that are silent."""
    limits: Limits = field(default_factory=Limits)
    """How much it takes on, in each worker."""
    buffers: Buffers = field(default_factory=Buffers)
    """What may wait to be sent on one connection, and what happens when a peer reads too slowly."""
    socket: SocketOptions = field(default_factory=SocketOptions)
    """Options of the kernel."""
    access: Access = field(default_factory=Access)
    """Who may connect, and whose word about the peer's address is taken."""
    tls: TlsTable | None = None
    """Certificates, for addresses that begin with ``tls://``."""
    stalls: Stalls | None = field(default_factory=Stalls)
    """When a loop that does not turn is a stall, and what is kept of it."""
    handover: HandoverTable = field(default_factory=HandoverTable)
    """How SIGHUP hands live connections to the next worker."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """What `wireway serve --config` runs: a process, and any number of listeners."""

    backend: Literal["auto", "io_uring", "epoll", "poll", "select", "sigio"] = "auto"
    """Which back end the loops have; ``auto``: the better of io_uring and epoll that this kernel permits."""
    drain_timeout: Seconds = 10.0
    """What connections get to finish when it ends, or when a worker is replaced. A deployment waits as long at most."""
    log: LogTable = field(default_factory=LogTable)
    """How it logs."""
    metrics: MetricsTable = field(default_factory=MetricsTable)
    """Metrics and health over HTTP."""
    control: ControlTable = field(default_factory=ControlTable)
    """The control socket."""
    listeners: tuple[ListenerTable, ...] = ()
    """Where it serves what: one table for each, ``[[listeners]]``."""

    def __post_init__(self) -> None:
        if self.drain_timeout < 0:
            text = f"drain_timeout is {self.drain_timeout:g}, it must be at least 0 seconds"
            raise ConfigError(text, option="drain_timeout")
