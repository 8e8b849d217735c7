"""Owns the fixtures of the interop tests: the loop under test, a bounded run on it, servers, certificates.

`WIREWAY_INTEROP_LOOP=asyncio` (or `uvloop`) runs the same tests on another loop: a test that fails there too is wrong.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import signal
import ssl
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from .servers import Nats, Postgres, Redis, need_package

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]
OTHER_LOOP = os.environ.get("WIREWAY_INTEROP_LOOP", "")
BACKENDS = (OTHER_LOOP,) if OTHER_LOOP else ("io_uring", "epoll", "poll", "select", "sigio")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def loop_factory(backend: str) -> LoopFactory:
    if backend == "asyncio":
        return asyncio.SelectorEventLoop
    if OTHER_LOOP:
        factory: LoopFactory = importlib.import_module(backend).new_event_loop
        return factory
    return functools.partial(importlib.import_module("wireway").new_event_loop, backend=backend)


@pytest.fixture
def uvicorn_loop(backend: str) -> tuple[list[str], dict[str, str]]:
    """The options and the environment that give uvicorn's command the loop under test."""
    if OTHER_LOOP:
        return ["--loop", backend], dict(os.environ)
    return ["--loop", "wireway:new_event_loop"], {**os.environ, "WIREWAY_BACKEND": backend}


@pytest.fixture
def run(loop_factory: LoopFactory) -> Callable[..., Any]:
    """Return `run(coroutine, limit=60)`: its result, from a new loop of the back end under test.

    The test fails when the coroutine takes longer than `limit` seconds, and when anything reached the loop's exception
    handler: an exception that nobody awaited is a defect too. A loop that no longer turns is ended by SIGALRM.
    """

    def run(main: Coroutine[Any, Any, T], limit: float = 60.0) -> T:
        unseen: list[dict[str, Any]] = []

        async def bounded() -> T:
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
            async with asyncio.timeout(limit):
                return await main

        before = signal.signal(signal.SIGALRM, _stuck)
        signal.setitimer(signal.ITIMER_REAL, limit + 10.0)
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                result = runner.run(bounded())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
        assert not unseen, f"reached the loop's exception handler: {unseen}"
        return result

    return run


def _stuck(number: int, frame: object) -> None:
    raise TimeoutError("the loop did not turn any more: its own timeout did not fire")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server(certificates: Certificates) -> Iterator[Postgres]:
    with Postgres(certificates.directory) as server:
        yield server


@pytest.fixture
def nats_server() -> Iterator[Nats]:
    with Nats() as server:
        yield server


class Certificates:
    """One authority, a server certificate for localhost, a client certificate, and a stranger's."""

    def __init__(self, directory: Path) -> None:
        trustme = need_package("trustme")
        self.directory = directory
        self._authority = trustme.CA()
        self._stranger = trustme.CA()
        self._server = self._authority.issue_cert("localhost", "127.0.0.1", "::1")
        self._client = self._authority.issue_cert("client@wireway.test", common_name="wireway")
        self._foreign = self._stranger.issue_cert("stranger@wireway.test", common_name="stranger")
        self._authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        self._server.cert_chain_pems[0].write_to_path(str(directory / "server.pem"))
        self._server.private_key_pem.write_to_path(str(directory / "server.key"))

    def server(self, *, require_client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.configure_cert(context)
        if require_client:
            self._authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client(self, certificate: str = "client") -> ssl.SSLContext:
        """Return a context that trusts our authority and shows the certificate named: client, foreign or none."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        if certificate != "none":
            {"client": self._client, "foreign": self._foreign}[certificate].configure_cert(context)
        return context

    def distrusting_client(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._stranger.configure_trust(context)
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))
