"""Owns a server's TLS while it runs: which of its sockets are secured, and files that are read again.

Watching is looking at the files once a second: it works over NFS, through the symbolic links that Kubernetes swaps, and
for files that are moved into place, which inotify(7) each sees in another way or not at all.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Sequence

from wireway._native import ServerCore
from wireway.errors import ConfigError, WirewayError
from wireway.events import CertificatesRead, CertificatesRefused, Event, logged
from wireway.net.address import Address
from wireway.net.tls import Tls

__all__ = ["Securing"]

logger = logging.getLogger("wireway.tls")

_EVERY = 1.0
"""Seconds between two looks."""

_Seen = tuple[tuple[int, int, int] | None, ...]


class Securing:
    """The TLS of one server. Belongs to the loop's thread."""

    def __init__(self, tls: Tls | None, addresses: Sequence[Address]) -> None:
        """Check that options and addresses fit.

        :raises ConfigError: they do not.
        """
        secured = [address for address in addresses if address.scheme == "tls"]
        if tls is not None and not isinstance(tls, Tls):
            raise ConfigError(f"tls is {tls!r}, it must be a wireway.Tls, or None")
        if secured and tls is None:
            raise ConfigError(f"{secured[0]} needs tls=wireway.Tls(cert=..., key=...)")
        if tls is not None:
            if not secured:
                raise ConfigError("tls is given, and no address begins with tls://")
            tls.check_server()
        self._tls = tls
        self._core: ServerCore | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._signalled: asyncio.AbstractEventLoop | None = None
        self._place = str(secured[0]) if secured else ""
        self.hear: Callable[[Event], None] | None = None
        """Who is told."""
        self._seen: _Seen = ()
        self._tried: _Seen = ()

    @property
    def options(self) -> Tls | None:
        """As they were given."""
        return self._tls

    def check(self) -> None:
        """:raises ConfigError: the files can not be used."""
        if self._tls is not None:
            self._tls.make_server()

    def begin(self, core: ServerCore, loop: asyncio.AbstractEventLoop) -> None:
        """Give a server that starts its certificates.

        :raises ConfigError: the files can not be used.
        """
        if self._tls is None:
            return
        self._core = core
        self._seen = self._tried = self._look()
        self._load()
        if self._tls.reload == "watch" and self._tls.files():
            self._timer = loop.call_later(_EVERY, self._watch, loop)
        if self._tls.reload == "signal" and threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(signal.SIGHUP, self.reload_or_report)
            self._signalled = loop

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._signalled is not None:
            self._signalled.remove_signal_handler(signal.SIGHUP)
        self._core = self._timer = self._signalled = None

    def reload(self) -> None:
        """Read the files again. Handshakes from now on use them; if they can not be used all stays as it was.

        :raises ConfigError: they can not be used.
        :raises WirewayError: the server does not run, or has no TLS.
        """
        if self._tls is None or self._core is None:
            raise WirewayError("there is nothing to reload: the server does not run, or has no TLS")
        self._seen = self._look()
        self._load()
        self._tell(CertificatesRead(server=self._place), logging.INFO, "TLS: read %s again", self._names())

    def reload_or_report(self) -> None:
        """The same for who can not be told: what is wrong is logged, once."""
        try:
            self.reload()
        except ConfigError as error:
            event = CertificatesRefused(server=self._place, why=str(error))
            self._tell(event, logging.ERROR, "%s; the certificates from before stay in use", error)

    def _tell(self, event: Event, level: int, text: str, *words: object) -> None:
        logger.log(level, text, *words, extra=logged(event))
        if self.hear is not None:
            self.hear(event)

    def _load(self) -> None:
        assert self._tls is not None
        assert self._core is not None
        self._core._secure(self._tls.make_server(), None, float(self._tls.handshake_timeout))

    def _names(self) -> str:
        assert self._tls is not None
        return ", ".join(map(str, self._tls.files())) or "the certificates"

    def _look(self) -> _Seen:
        assert self._tls is not None
        found: list[tuple[int, int, int] | None] = []
        for path in self._tls.files():
            try:
                status = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_EVERY, self._watch, loop)
        found = self._look()
        if found != self._tried:
            self._tried = found  # somebody may still write: wait until two looks see the same
        elif found != self._seen:
            self.reload_or_report()
