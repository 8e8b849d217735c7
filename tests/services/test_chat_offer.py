"""The chat as configuration files make it: what they say reaches its servers, and its own bounds stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wireway
from wireway.services import Listener
from wireway.services.chat.offer import ChatOptions, service

HERE = ("tcp://127.0.0.1:1",)


def made(options: ChatOptions, **listener: Any) -> list[wireway.Server]:
    servers = service.make(Listener(addresses=HERE, **listener), options)
    assert not isinstance(servers, wireway.Server)
    return list(servers)


def test_its_servers_in_the_order_of_its_addresses(tmp_path: Path) -> None:
    assert service.more is not None
    for options, expected in (
        (ChatOptions(), {"json": "tcp://127.0.0.1:9002", "web": "tcp://127.0.0.1:8080"}),
        (ChatOptions(json_port=None), {"web": "tcp://127.0.0.1:8080"}),
        (ChatOptions(json_unix=Path("j"), web_port=None), {"json": f"unix://{tmp_path}/j"}),
    ):
        assert service.more(Listener(addresses=HERE, folder=tmp_path), options) == expected
        servers = made(options, folder=tmp_path)
        assert [str(server._addresses[0]) for server in servers] == [*HERE, *expected.values()]


def test_bounds_stay_unless_they_are_told() -> None:
    for server in made(ChatOptions(rate=7.0)):
        assert server._limits.message_rate == 7.0
        assert server._buffers.hard is not None
    told = {"limits": wireway.Limits(message_rate=3.0, connections=9), "buffers": wireway.Buffers(hard=1_000_000)}
    for server in made(ChatOptions(), **told):
        assert (server._limits.message_rate, server._limits.connections) == (3.0, 9)
        assert server._buffers.hard == 1_000_000


@pytest.mark.parametrize("wrong", [{"web_port": 70_000}, {"heartbeat": 0}, {"history": 0}, {"rate": -1.0}])
def test_options_that_are_wrong_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(wireway.ConfigError) as error:
        ChatOptions(**wrong)
    assert error.value.option == next(iter(wrong))
