"""The one tree of errors. Imports nothing of the package.

Each error is also the standard library's error of that kind, so that code which knows nothing of
Wireway catches it: an unknown back end is a `ValueError`, a closed connection a `ConnectionError`.
"""

from __future__ import annotations

__all__ = [
    "AddressError",
    "AddressInUseError",
    "BackendUnavailableError",
    "ConfigError",
    "ConnectError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "DescriptorLimitError",
    "LifespanError",
    "PoolTimeoutError",
    "QueueFullError",
    "Refused",
    "RequestTimeoutError",
    "TlsError",
    "UnknownBackendError",
    "WirewayError",
    "WorkerDiedError",
]


class WirewayError(Exception):
    """The root of the tree."""


class ConfigError(WirewayError, ValueError):
    """An option was refused when it was given. The text names the option, the value and what is allowed."""

    def __init__(self, text: str = "", *, option: str | None = None) -> None:
        super().__init__(text)
        self.option = option
        """The option of its group, where it is one."""


class UnknownBackendError(ConfigError):
    """No back end has that name. The text lists those there are."""


class AddressError(ConfigError):
    """An address that can not be read or resolved."""


class BackendUnavailableError(WirewayError, OSError):
    """The kernel does not allow the back end that was asked for.

    `errno` and `strerror` are the kernel's; the text says what usually forbids it and what to do.
    """


class DescriptorLimitError(WirewayError, OSError):
    """A descriptor number beyond what the back end can watch (select: FD_SETSIZE, 1024)."""


class AddressInUseError(WirewayError, OSError):
    """Somebody else listens on the address."""


class ConnectionClosedError(WirewayError, ConnectionError):
    """The connection is closed; the text says why. What was not sent by then is lost."""


class Refused(WirewayError, ConnectionError):  # noqa: N818 - no error: what a handler says
    """Raise it in `on_connect` to refuse a peer: it is closed with code ``refused`` and the text as `why`."""


class WorkerDiedError(WirewayError, RuntimeError):
    """A worker process ended while it handled a message. The text says how: a signal, or an exit status."""


class ConnectError(WirewayError, ConnectionError):
    """A peer could not be reached. The text names every address that was tried, and what each said.

    `errno` is the kernel's for the address that was tried last; None where no address was tried (an unknown host).
    """

    attempts: tuple[tuple[str, OSError], ...] = ()
    """Each address that was tried, in the order of the failures, with its error."""


class TlsError(ConnectError):
    """A server was reached, and the TLS handshake with it failed. The text says why; `code` is that of the reason."""

    code: str = "tls-error"
    """As in docs/reference/close-reasons.md, such as ``tls-unknown-ca``."""


class ConnectTimeoutError(ConnectError, TimeoutError):
    """A peer could not be reached in time. The text names every address, those that have not answered among them."""


class RequestTimeoutError(WirewayError, TimeoutError):
    """A request had no answer before its deadline. Its answer, should it come later, is swallowed."""


class PoolTimeoutError(WirewayError, TimeoutError):
    """No connection of a pool became free in time: all were in use."""


class QueueFullError(WirewayError):
    """A message was refused: as many wait already as may wait. It was not sent, and will not be."""


class LifespanError(WirewayError, RuntimeError):
    """An ASGI application could not start, or not end in order."""
