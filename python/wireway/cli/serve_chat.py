"""`wireway serve chat`: the same rooms for netcat, for programs and for browsers."""

from __future__ import annotations

from typing import Annotated

import typer

from wireway.cli import serving
from wireway.cli.failing import for_people

__all__ = ["chat"]


def chat(
    host: serving.Host = "127.0.0.1",
    port: serving.Port = 9001,
    json_port: Annotated[int, typer.Option(min=0, max=65535, help="For programs: JSON after a length.")] = 9002,
    web_port: Annotated[int, typer.Option(min=0, max=65535, help="For browsers: a page and a WebSocket.")] = 8080,
    room: Annotated[str, typer.Option(help="The room that everybody is in at first.")] = "lobby",
    rate: Annotated[float, typer.Option(min=0.1, help="Messages a second that one connection may send.")] = 20.0,
    backend: serving.Backend = "auto",
    log: serving.Log = serving.LogStyle.HUMAN,
    metrics: serving.Metrics = None,
) -> None:
    """Chat: rooms for netcat, for programs and for browsers, all the same."""
    running = serving.Running(what="chat", backend=backend, log=log, metrics=metrics)
    running.begin()
    from wireway.services.chat import Chat

    with for_people():
        service = Chat(
            serving.address(host, port, None),
            serving.address(host, json_port, None),
            serving.address(host, web_port, None),
            room=room,
            rate=rate,
        )

    def more() -> dict[str, str]:
        assert service.json is not None
        assert service.web is not None
        return {
            "programs": f"{service.json.addresses[0]} (docs/reference/chat-protocol.md)",
            "browsers": service.web.addresses[0].replace("tcp://", "http://", 1) + "/",
        }

    running.serve(service.server, "nc {host} {port}", more, lambda: service.server.others)
