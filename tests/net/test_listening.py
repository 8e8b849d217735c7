"""Where a server listens, and with which options of the kernel: those must be found on the sockets that it accepts."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wireway
from wireway.config import Keepalive, SocketOptions
from wireway.net import listening as module
from wireway.net.address import parse, url_of
from wireway.net.listening import Listening, listen

ANYWHERE = "tcp://127.0.0.1:0"
TCP = socket.IPPROTO_TCP


@contextlib.contextmanager
def listens(*urls: str, **options: Any) -> Iterator[Listening]:
    listening = listen([parse(url) for url in urls], SocketOptions(**options))
    try:
        yield listening
    finally:
        listening.close()


def needs_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")


def reaches(host: str, listening: Listening, number: int = 0) -> bool:
    """Whether a client of `host` is accepted by that socket."""
    sock = listening.sockets[number]
    try:
        with socket.create_connection((host, sock.getsockname()[1]), timeout=30):
            sock.settimeout(30)
            sock.accept()[0].close()
    except ConnectionRefusedError:
        return False
    return True


@contextlib.contextmanager
def accepted(**options: Any) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A listening socket and one that it accepted."""
    with listens(ANYWHERE, **options) as listening:
        (sock,) = listening.sockets
        with socket.create_connection(sock.getsockname(), timeout=30) as client:
            client.sendall(b"x")  # an option may keep the connection from us until there is a byte
            sock.settimeout(30)
            with sock.accept()[0] as taken:
                yield sock, taken


# --- options ---


@pytest.mark.parametrize(
    ("options", "level", "name", "value"),
    [
        ({}, TCP, socket.TCP_NODELAY, 1),
        ({"no_delay": False}, TCP, socket.TCP_NODELAY, 0),
        ({}, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        ({}, TCP, socket.TCP_KEEPIDLE, 60),
        ({}, TCP, socket.TCP_KEEPINTVL, 10),
        ({}, TCP, socket.TCP_KEEPCNT, 3),
        ({"keepalive": Keepalive(7, 8, 9)}, TCP, socket.TCP_KEEPIDLE, 7),
        ({"keepalive": Keepalive(7, 8, 9)}, TCP, socket.TCP_KEEPINTVL, 8),
        ({"keepalive": Keepalive(7, 8, 9)}, TCP, socket.TCP_KEEPCNT, 9),
        ({"keepalive": None}, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0),
        ({}, TCP, socket.TCP_USER_TIMEOUT, 30_000),
        ({"user_timeout": 0.0125}, TCP, socket.TCP_USER_TIMEOUT, 13),
        ({"user_timeout": None}, TCP, socket.TCP_USER_TIMEOUT, 0),
        ({"send_buffer": 30_000}, socket.SOL_SOCKET, socket.SO_SNDBUF, 60_000),
        ({"receive_buffer": 40_000}, socket.SOL_SOCKET, socket.SO_RCVBUF, 80_000),
    ],
    ids=str,
)
def test_an_accepted_socket_inherits(options: dict[str, Any], level: int, name: int, value: int) -> None:
    with accepted(**options) as (sock, taken):
        assert (sock.getsockopt(level, name), taken.getsockopt(level, name)) == (value, value)


def test_options_of_the_listening_socket_alone() -> None:
    with accepted(defer_accept=5, fast_open=16) as (sock, _):
        # The kernel counts in retransmissions: 5 seconds are 1 + 2 + 4 (tcp(7)).
        assert sock.getsockopt(TCP, socket.TCP_DEFER_ACCEPT) == 7
        assert sock.getsockopt(TCP, socket.TCP_FASTOPEN) == 16
    with accepted() as (sock, _):
        assert sock.getsockopt(TCP, socket.TCP_DEFER_ACCEPT) == 0
        assert sock.getsockopt(TCP, socket.TCP_FASTOPEN) == 0


def test_a_silent_client_is_kept_from_us_when_accepting_is_deferred() -> None:
    with listens(ANYWHERE, defer_accept=60) as listening:
        (sock,) = listening.sockets
        with socket.create_connection(sock.getsockname(), timeout=30) as client:
            with pytest.raises(BlockingIOError):
                sock.accept()
            client.sendall(b"x")
            sock.settimeout(30)
            sock.accept()[0].close()


def test_the_backlog() -> None:
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    with listens(ANYWHERE, backlog=7) as listening:
        # Of a listening socket `tcpi_sacked` is the backlog: tcp_get_info.
        info = listening.sockets[0].getsockopt(TCP, socket.TCP_INFO, 104)
        assert struct.unpack_from("=I", info, 28)[0] == min(7, most)


@pytest.mark.parametrize(("value", "warned"), [(0, True), (1, True), (2, False), (3, False)])
def test_fast_open_that_the_kernel_does_not_permit_is_told(
    value: int, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module.Path, "read_text", lambda path: f"{value}\n")
    with listens(ANYWHERE, fast_open=16):
        said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    expected = f"fast_open has no effect: net.ipv4.tcp_fastopen is {value}; "
    assert [text.startswith(expected) and f"={value | 2}`" in text for text in said] == ([True] if warned else [])


# --- families ---


@pytest.mark.parametrize(("dual", "both"), [(True, True), (False, False)])
def test_every_ipv6_address_takes_ipv4_too_unless_told(dual: bool, both: bool) -> None:
    needs_ipv6()
    with listens("tcp://[::]:0", dual_stack=dual) as listening:
        assert [url_of(sock).startswith("tcp://[::]:") for sock in listening.sockets] == [True]
        assert reaches("::1", listening)
        assert reaches("127.0.0.1", listening) == both


@pytest.mark.parametrize("url", ["tcp://*:0", "tcp://:0"])
def test_every_address_is_a_socket_for_each_family_with_one_port(url: str) -> None:
    needs_ipv6()
    with listens(url) as listening:
        families = [sock.family for sock in listening.sockets]
        assert sorted(families) == [socket.AF_INET, socket.AF_INET6]
        assert len({sock.getsockname()[1] for sock in listening.sockets}) == 1
        assert reaches("127.0.0.1", listening, families.index(socket.AF_INET))
        assert reaches("::1", listening, families.index(socket.AF_INET6))


def found(*hosts: str) -> list[Any]:
    families = [socket.AF_INET6 if ":" in host else socket.AF_INET for host in hosts]
    return [
        (family, socket.SOCK_STREAM, 6, "", (host, 0, 0, 0) if ":" in host else (host, 0))
        for family, host in zip(families, hosts, strict=True)
    ]


def test_every_address_without_ipv6_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module._bind

    def bind(family: int, *rest: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest, **more)

    monkeypatch.setattr(module, "_bind", bind)
    for order in (("0.0.0.0", "::"), ("::", "0.0.0.0")):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, order=order, **__: found(*order))
        with listens("tcp://*:0") as listening:
            assert [sock.family for sock in listening.sockets] == [socket.AF_INET]
    with pytest.raises(OSError, match="Address family not supported"), listens("tcp://[::1]:0"):
        pass


def test_a_free_port_that_is_taken_in_the_other_family_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_ipv6()
    real, taken, tries = module._bind, [], []

    def bind(family: int, kind: int, protocol: int, target: Any, *rest: Any, **more: Any) -> socket.socket:
        if family == socket.AF_INET6:
            tries.append(target[1])
            if len(tries) < 3:
                other = socket.create_server(("::1", target[1]), family=family)
                taken.append(other)
        return real(family, kind, protocol, target, *rest, **more)

    monkeypatch.setattr(module, "_bind", bind)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found("127.0.0.1", "::1"))
    try:
        with listens("tcp://both.test:0") as listening:
            assert {sock.getsockname()[1] for sock in listening.sockets} == {tries[-1]}
            assert len(tries) == 3
    finally:
        for other in taken:
            other.close()


# --- several ---


def test_several_addresses(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with listens(ANYWHERE, f"unix://{path}", ANYWHERE) as listening:
        urls = [url_of(sock) for sock in listening.sockets]
        assert urls[1] == f"unix://{path}"
        assert len(set(urls)) == 3
        assert not any(sock.getblocking() for sock in listening.sockets)
    assert listening.sockets == []
    assert not path.exists()


def test_all_or_none(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(wireway.AddressInUseError), listens(f"unix://{path}", ANYWHERE, f"tcp://127.0.0.1:{port}"):
            pass
    assert not path.exists()
