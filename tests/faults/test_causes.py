"""Each real cause of an end, made one by one with a real kernel: code, side and verdict of a server's connection.

What needs a network that fails has one of its own (support/netns.py). Deadlines are the kernel's, as short as it
allows: seconds for keepalive, milliseconds for the user timeout.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from conftest import Run
from support import netns
from support.watched import House, Watched, house, peer
from wireway import Keepalive, SocketOptions
from wireway.net.closing import CloseReason

USER_TIMEOUT = SocketOptions(keepalive=None, user_timeout=0.8)
KEEPALIVE = SocketOptions(keepalive=Keepalive(1, 1, 2), user_timeout=None)


@pytest.fixture
def cable() -> Iterator[netns.Pair]:
    """Two hosts and a cable."""
    with netns.pair() as pair:
        yield pair


def reset(sock: socket.socket) -> None:
    """SO_LINGER with 0 seconds: the close is a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def told(reason: CloseReason, code: str, side: str, words: str, least: float = 0.5) -> None:
    """The reason has that code and side, its verdict says `words` and is sure enough."""
    everything = f"{reason.explain()}\n{reason.tcp_info}"
    assert (reason.code, reason.side) == (code, side), everything
    assert words in reason.verdict.text, everything
    assert least <= reason.verdict.confidence <= 1.0, everything
    assert str(reason).startswith(f"{code} ({side}) after ")


async def acknowledged(one: Watched, size: int) -> None:
    """Wait until the peer's kernel has all that was sent."""
    while (one.info().bytes_acked or 0) < size:  # noqa: ASYNC110 (the kernel tells nobody)
        await asyncio.sleep(0.005)


# --- on one machine ---------------------------------------------------------------------------------------------------


def test_the_peer_ends_in_order(run: Run) -> None:
    async def main() -> None:
        async with house() as home:
            with peer(home.address) as sock:
                sock.sendall(b"hello")
                one = await home.arrived.get()
                await one.got.wait()
                names = sock.getsockname(), sock.getpeername()
            reason = await one.reason()
        told(reason, "peer-closed", "peer", "in order", 0.9)
        assert reason.errno == 0
        assert "RDHUP" in reason.poll_flags
        assert (reason.peer, reason.local) == names
        assert reason.tcp_info is not None
        assert reason.tcp_info.state == "CLOSE_WAIT"
        assert any("killed" in other for other in reason.verdict.alternatives)

    run(main)


def test_linger_zero(run: Run) -> None:
    async def main() -> None:
        async with house() as home:
            with peer(home.address) as sock:
                sock.sendall(b"hello")
                one = await home.arrived.get()
                await one.got.wait()
                reset(sock)
                reason = await one.reason()
        told(reason, "peer-reset", "peer", "SO_LINGER", 0.8)
        assert reason.errno == errno.ECONNRESET
        assert reason.tcp_info is not None
        assert reason.tcp_info.state == "CLOSE"

    run(main)


def test_a_reset_without_a_byte_is_a_probe(run: Run) -> None:
    async def main() -> None:
        async with house() as home:
            with peer(home.address) as sock:
                one = await home.arrived.get()
                reset(sock)
                reason = await one.reason()
        told(reason, "peer-reset", "peer", "health check or a port scan", 0.7)

    run(main)


def test_the_peer_closes_with_unread_data(run: Run) -> None:
    async def main() -> None:
        async with house() as home:
            with peer(home.address) as sock:
                one = await home.arrived.get()
                for _ in range(3):
                    one.send(b"never read")
                await acknowledged(one, 30)
                sock.close()
                reason = await one.reason()
        told(reason, "peer-reset", "peer", "closed with data pending", 0.6)
        assert "3 messages (30 bytes)" in reason.verdict.text
        assert any("SO_LINGER" in other for other in reason.verdict.alternatives)

    run(main)


STUCK = "import socket, sys, time; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


@contextmanager
def stuck(port: int) -> Iterator[Callable[[], None]]:
    """A process with a connection, which does nothing; calling what it gives kills it."""
    process = subprocess.Popen([sys.executable, "-c", STUCK, str(port)])

    def kill() -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    try:
        yield kill
    finally:
        kill()


@pytest.mark.parametrize("unread", [True, False])
def test_the_peer_is_killed(run: Run, unread: bool) -> None:
    """With data unread its kernel resets; without, it ends the stream as if the program had."""

    async def main() -> None:
        async with house() as home:
            with stuck(home.address[1]) as kill:
                one = await home.arrived.get()
                if unread:
                    one.send(b"x" * 1000)
                    await acknowledged(one, 1000)
                kill()
            reason = await one.reason()
        if unread:
            told(reason, "peer-reset", "peer", "or was killed", 0.6)
        else:
            told(reason, "peer-closed", "peer", "left without a byte", 0.6)
            assert any("killed" in other for other in reason.verdict.alternatives)

    run(main)


def test_the_peer_resets_with_data_on_the_way(run: Run) -> None:
    async def main() -> None:
        async with house() as home:
            with peer(home.address, receive_buffer=4096) as sock:
                one = await home.arrived.get()
                one.send(b"x" * 8_000_000)
                await full(one)
                sock.close()
                reason = await one.reason()
        told(reason, "peer-reset", "peer", "closed with data pending in its receive buffer, or was killed", 0.75)
        assert reason.unsent + reason.queued > 0

    run(main)


async def full(one: Watched) -> None:
    """Wait until the peer's window is shut."""
    while one.info().snd_wnd:  # noqa: ASYNC110 (the kernel tells nobody)
        await asyncio.sleep(0.01)


def test_zero_window(run: Run) -> None:
    async def main() -> None:
        async with house(options=USER_TIMEOUT) as home:
            with peer(home.address, receive_buffer=4096):
                one = await home.arrived.get()
                one.send(b"x" * 8_000_000)
                reason = await one.reason()
        # A send that fails is a peer-reset to the native half, whatever its errno is: only the side and verdict differ.
        assert reason.code == "timed-out"
        told(reason, reason.code, "network", "zero window: the peer's host answers but its program does not read", 0.9)
        assert reason.errno == errno.ETIMEDOUT
        assert reason.tcp_info is not None
        assert reason.tcp_info.snd_wnd == 0

    run(main)


def test_we_abort(run: Run) -> None:
    async def main() -> None:
        async with house() as home:
            with peer(home.address) as sock:
                one = await home.arrived.get()
                sock.sendall(b"hello")
                await one.got.wait()
                one.conn.abort("enough of it")
                reason = await one.reason()
        told(reason, "aborted", "local", "this side ended it (aborted): enough of it", 1.0)
        assert reason.verdict.alternatives == ()

    run(main)


def destroy(local: int, peer: int) -> None:
    """`ss -K` of the connection between two ports of this machine."""
    command = ("ss", "-HKt", "sport", "=", str(local), "and", "dport", "=", str(peer))
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if str(peer) not in done.stdout:
        pytest.skip(f"this kernel lacks CONFIG_INET_DIAG_DESTROY: {done.stderr}")


def test_somebody_on_this_machine_kills_it(run: Run) -> None:
    if os.geteuid():
        pytest.skip("`ss -K` needs root")
    if shutil.which("ss") is None:
        pytest.skip("`ss` is not here (apt-get install iproute2)")

    async def main() -> None:
        async with house() as home:
            with peer(home.address) as sock:
                one = await home.arrived.get()
                destroy(home.address[1], sock.getsockname()[1])
                reason = await one.reason()
        told(reason, "io-error", "kernel", "`ss -K`", 0.85)
        assert reason.errno == errno.ECONNABORTED

    run(main)


# --- connecting -------------------------------------------------------------------------------------------------------


def test_a_closed_port() -> None:
    with socket.socket() as free, socket.socket() as sock:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError) as caught:
            sock.connect(address := free.getsockname())
    reason = CloseReason.of_connect(caught.value, address)
    told(reason, "io-error", "peer", "closed port", 0.9)
    assert reason.phase == "connect"


def test_a_full_backlog() -> None:
    with socket.socket() as listener, socket.socket() as first, socket.socket() as sock:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # the kernel takes one more than it is told
        first.connect(listener.getsockname())
        sock.settimeout(1.5)  # the first SYN is sent again after a second
        began = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            sock.connect(listener.getsockname())
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        reason = CloseReason.of_connect(
            caught.value, listener.getsockname(), age=time.monotonic() - began, tcp_info=info
        )
    told(reason, "timed-out", "network", "no answer to 2 SYN", 0.6)
    assert "accept queue is full" in reason.verdict.text
    assert any("ListenOverflows" in other for other in reason.verdict.alternatives)
    assert reason.tcp_info is not None
    assert reason.tcp_info.state == "SYN_SENT"


def refused(where: netns.Namespace, address: tuple[str, int], timeout: float) -> CloseReason:
    """Try to connect from a namespace, in vain."""
    with where.inside():
        sock = socket.socket()
    with sock:
        sock.settimeout(timeout)
        began = time.monotonic()
        with pytest.raises(OSError) as caught:  # noqa: PT011 (which one is what is tested)
            sock.connect(address)
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return CloseReason.of_connect(caught.value, address, age=time.monotonic() - began, tcp_info=info)


def test_a_blackhole_at_connect(cable: netns.Pair) -> None:
    cable.cut()
    reason = refused(cable.ours, (cable.theirs.address, 9), 1.5)
    told(reason, "timed-out", "network", "a firewall drops, or the host is down", 0.6)
    assert "no answer to 2 SYN" in reason.verdict.text


def test_a_network_without_a_route(cable: netns.Pair) -> None:
    reason = refused(cable.ours, ("192.0.2.1", 9), 5.0)
    told(reason, "io-error", "network", "no route to the peer (ENETUNREACH)", 0.8)


# --- over a cable -----------------------------------------------------------------------------------------------------


async def joined(cable: netns.Pair, home: House) -> tuple[socket.socket, Watched]:
    """A peer over the cable, which has sent something."""
    with cable.theirs.inside():
        sock = socket.socket()
    sock.settimeout(10)
    await asyncio.to_thread(sock.connect, home.address)
    one = await home.arrived.get()
    sock.sendall(b"hello")
    await one.got.wait()
    return sock, one


def lose_state(cable: netns.Pair, sock: socket.socket) -> None:
    """Their host forgets the connection and nobody hears of it: its goodbye is lost."""
    cable.cut()
    reset(sock)
    cable.mend()


def test_half_open_found_by_sending(run: Run, cable: netns.Pair) -> None:
    async def main() -> None:
        async with house(cable.ours) as home:
            sock, one = await joined(cable, home)
            lose_state(cable, sock)
            await asyncio.sleep(0.4)  # the silence itself is the evidence
            one.send(b"anybody there?")
            reason = await one.reason()
        told(reason, "peer-reset", "peer", "half-open", 0.8)
        assert reason.unsent == 14

    run(main)


def test_half_open_found_by_a_keepalive_probe(run: Run, cable: netns.Pair) -> None:
    async def main() -> None:
        async with house(cable.ours, KEEPALIVE) as home:
            sock, one = await joined(cable, home)
            lose_state(cable, sock)
            reason = await one.reason()
        told(reason, "peer-reset", "peer", "answered a keepalive probe with a reset", 0.8)

    run(main)


def test_a_blackhole_while_sending(run: Run, cable: netns.Pair) -> None:
    async def main() -> None:
        async with house(cable.ours, USER_TIMEOUT) as home:
            sock, one = await joined(cable, home)
            with sock:
                cable.cut()
                one.send(b"x" * 5000)
                reason = await one.reason()
        told(reason, "timed-out", "network", "blackhole while sending: 5000 bytes were sent again", 0.85)
        assert reason.tcp_info is not None
        assert (reason.tcp_info.total_retrans or 0) > 0

    run(main)


def test_a_blackhole_while_idle_fails_keepalive(run: Run, cable: netns.Pair) -> None:
    async def main() -> None:
        async with house(cable.ours, KEEPALIVE) as home:
            sock, one = await joined(cable, home)
            with sock:
                cable.cut()
                reason = await one.reason()
        told(reason, "timed-out", "network", "blackhole while idle: 2 keepalive probes got no answer", 0.85)
        assert reason.unsent == 0

    run(main)


def test_our_own_cable_is_unplugged(run: Run, cable: netns.Pair) -> None:
    async def main() -> None:
        async with house(cable.ours, USER_TIMEOUT) as home:
            sock, one = await joined(cable, home)
            with sock:
                cable.unplug()
                one.send(b"x" * 5000)
                reason = await one.reason()
        told(reason, "timed-out", "network", "this machine could not send", 0.75)

    run(main)
