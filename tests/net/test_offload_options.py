"""Options of blocking handlers that are refused: where they are given, or at the start of the server."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

import wireway
from conftest import Run
from support.naming import stable
from wireway import Connection, Server

ANYWHERE = "tcp://127.0.0.1:0"


async def in_the_loop(_conn: Connection, _message: bytes) -> None:
    """Is not for threads."""


class AsyncCall:
    async def __call__(self, _conn: Connection, _message: bytes) -> None:
        """Neither is this."""


@pytest.mark.parametrize(
    ("options", "handler", "text"),
    [
        ({"threads": 0}, print, "threads is 0, it must be at least 1"),
        ({"threads": True}, print, "threads is True, it must be at least 1"),
        ({"processes": 1.5}, print, "processes is 1.5, it must be at least 1"),
        ({"threads": 1, "queue": 0}, print, "queue is 0, it must be at least 1"),
        ({"threads": 1, "processes": 1}, print, "threads and processes exclude each other"),
        ({"threads": 1}, in_the_loop, "in_the_loop is an async def: it runs in the loop"),
        ({"threads": 1}, partial(in_the_loop), "is an async def: it runs in the loop"),
        ({"threads": 1}, AsyncCall(), "AsyncCall is an async def: it runs in the loop"),
        ({"threads": 1}, "handler", "a handler is a function, not str"),
    ],
    ids=stable,
)
def test_what_is_wrong(options: dict[str, Any], handler: Any, text: str) -> None:
    with pytest.raises(wireway.ConfigError, match=text):
        Server(ANYWHERE).on_message(**options)(handler)


@pytest.mark.parametrize("options", [{"threads": 0}, {"processes": "4"}, {"threads": 1, "processes": 1}], ids=stable)
def test_an_option_of_the_server_that_is_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(wireway.ConfigError, match=r"^(threads|processes) "):
        Server(ANYWHERE, **options)


def test_a_handler_that_no_process_can_call(run: Run) -> None:
    async def main() -> None:
        server = Server(ANYWHERE)
        server.on_message(processes=1)(lambda peer, message: message)
        with pytest.raises(
            wireway.ConfigError, match=r"another process can not call .*; make it a function of a module"
        ):
            await server.start()
        assert server.addresses == []

    run(main)


@pytest.mark.parametrize("options", [{"threads": 2}, {"processes": 2}], ids=stable)
def test_what_blocks_is_on_message_alone(run: Run, options: dict[str, Any]) -> None:
    async def main() -> None:
        server = Server(ANYWHERE, **options)
        server.on_batch(lambda _conn, _messages: None)
        with pytest.raises(wireway.ConfigError, match="threads= and processes= are for on_message, which the server"):
            await server.start()

    run(main)
