"""`wireway serve chat`: the same rooms for netcat, for programs and for browsers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wireway.cli import serving
from wireway.cli.failing import for_people

__all__ = ["chat"]

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}


def _bound(text: str) -> object:
    return typer.Option(min=1, help=text, rich_help_panel="Bounds")


def chat(
    host: serving.Host = "127.0.0.1",
    port: serving.Port = 9001,
    json_port: Annotated[int, typer.Option(min=0, max=65535, help="For programs: JSON after a length.")] = 9002,
    web_port: Annotated[int, typer.Option(min=0, max=65535, help="For browsers: a page and a WebSocket.")] = 8080,
    unix: serving.Unix = None,
    json_unix: Annotated[Path | None, typer.Option(help="The same for programs, instead of their port.")] = None,
    cert: serving.Cert = None,
    key: serving.Key = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="A site whose pages may talk to this chat, as https://example.org. May be repeated; * is all."
        ),
    ] = None,
    room: Annotated[str, typer.Option(help="The room that everybody is in at first; '' for none.")] = "lobby",
    people: Annotated[int, _bound("People who are connected at once.")] = 20_000,
    crowd: Annotated[int, _bound("People in one room.")] = 10_000,
    rooms: Annotated[int, _bound("Rooms that exist at once.")] = 1000,
    history: Annotated[int, _bound("Messages of a room that who joins is told.")] = 50,
    text_length: Annotated[int, _bound("Characters of a message.")] = 1000,
    rate: Annotated[
        float, typer.Option(min=0.1, help="Messages a second that one connection may send.", rich_help_panel="Bounds")
    ] = 20.0,
    per_address: Annotated[
        int | None,
        typer.Option(min=1, help="Connections of one IP address; any number unless told.", rich_help_panel="Bounds"),
    ] = None,
    heartbeat: Annotated[
        float,
        typer.Option(min=1, help="Seconds of silence until a program or browser is asked for a sign of life."),
    ] = 30.0,
    backend: serving.Backend = "auto",
    log: serving.Log = serving.LogStyle.HUMAN,
    metrics: serving.Metrics = None,
    reload: serving.Reload = False,
) -> None:
    """Chat: rooms for netcat, for programs and for browsers, all the same."""
    serving.Running(what="chat", log=log, reload=reload).begin()
    from wireway.services.chat import Chat, ChatLimits
    from wireway.services.chat.metrics import ChatMetrics

    with for_people():
        limits = ChatLimits(
            people=people,
            crowd=crowd,
            rooms=rooms,
            history=history,
            text_length=text_length,
            rate=rate,
            per_address=per_address,
        )
        service = Chat(
            serving.address(host, port, unix, cert),
            serving.address(host, json_port, json_unix, cert),
            serving.address(host, web_port, None, cert),
            room=room or None,
            limits=limits,
            heartbeat=heartbeat,
            origins=origin or (),
            tls=serving.tls_of(cert, key),
        )

    registry = ChatMetrics(service.rooms).registry if metrics else None
    running = serving.Running(what="chat", backend=backend, log=log, metrics=metrics, registry=registry)

    near = _EVERYWHERE.get(host, host)

    def more() -> dict[str, str]:
        assert service.json is not None
        assert service.web is not None
        port = service.web.addresses[0].rpartition(":")[2]
        page = f"[{near}]:{port}" if ":" in near else f"{near}:{port}"
        return {
            "programs": f"{service.json.addresses[0]} (docs/reference/chat-protocol.md)",
            "browsers": f"{'http' if cert is None else 'https'}://{page}/",
            "limits": f"{people:,} people, {crowd:,} in a room, {rooms:,} rooms, {history:,} messages of history, "
            f"{text_length:,} characters, {rate:g} messages/s each",
        }

    if unix is not None:
        try_it = f"nc -U {unix.absolute()}"
    elif cert is not None:
        try_it = "openssl s_client -quiet -connect {host}:{port}"
    else:
        try_it = f"nc {near} {{port}}"
    running.serve(service.server, try_it, more, lambda: service.others)
