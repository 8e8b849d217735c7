"""Asynchronous TCP for Python on Linux.

The map::

    wireway.run, new_event_loop, EventLoop    an asyncio loop with five back ends     loop.py
    wireway.Server, Connection, CloseReason   framed servers, native to the handler   net/
    wireway.Raw, LengthPrefix                 how a stream is cut into messages       framing.py
    wireway.WirewayError and below            one tree of errors                      errors.py
    wireway._native                           the Rust half                           crates/py
"""

from wireway._native import Connection
from wireway.errors import (
    AddressError,
    AddressInUseError,
    BackendUnavailableError,
    ConfigError,
    ConnectionClosedError,
    DescriptorLimitError,
    Refused,
    UnknownBackendError,
    WirewayError,
    WorkerDiedError,
)
from wireway.framing import Framing, LengthPrefix, Raw
from wireway.loop import EventLoop, new_event_loop, run
from wireway.net.closing import CloseReason
from wireway.net.sending import SendResult
from wireway.net.server import Server

__all__ = [
    "AddressError",
    "AddressInUseError",
    "BackendUnavailableError",
    "CloseReason",
    "ConfigError",
    "Connection",
    "ConnectionClosedError",
    "DescriptorLimitError",
    "EventLoop",
    "Framing",
    "LengthPrefix",
    "Raw",
    "Refused",
    "SendResult",
    "Server",
    "UnknownBackendError",
    "WirewayError",
    "WorkerDiedError",
    "new_event_loop",
    "run",
]

__version__ = "0.1.0"
