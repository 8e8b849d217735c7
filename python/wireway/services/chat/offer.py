"""The chat as a service of the command and of configuration files: its options, and how they become a `Chat`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import wireway
from wireway.net.address import parse
from wireway.services.chat.limits import ChatLimits
from wireway.services.chat.service import GROUPS, Chat
from wireway.services.contract import Listener, Service
from wireway.units import Seconds

__all__ = ["ChatOptions", "service"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatOptions(ChatLimits):
    """The options of the chat: where it is reached, beside lines of text at its address, and the bounds."""

    json_port: int | None = 9002
    """For programs: JSON after a length, on the host of the first address."""
    json_unix: Path | None = None
    """The same on this socket file, instead of a port."""
    web_port: int | None = 8080
    """For browsers: a page and a WebSocket, on the host of the first address."""
    room: str = "lobby"
    """The room that everybody is in at first; with nothing in it: they are in none."""
    heartbeat: Seconds | None = 30.0
    """Silence after which programs and browsers are asked for a sign of life; after as much more without one they are
    gone."""
    origins: tuple[str, ...] = ()
    """Sites whose pages may talk to this chat, as ``https://example.org``, beside its own; ``*``: all."""

    def __post_init__(self) -> None:
        ChatLimits.__post_init__(self)
        for name in ("json_port", "web_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 65535:
                raise wireway.ConfigError(f"{name} is {port}, it must be a port, 0 to 65535", option=name)
        if self.heartbeat is not None and not self.heartbeat > 0:
            raise wireway.ConfigError(
                f"heartbeat is {self.heartbeat}, it must be more than 0 seconds", option="heartbeat"
            )


def _more(listener: Listener, options: ChatOptions) -> Mapping[str, str]:
    """The addresses for programs and for browsers."""
    first = next((parse(each) for each in listener.addresses if not each.startswith("unix:")), None)
    scheme = "tcp" if listener.tls is None else "tls"
    host = "127.0.0.1" if first is None else f"[{first.host}]" if ":" in first.host else first.host
    ports = {"json": options.json_port, "web": options.web_port}
    found = {name: f"{scheme}://{host}:{port}" for name, port in ports.items() if port is not None}
    if options.json_unix is not None:
        found["json"] = f"unix://{(listener.folder / options.json_unix).absolute()}"
    return found


def _make(listener: Listener, options: ChatOptions) -> Sequence[wireway.Server]:
    more = _more(listener, options)
    chat = Chat(
        listener.addresses,
        more.get("json"),
        more.get("web"),
        room=options.room or None,
        limits=ChatLimits(**{each.name: getattr(options, each.name) for each in fields(ChatLimits)}),
        heartbeat=options.heartbeat,
        origins=options.origins,
        tls=listener.tls,
        groups=listener.options("tls", *service.without),
    )
    return [chat.server, *chat.others]


service = Service(
    summary="Chat: rooms for netcat, for programs and for browsers, all the same.",
    make=_make,
    options=ChatOptions,
    port=9001,
    without=frozenset({"framing", "heartbeat", "stalls", "handover"}),
    more=_more,
    defaults=GROUPS,
    alone="rooms and who is in them live in one process",
)
