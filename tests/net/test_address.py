"""Where a server listens: URLs and options that are refused with a clear text, TCP of both families, Unix paths."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.peers import Peer, connected
from wireway import Connection, Server
from wireway.config import Limits
from wireway.net.address import Address, parse

EXAMPLE = "write tcp://127.0.0.1:9000, tls://127.0.0.1:9000 or unix:///run/app.sock"


def echo(address: str = "tcp://127.0.0.1:0") -> Server:
    """A server that sends back what comes."""
    server = Server(address)
    server.on_message(lambda conn, message: conn.send_nowait(message))
    return server


async def answers(server: Server) -> None:
    """Check that it serves."""
    async with connected(server) as peer:
        await peer.send(b"hello")
        assert await peer.receive(5) == b"hello"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("tcp://127.0.0.1:0", Address("tcp", "127.0.0.1", 0)),
        ("tcp://localhost:65535", Address("tcp", "localhost", 65535)),
        ("tcp://[::1]:80", Address("tcp", "::1", 80)),
        ("TCP://[::]:80", Address("tcp", "::", 80)),
        ("tcp://*:80", Address("tcp", "*", 80)),
        ("tcp://:80", Address("tcp", "*", 80)),
        ("unix:///run/app.sock", Address("unix", path="/run/app.sock")),
        ("unix:///with space/ü?#%41", Address("unix", path="/with space/ü?#%41")),
    ],
)
def test_what_is_read(url: str, address: Address) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80",
        "http://127.0.0.1:80",
        "tcp:127.0.0.1:80",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://[]:80",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:-1",
        "tcp://127.0.0.1:http",
        "tcp://127.0.0.1:80/",
        "tcp://127.0.0.1:80/path",
        "tcp://127.0.0.1:80?a=b",
        "tcp://127.0.0.1:80#a",
        "tcp://user:secret@127.0.0.1:80",
        "tcp://[::1:80",
        "tcp://127.0.0.1\n:80",
        "unix://run/app.sock",
        "unix:run/app.sock",
        "unix://",
        "unix:///with\0nul",
        "unix:///" + "x" * 107,
        "unix:///" + "ü" * 54,
    ],
)
def test_what_is_refused_is_named_with_an_example(url: str) -> None:
    with pytest.raises(wireway.AddressError) as caught:
        Server(url)
    assert str(caught.value).startswith(repr(url) + ": ")
    assert str(caught.value).endswith("; " + EXAMPLE)


@pytest.mark.parametrize("url", [None, 80, b"tcp://127.0.0.1:80", {"127.0.0.1"}, Path("/run/app.sock")])
def test_what_is_no_text_is_refused(url: Any) -> None:
    with pytest.raises(wireway.AddressError, match=f"^an address is a URL, not {type(url).__name__}: {EXAMPLE}$"):
        Server(url)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"framing": "raw"}, "framing is 'raw', it must be one of wireway's framings, made: Raw, Lines, "),
        ({"framing": wireway.Raw}, "framing is <class 'wireway.framing."),
        ({"timeouts": 10}, "timeouts is 10, it must be a wireway.Timeouts, or None"),
        ({"heartbeat": 10}, "heartbeat is 10, it must be a wireway.Heartbeat, or None"),
        ({"limits": Limits}, "it must be a wireway.Limits, or None"),
        ({"buffers": 65536}, "buffers is 65536, it must be a wireway.Buffers, or None"),
        ({"socket": {"backlog": 9}}, "socket is {'backlog': 9}, it must be a wireway.SocketOptions, or None"),
        ({"access": ["10.0.0.0/8"]}, "it must be a wireway.Access, or None"),
        ({"drain_timeout": True}, "drain_timeout is True, it must be at least 0 seconds"),
        ({"drain_timeout": -0.1}, "drain_timeout is -0.1, it must be at least 0 seconds"),
        ({"drain_timeout": None}, "drain_timeout is None, it must be at least 0 seconds"),
        ({"drain_timeout": float("nan")}, "drain_timeout is nan, it must be at least 0 seconds"),
    ],
    ids=str,
)
def test_an_option_that_is_wrong(options: dict[str, Any], text: str) -> None:
    with pytest.raises(wireway.ConfigError, match=re.escape(text)):
        Server("tcp://127.0.0.1:0", **options)


def test_handlers_that_are_wrong(run: Run) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0")
        with pytest.raises(
            wireway.ConfigError, match=r"the server has no handler: decorate one with @server\.on_message"
        ):
            await server.start()
        with pytest.raises(wireway.ConfigError, match="a handler is a function, not str"):
            server.on_message("handler")  # type: ignore[type-var]
        server.on_message(nothing)
        for register in (server.on_message, server.on_batch):
            with pytest.raises(wireway.ConfigError, match="on_message and on_batch exclude each other"):
                register(nothing)
        async with server:
            with pytest.raises(wireway.ConfigError, match="handlers are registered before the server starts"):
                server.on_close(nothing)

    run(main)


def nothing(_conn: Connection, _more: object) -> None:
    """Do nothing."""


def test_asyncios_own_loop_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(wireway.WirewayError, match=r"not on _UnixSelectorEventLoop: use wireway\.run\(\.\.\.\)"):
            await echo().start()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


# --- TCP ---


def test_port_0_is_any_free_one(run: Run) -> None:
    async def main() -> None:
        async with echo() as one, echo() as two:
            assert re.fullmatch(r"tcp://127\.0\.0\.1:[1-9]\d+", one.addresses[0])
            assert one.addresses != two.addresses
            await answers(one)
            await answers(two)

    run(main)


def test_ipv6(run: Run) -> None:
    async def main() -> None:
        async with echo("tcp://[::1]:0") as server:
            (url,) = server.addresses
            with socket.socket(socket.AF_INET6) as sock:
                peer = Peer(sock)
                await asyncio.get_running_loop().sock_connect(sock, ("::1", parse(url).port))
                await peer.send(b"hello")
                assert await peer.receive(5) == b"hello"
                (conn,) = server.connections
                assert (conn.peer, conn.local) == (sock.getsockname(), sock.getpeername())

    run(main)


def test_a_name_with_several_addresses_has_one_port(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
    ]

    async def main() -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: both)
        async with echo("tcp://both.test:0") as server:
            four, six = server.addresses
            assert four.startswith("tcp://127.0.0.1:")
            assert six.startswith("tcp://[::1]:")
            assert parse(four).port == parse(six).port
            await answers(server)

    run(main)


def test_a_taken_port(run: Run) -> None:
    async def main() -> None:
        async with echo() as first:
            port = parse(first.addresses[0]).port
            second = echo(first.addresses[0])
            with pytest.raises(wireway.AddressInUseError, match=f"port {port} on 127.0.0.1 is taken") as caught:
                await second.start()
            assert caught.value.errno is not None
            assert second.addresses == []
            await first.close()
            async with second:  # the port is free now, and the server as good as new
                await answers(second)

    run(main)


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("no-such-host.invalid", "host 'no-such-host.invalid' is unknown"),
        ("x" * 64 + ".invalid", "is unknown"),
        ("192.0.2.1", "192.0.2.1 is not an address of this machine"),
    ],
)
def test_a_host_that_is_not_here(run: Run, host: str, text: str) -> None:
    async def main() -> None:
        with pytest.raises(wireway.AddressError, match=re.escape(text)):
            await echo(f"tcp://{host}:0").start()

    run(main)


# --- Unix ---


def test_a_unix_path(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "app ü.sock"
        async with echo(f"unix://{path}") as server:
            assert server.addresses == [f"unix://{path}"]
            assert path.is_socket()
            await answers(server)
        assert not path.exists()

    run(main)


def test_a_stale_socket_is_replaced(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "app.sock"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
        async with echo(f"unix://{path}") as server:
            await answers(server)

    run(main)


@pytest.mark.parametrize("full", [False, True])
def test_a_socket_that_somebody_listens_on_is_not_replaced(run: Run, tmp_path: Path, full: bool) -> None:
    async def main() -> None:
        path = tmp_path / "app.sock"
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as client:
            first.bind(str(path))
            first.listen(0)
            if full:
                client.connect(str(path))
            with pytest.raises(wireway.AddressInUseError, match="another program listens there"):
                await echo(f"unix://{path}").start()
            assert path.is_socket()

    run(main)


def test_a_file_is_not_removed(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "app.sock"
        path.write_text("precious")
        with pytest.raises(wireway.AddressInUseError, match="it is not a socket"):
            await echo(f"unix://{path}").start()
        assert path.read_text() == "precious"

    run(main)


def test_what_took_the_place_of_its_socket_is_not_removed(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "app.sock"
        async with echo(f"unix://{path}"):
            path.unlink()
            path.write_text("precious")
        assert path.read_text() == "precious"

    run(main)


def test_a_path_as_long_as_the_kernel_takes(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = f"{tmp_path}/".ljust(107, "x")
        async with echo(f"unix://{path}") as server:
            await answers(server)

    run(main)


def test_a_path_in_no_directory(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "no" / "app.sock"
        with pytest.raises(FileNotFoundError, match=re.escape(f"{path}: No such file or directory")):
            await echo(f"unix://{path}").start()

    run(main)
