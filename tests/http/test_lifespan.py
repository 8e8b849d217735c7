"""The start and the end of an application."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import wireway
from conftest import Run
from support.talking import ANYWHERE, GET, peer, say, serving
from wireway.http import WebServer


def living(events: list[str], *, startup: str = "complete", shutdown: str = "complete") -> Any:
    """An application that notes what it is told."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["state"]["own"] = True
            await say(send, repr(sorted(scope["state"])).encode())
            return
        assert scope["asgi"]["spec_version"] == "2.0"
        scope["state"]["database"] = "open"
        for outcome in (startup, shutdown):
            event = await receive()
            events.append(event["type"])
            await send({"type": f"{event['type']}.{outcome}", "message": "no disk"})

    return app


def test_it_is_told_that_it_starts_and_ends(run: Run) -> None:
    events: list[str] = []

    async def main() -> None:
        async with serving(living(events)) as (_, host, port), peer(host, port) as client:
            assert events == ["lifespan.startup"]
            for _ in range(2):  # what a request adds to its state is its own
                await client.send(GET)
                assert (await client.answer())[2] == b"['database', 'own']"
        assert events == ["lifespan.startup", "lifespan.shutdown"]

    run(main)


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_one_that_does_not_start(run: Run, mode: Any) -> None:
    async def main() -> None:
        server = WebServer(ANYWHERE, living([], startup="failed"), lifespan=mode)
        with pytest.raises(wireway.LifespanError, match="did not start: no disk"):
            await server.start()
        assert not server.addresses

    run(main)


def test_one_that_does_not_end_in_order(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(living([], shutdown="failed")):
            pass

    with caplog.at_level(logging.ERROR, "wireway.http"):
        run(main)
    assert "did not end in order: no disk" in caplog.text


async def knows_none(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await say(send, b"served")


def test_one_that_knows_no_lifespan(run: Run) -> None:
    async def main() -> None:
        async with serving(knows_none) as (_, host, port), peer(host, port) as client:
            await client.send(GET)
            assert (await client.answer())[2] == b"served"
        with pytest.raises(wireway.LifespanError, match="NotImplementedError"):
            await WebServer(ANYWHERE, knows_none, lifespan="on").start()

    run(main)


def test_an_address_that_is_taken_ends_it_too(run: Run) -> None:
    events: list[str] = []

    async def main() -> None:
        async with serving(knows_none) as (other, _, _):
            with pytest.raises(wireway.AddressInUseError):
                await WebServer(other.addresses[0], living(events)).start()
        assert events == ["lifespan.startup", "lifespan.shutdown"]

    run(main)


def test_a_mode_that_does_not_exist() -> None:
    with pytest.raises(wireway.ConfigError, match="lifespan is 'maybe'"):
        WebServer(ANYWHERE, knows_none, lifespan="maybe")  # type: ignore[arg-type]
