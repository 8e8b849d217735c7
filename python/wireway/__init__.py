"""Asynchronous TCP for Python on Linux.

The map::

    run, new_event_loop, EventLoop              an asyncio loop with five back ends       loop.py
    Server, Connection, ServerStats, WorkerInfo framed servers, native to the handler     net/
    connect, Client, Pool, Reconnect, Resend    clients that come back                    net/client.py
    MemoryReport, ConnectionMemory              bytes by owner                            net/memory.py
    Tls, TlsInfo, Certificate                   certificates, and what was agreed         net/tls.py
    CloseReason, ClosedLog, Verdict, TcpInfo    why a connection ended                    net/closing.py
    Timeouts, Heartbeat, Limits, Buffers …      options, in groups                        config.py
    Stall                                       a loop that did not turn, and why         observe/
    LengthPrefix, Lines, Varint, Tpkt …         how a stream is cut into messages         framing/
    WirewayError and below                      one tree of errors                        errors.py
    wireway.http                                ASGI applications, HTTP and WebSocket     http/
    wireway.testing                             what tests of your services need          testing/
    wireway._native                             the Rust half                             crates/py
"""

from wireway import framing
from wireway._native import Connection
from wireway.config import (
    Access,
    Ban,
    Buffers,
    Capture,
    Handover,
    Heartbeat,
    Keepalive,
    Limits,
    SocketOptions,
    Stalls,
    Timeouts,
)
from wireway.errors import (
    AddressError,
    AddressInUseError,
    BackendUnavailableError,
    ConfigError,
    ConnectError,
    ConnectionClosedError,
    ConnectTimeoutError,
    DescriptorLimitError,
    LifespanError,
    PoolTimeoutError,
    QueueFullError,
    Refused,
    RequestTimeoutError,
    TlsError,
    UnknownBackendError,
    WirewayError,
    WorkerDiedError,
)
from wireway.framing import (
    CustomFraming,
    Delimiter,
    FixedLength,
    FrameError,
    Framing,
    LengthPrefix,
    Lines,
    Mbap,
    Raw,
    Tpkt,
    Varint,
)
from wireway.loop import EventLoop, new_event_loop, run
from wireway.net.client import Client, connect
from wireway.net.client_options import ClientState
from wireway.net.closing import ClosedLog, CloseReason
from wireway.net.diagnosis import Verdict
from wireway.net.memory import ConnectionMemory, MemoryReport
from wireway.net.offload import ThreadConnection
from wireway.net.outgoing import OutgoingQueue
from wireway.net.pool import Pool, request_once
from wireway.net.reach import WorkerInfo
from wireway.net.reconnecting import Reconnect
from wireway.net.requests import Correlate
from wireway.net.resending import Resend
from wireway.net.sending import SendResult
from wireway.net.server import Server
from wireway.net.stats import ServerStats
from wireway.net.tcp_info import TcpInfo
from wireway.net.tls import Certificate, Tls, TlsInfo
from wireway.net.workers import PeerInfo
from wireway.observe.stalls import Stall

__all__ = [
    "Access",
    "AddressError",
    "AddressInUseError",
    "BackendUnavailableError",
    "Ban",
    "Buffers",
    "Capture",
    "Certificate",
    "Client",
    "ClientState",
    "CloseReason",
    "ClosedLog",
    "ConfigError",
    "ConnectError",
    "ConnectTimeoutError",
    "Connection",
    "ConnectionClosedError",
    "ConnectionMemory",
    "Correlate",
    "CustomFraming",
    "Delimiter",
    "DescriptorLimitError",
    "EventLoop",
    "FixedLength",
    "FrameError",
    "Framing",
    "Handover",
    "Heartbeat",
    "Keepalive",
    "LengthPrefix",
    "LifespanError",
    "Limits",
    "Lines",
    "Mbap",
    "MemoryReport",
    "OutgoingQueue",
    "PeerInfo",
    "Pool",
    "PoolTimeoutError",
    "QueueFullError",
    "Raw",
    "Reconnect",
    "Refused",
    "RequestTimeoutError",
    "Resend",
    "SendResult",
    "Server",
    "ServerStats",
    "SocketOptions",
    "Stall",
    "Stalls",
    "TcpInfo",
    "ThreadConnection",
    "Timeouts",
    "Tls",
    "TlsError",
    "TlsInfo",
    "Tpkt",
    "UnknownBackendError",
    "Varint",
    "Verdict",
    "WirewayError",
    "WorkerDiedError",
    "WorkerInfo",
    "connect",
    "framing",
    "new_event_loop",
    "request_once",
    "run",
]

__version__ = "0.1.0"
