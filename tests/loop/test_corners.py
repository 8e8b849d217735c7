"""What other projects' test suites found: one small test for each corner."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from support.streams import stream

Run = Callable[..., Any]


@pytest.mark.parametrize("asked", [False, True], ids=["asked-late", "asked-before"])
def test_a_closed_transports_socket_knows_its_kind(run: Run, kind: str, asked: bool) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            before = s.transport.get_extra_info("socket") if asked else None
            s.transport.abort()
            await s.protocol.lost
            await asyncio.sleep(0)
            sock = s.transport.get_extra_info("socket")
            assert before is None or sock is before
            assert sock.fileno() == -1
            assert sock.family == (socket.AF_INET if kind.startswith("tcp") else socket.AF_UNIX)
            assert sock.type == socket.SOCK_STREAM

    run(main)


@pytest.mark.parametrize("half", ["reader", "writer"])
def test_a_watched_socket_that_was_closed_can_be_removed(run: Run, half: str) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        watched, other = socket.socketpair()
        with other:
            getattr(loop, f"add_{half}")(watched, lambda: None)
            watched.close()
            remove = getattr(loop, f"remove_{half}")
            assert remove(watched) is True
            with pytest.raises(ValueError, match="-1"):
                remove(watched)

    run(main)
