"""`Service`: what a service tells of itself, so that the command and configuration files can run it.

Owns the contract, which is the same for wireway's own services and for those of other packages. Knows no service, no
file and no command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wireway

__all__ = ["Listener", "NoOptions", "Service"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """Where a service is to serve, and within which limits: what the command or a file asks for."""

    addresses: tuple[str, ...]
    """As `wireway.Server` takes them; at least one."""
    name: str = ""
    """What the file calls it; the service's name unless told."""
    folder: Path = field(default_factory=Path.cwd)
    """Where the file is, or the command runs: what a service looks for by name it looks for here."""
    framing: wireway.Framing | None = None
    """How the stream is cut; None: as the service does."""
    timeouts: wireway.Timeouts = field(default_factory=wireway.Timeouts)
    heartbeat: wireway.Heartbeat | None = None
    limits: wireway.Limits = field(default_factory=wireway.Limits)
    buffers: wireway.Buffers = field(default_factory=wireway.Buffers)
    socket: wireway.SocketOptions = field(default_factory=wireway.SocketOptions)
    access: wireway.Access = field(default_factory=wireway.Access)
    tls: wireway.Tls | None = None
    stalls: wireway.Stalls | None = field(default_factory=wireway.Stalls)
    handover: wireway.Handover = field(default_factory=wireway.Handover)
    drain_timeout: float = 10.0
    """Seconds."""

    def options(self, *without: str) -> dict[str, Any]:
        """All of it as keyword arguments of `wireway.Server`, but those named."""
        names = ("framing", "timeouts", "heartbeat", "limits", "buffers", "socket", "access", "tls", "stalls")
        return {name: getattr(self, name) for name in (*names, "handover", "drain_timeout") if name not in without}

    def server(self) -> wireway.Server:
        """A server with all of it, that has no handlers yet.

        :raises ConfigError: the options do not fit each other.
        """
        return wireway.Server(self.addresses, **self.options())


@dataclass(frozen=True, kw_only=True, slots=True)
class NoOptions:
    """A service that has no options of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A service that `wireway serve NAME` and configuration files can run. See docs/how-to/add-a-service.md.

    A package offers one by an entry point of the group ``wireway.services`` that names such an object.
    """

    summary: str
    """What it does, in one line."""
    make: Callable[[Listener, Any], wireway.Server | Sequence[wireway.Server]]
    """Makes its server from a `Listener` and its `options`; behind it, if it has `more` addresses, those for them, in
    their order, which the first starts and ends with itself. Nothing is opened: servers do that when they start. What
    is wrong is a `ConfigError`."""
    options: type = NoOptions
    """A frozen dataclass of the service's own options, each with a text below it: what the command and the file take
    beside that which every listener has. Types: bool, int, float, str, `Path`, `Literal`, tuples of str, those of
    `wireway.units`, and any of them with None. It refuses what is wrong with a `ConfigError`."""
    port: int = 9000
    """The port of `wireway serve NAME` unless told."""
    without: frozenset[str] = frozenset()
    """Groups of a listener that mean nothing to it, such as ``framing``: in a file they are mistakes."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Groups of a listener whose values differ from wireway's own unless told: ``{"timeouts": Timeouts(...)}``."""
    more: Callable[[Listener, Any], Mapping[str, str]] | None = None
    """Further addresses, by a name for each: those of protocols beside the first."""
    alone: str = ""
    """Why it can not be served by several processes; empty: it can."""
    try_it: Callable[[Listener, str], str] | None = None
    """From the listener and its first address, with the real port, to a shell line that shows that it works."""
    watched: Callable[[Listener, Any], Sequence[Path]] | None = None
    """Folders and files of which a change starts it anew under ``--reload``, beside the current folder."""
