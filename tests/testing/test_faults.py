"""`FaultyLink` between plain sockets: what each fault does, that it can be lifted, and that nothing is left."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from wireway.errors import AddressError, ConfigError, WirewayError
from wireway.testing import FaultyLink, no_leaks

QUIET = 0.05
"""Seconds without a byte that count as silence."""


class Line(NamedTuple):
    """A link, and a connection through it."""

    link: FaultyLink
    client: socket.socket
    target: socket.socket


@contextmanager
def listener(kind: str) -> Iterator[tuple[socket.socket, str]]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if kind == "tcp":
            sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            url = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        else:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.bind(path := str(Path(folder) / "target"))
            sock.listen()
            url = f"unix://{path}"
        sock.settimeout(10)
        yield sock, url


def connect(link: FaultyLink, timeout: float = 10) -> socket.socket:
    if link.address.startswith("tcp"):
        return socket.create_connection(("127.0.0.1", link.port), timeout)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    try:
        sock.connect(link.address.removeprefix("unix://"))
    except BaseException:
        sock.close()
        raise
    return sock


@contextmanager
def line(kind: str, buffer: int = 64 * 1024) -> Iterator[Line]:
    with (
        no_leaks(),
        listener(kind) as (sock, url),
        FaultyLink(url, buffer=buffer) as link,
        connect(link) as client,
    ):
        target, _ = sock.accept()
        target.settimeout(10)
        with target:
            yield Line(link, client, target)


@pytest.fixture(params=["tcp", "unix"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def gets(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def silent(sock: socket.socket) -> bool:
    """Whether nothing comes for a moment, no end either."""
    sock.settimeout(QUIET)
    try:
        return sock.recv(1) is None
    except TimeoutError:
        return True
    finally:
        sock.settimeout(10)


def stuffed(sock: socket.socket) -> int:
    """Send until nothing is taken for a moment; how many bytes were."""
    sock.settimeout(QUIET)
    total = 0
    try:
        while total < 1 << 26:
            total += sock.send(b"x" * 65536)
    except TimeoutError:
        return total
    finally:
        sock.settimeout(10)
    raise AssertionError("it takes everything")


def test_it_passes_everything_on(kind: str) -> None:
    with line(kind) as (link, client, target):
        client.sendall(b"there")
        assert gets(target, 5) == b"there"
        target.sendall(b"back")
        target.shutdown(socket.SHUT_WR)
        assert gets(client, 100) == b"back"
        client.sendall(b"still")
        client.shutdown(socket.SHUT_WR)
        assert gets(target, 100) == b"still"
        counts = link.wait(lambda counts: counts.open == 0)
        assert (counts.accepted, counts.reset, counts.upstream, counts.downstream) == (1, 0, 10, 4)


def test_much_at_once_arrives_whole(kind: str) -> None:
    data = bytes(range(256)) * 8192
    with line(kind) as (link, client, target):
        link.slice(4093)
        target.settimeout(10)
        received = bytearray()
        client.setblocking(False)
        sent = 0
        while len(received) < len(data):
            try:
                sent += client.send(data[sent:]) if sent < len(data) else 0
            except BlockingIOError:
                received += target.recv(1 << 20)
                continue
            if sent == len(data):
                received += target.recv(1 << 20)
        assert received == data


def test_slices_come_one_by_one(kind: str) -> None:
    with line(kind) as (link, client, target):
        with link.slice(1, every=0.02, direction="upstream"):
            begun = time.monotonic()
            client.sendall(b"abcd")
            assert gets(target, 4) == b"abcd"
            assert time.monotonic() - begun >= 0.06
        assert link.faults == []


def test_a_delay_holds_bytes_back_in_one_direction(kind: str) -> None:
    with line(kind) as (link, client, target):
        fault = link.delay(0.3, direction="upstream")
        begun = time.monotonic()
        client.sendall(b"late")
        target.sendall(b"soon")
        assert gets(client, 4) == b"soon"
        early = time.monotonic() - begun
        assert gets(target, 4) == b"late"
        assert time.monotonic() - begun >= 0.3 > early
        fault.lift()
        fault.lift()


def test_bandwidth_is_bounded(kind: str) -> None:
    with line(kind) as (link, client, target), link.bandwidth(200_000):
        begun = time.monotonic()
        client.sendall(b"x" * 20_000)
        assert len(gets(target, 20_000)) == 20_000
        assert time.monotonic() - begun >= 0.07


def test_a_reset_reaches_both_sides() -> None:
    with line("tcp") as (link, client, target):
        client.sendall(b"x")
        assert gets(target, 1) == b"x"
        link.reset()
        for side in (client, target):
            with pytest.raises(ConnectionResetError):
                side.recv(1)
        assert (link.counts.reset, link.counts.open) == (1, 0)
        assert link.faults == []


def test_over_a_unix_socket_a_reset_is_an_end() -> None:
    with line("unix") as (link, client, target):
        link.reset()
        assert (client.recv(1), target.recv(1)) == (b"", b"")


def test_a_reset_after_so_many_bytes() -> None:
    with line("tcp") as (link, client, target):
        client.sendall(b"before")
        assert gets(target, 6) == b"before"
        link.reset(after_bytes=5, direction="upstream")
        client.sendall(b"0123456789")
        assert gets(target, 5) == b"01234"
        for side in (client, target):
            with pytest.raises(ConnectionResetError):
                side.recv(1)


def test_a_reset_of_one_side_is_passed_on() -> None:
    with line("tcp") as (link, client, target):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(b"last words")
        assert gets(target, 10) == b"last words"
        client.close()
        with pytest.raises(ConnectionResetError):
            target.recv(1)
        assert link.wait(lambda counts: counts.open == 0).reset == 1


def test_a_half_close_ends_one_direction(kind: str) -> None:
    with line(kind) as (link, client, target):
        client.sendall(b"question")
        link.wait(lambda counts: counts.upstream == 8)
        assert link.half_close() == 1
        assert gets(target, 100) == b"question"
        client.sendall(b"unheard")
        target.sendall(b"answer")
        assert gets(client, 6) == b"answer"


def test_a_blackhole_keeps_connections_and_loses_nothing(kind: str) -> None:
    with line(kind) as (link, client, target):
        with link.blackhole():
            client.sendall(b"into the dark")
            target.sendall(b"and back")
            assert silent(target)
            assert silent(client)
            with connect(link) as another:
                another.sendall(b"hello?")
                assert silent(another)
                assert link.counts.accepted == 1
        assert gets(target, 13) == b"into the dark"
        assert gets(client, 8) == b"and back"


def test_a_blackhole_does_not_tell_of_an_end(kind: str) -> None:
    with line(kind) as (link, client, target):
        fault = link.blackhole()
        client.close()
        assert silent(target)
        fault.lift()
        assert target.recv(1) == b""


def test_a_blackhole_that_drops_connects() -> None:
    with no_leaks(), listener("tcp") as (sock, url), FaultyLink(url) as link:
        with link.blackhole(accept=False):
            with pytest.raises(TimeoutError):
                connect(link, 0.3)
            assert link.counts.accepted == 0
        with connect(link) as client:
            target, _ = sock.accept()
            with target:
                client.sendall(b"x")
                assert target.recv(1) == b"x"
            # The attempt that was given up may still have been in the kernel's queue.
            assert link.counts.accepted <= 2


def test_a_closed_window_stops_the_sender_and_loses_nothing(kind: str) -> None:
    with line(kind, 16 * 1024) as (link, client, target):
        fault = link.zero_window(direction="upstream")
        taken = stuffed(client)
        assert taken < 1 << 22, "what the kernel holds is bounded"
        assert silent(target)
        target.sendall(b"the other way flows")
        assert gets(client, 19) == b"the other way flows"
        fault.lift()
        assert len(gets(target, taken)) == taken


def test_a_receiver_that_stalls_stops_the_sender_through_the_link(kind: str) -> None:
    with line(kind, 16 * 1024) as (_link, client, target):
        taken = stuffed(client)
        assert taken < 1 << 23
        assert len(gets(target, taken)) == taken


def test_dropped_connections_end_in_order(kind: str) -> None:
    with line(kind) as (link, client, target):
        client.sendall(b"x")
        assert gets(target, 1) == b"x"
        assert link.drop_connections() == 1
        assert (client.recv(1), target.recv(1)) == (b"", b"")
        assert link.drop_connections() == 0


def test_refused_connects_and_the_port_stays(kind: str) -> None:
    with line(kind) as (link, client, target):
        address = link.address
        with link.refuse():
            with pytest.raises(ConnectionRefusedError):
                connect(link)
            client.sendall(b"x")
            assert gets(target, 1) == b"x", "open connections stay"
        assert link.address == address
        connect(link).close()
        link.wait(lambda counts: counts.accepted == 2)


def test_a_target_that_is_not_there() -> None:
    with listener("tcp") as (_sock, url):
        pass
    with no_leaks(), FaultyLink(url) as link:
        with pytest.raises(ConnectionResetError), connect(link) as client:
            client.recv(1)
        assert link.wait(lambda counts: counts.reset == 1).unreachable == 1
        with listener("tcp") as (sock, found):
            link.retarget(found)
            with connect(link) as client, sock.accept()[0] as target:
                client.sendall(b"x")
                assert target.recv(1) == b"x"


def test_of_two_faults_of_a_kind_the_later_one_holds() -> None:
    with line("tcp") as (link, client, target):
        first = link.blackhole()
        second = link.blackhole(direction="downstream")
        link.slice(1)
        assert (
            repr(link.faults)
            == "[<blackhole upstream/downstream>, <blackhole downstream>, <slice upstream/downstream>]"
        )
        first.lift()
        client.sendall(b"up")
        assert gets(target, 2) == b"up"
        target.sendall(b"down")
        assert silent(client)
        second.lift()
        assert gets(client, 4) == b"down"
        link.lift()
        assert link.faults == []


def test_waiting_tells_the_counts() -> None:
    with line("tcp") as (link, _client, _target), pytest.raises(TimeoutError, match="accepted=1"):
        link.wait(lambda counts: counts.accepted == 2, timeout=0.01)


def test_after_the_end() -> None:
    with listener("tcp") as (_sock, url):
        link = FaultyLink(url)
        with connect(link) as client:
            link.wait(lambda counts: counts.open == 1)
            link.close()
            link.close()
            assert client.recv(1) == b""
        assert (link.counts.accepted, link.counts.open) == (1, 0)
        with pytest.raises(WirewayError, match="the link is closed"):
            link.reset()
        link.lift()


def test_what_can_not_be_is_refused_with_a_reason() -> None:
    with pytest.raises(AddressError, match="scheme must be tcp, tls or unix"):
        FaultyLink("http://example.org")
    with pytest.raises(AddressError, match="unknown"):
        FaultyLink("tcp://no-such-host.invalid:1")
    with pytest.raises(ConfigError, match="buffer is 0"):
        FaultyLink("tcp://127.0.0.1:1", buffer=0)
    with FaultyLink("unix:///nowhere") as link:
        with pytest.raises(AddressError, match="has no port"):
            assert link.port
        with pytest.raises(ConfigError, match="accept=False"):
            link.blackhole(accept=False)
        with pytest.raises(ConfigError, match="size is 0"):
            link.slice(0)
        with pytest.raises(ConfigError, match="seconds is -1"):
            link.delay(-1)
        with pytest.raises(ConfigError, match="direction is 'up'"):
            link.delay(1, direction="up")  # type: ignore[arg-type]
        assert link.faults == []
