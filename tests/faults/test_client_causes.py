"""Why a client's connection ended: the same evidence as a server's, read from the other side."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest

from conftest import Run
from wireway import ConnectionClosedError, connect


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize(("end", "code"), [(socket.socket.close, "peer-closed"), (_reset, "peer-reset")])
def test_a_server_that_says_nothing_is_no_port_scan(run: Run, end: Callable[[socket.socket], None], code: str) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = connect(f"tcp://127.0.0.1:{listening.getsockname()[1]}")
            async with client:
                end(listening.accept()[0])
                with pytest.raises(ConnectionClosedError):
                    await client.receive()
        assert client.closed_reason is not None
        reason = client.closed_reason
        assert (reason.code, reason.side) == (code, "peer"), reason.explain()
        assert "the server accepted and" in reason.verdict.text, reason.explain()

    run(main)
