"""Clients that do not open: nobody there, too late, given up, the wrong loop, wrong options."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client.support import States, listening
from conftest import Run
from wireway import ConfigError, ConnectionClosedError, WirewayError
from wireway.config import Timeouts
from wireway.errors import ConnectError, ConnectTimeoutError
from wireway.net.client import Client, connect


def test_nobody_listens(run: Run) -> None:
    async def main() -> None:
        async with listening() as there:
            url = there.url
        states = States()
        client = Client(url, on_state=states)
        with pytest.raises(ConnectError, match="Connection refused"):
            await client
        assert states.seen == ["connecting", "closed: io-error"]
        with pytest.raises(ConnectError, match="given up: io-error"):
            await client.send(b"x")

    run(main)


def test_the_connect_timeout_is_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_arguments: Any, **_options: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
        with pytest.raises(ConnectTimeoutError):
            await connect("tcp://slow.example:1", timeouts=Timeouts(connect=0.01))

    run(main)


@pytest.mark.parametrize("how", ["cancel", "abort", "close"])
def test_opening_may_be_given_up(run: Run, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    async def main() -> None:
        resolving, go_on = asyncio.Event(), asyncio.Event()

        async def slow(host: str, port: int, **_options: Any) -> Any:
            resolving.set()
            await go_on.wait()
            return [(2, 1, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", slow)
        async with listening() as there:
            client = connect(f"tcp://slow.example:{there.port}")
            opening = asyncio.ensure_future(client._open())
            await resolving.wait()
            if how == "cancel":
                opening.cancel()
            elif how == "abort":
                client.abort()
            else:
                await client.close()
            go_on.set()
            with pytest.raises(asyncio.CancelledError if how == "cancel" else ConnectionClosedError):
                await opening
            assert client.state == "closed"

    run(main)


def test_it_needs_a_loop_of_ours() -> None:
    async def main() -> None:
        with pytest.raises(WirewayError, match=r"a Client runs on a wireway\.EventLoop, not on _UnixSelectorEventLoop"):
            await connect("tcp://127.0.0.1:1")

    asyncio.run(main())


def test_what_is_not_open_says_so(run: Run) -> None:
    async def main() -> None:
        client = connect("tcp://127.0.0.1:1")
        for waits in (client.send(b"x"), client.receive(), client.request(b"x")):
            with pytest.raises(WirewayError, match="the client is not open: await it"):
                await waits
        with pytest.raises(WirewayError, match="not open"):
            client.send_nowait(b"x")
        client.abort()
        await client.close()
        assert client.state == "closed"

    run(main)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"framing": "lines"}, "framing is 'lines'"),
        ({"timeouts": 3}, "timeouts is 3, it must be a Timeouts"),
        ({"reconnect": True}, "reconnect is True, it must be a Reconnect"),
        ({"queue": 5}, "queue is 5, it must be a OutgoingQueue"),
        ({"on_message": "f"}, "on_message is 'f', it must be a function"),
        ({"requests": 1}, "requests is 1, it must be a Correlate"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Client("tcp://127.0.0.1:1", **options)
