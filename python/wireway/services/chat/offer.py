"""The chat as a service of the command and of configuration files: its options, and how they become a `Chat`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import wireway
from wireway.net.address import parse
from wireway.services.chat.service import Chat
from wireway.services.contract import Listener, Service
from wireway.units import PerSecond

__all__ = ["ChatOptions", "service"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatOptions:
    """The options of the chat."""

    json_port: int | None = 9002
    """For programs: JSON after a length, on the host of the first address."""
    web_port: int | None = 8080
    """For browsers: a page and a WebSocket, on the host of the first address."""
    room: str = "lobby"
    """The room that everybody is in at first."""
    rate: PerSecond = 20.0
    """Messages a second that one connection may send on average; who sends more waits."""

    def __post_init__(self) -> None:
        for name in ("json_port", "web_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 65535:
                raise wireway.ConfigError(f"{name} is {port}, it must be a port, 0 to 65535", option=name)


def _more(listener: Listener, options: ChatOptions) -> Mapping[str, str]:
    """The addresses for programs and for browsers."""
    first = next((parse(each) for each in listener.addresses if not each.startswith("unix:")), None)
    host = "127.0.0.1" if first is None else f"[{first.host}]" if ":" in first.host else first.host
    ports = {"json": options.json_port, "web": options.web_port}
    return {name: f"tcp://{host}:{port}" for name, port in ports.items() if port is not None}


def _make(listener: Listener, options: ChatOptions) -> Sequence[wireway.Server]:
    more = _more(listener, options)
    chat = Chat(listener.addresses[0], more.get("json"), more.get("web"), room=options.room, rate=options.rate)
    return [chat.server, *chat.server.others]


service = Service(
    summary="Chat: rooms for netcat, for programs and for browsers, all the same.",
    make=_make,
    options=ChatOptions,
    port=9001,
    without=frozenset({"framing"}),
    more=_more,
    alone="rooms and who is in them live in one process",
)
