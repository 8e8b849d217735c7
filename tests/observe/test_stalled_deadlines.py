"""After a stall of the loop no healthy peer is closed: what it sent was in the kernel, and nobody looked."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from support.peers import Ends
from wireway import ClientState, Connection, Heartbeat, LengthPrefix, Raw, Server, SocketOptions, Timeouts, connect

STALL = 1.5
PEERS = 20


def block(_conn: Connection, message: bytes) -> None:
    """Hold the loop, if that is asked."""
    if message.startswith(b"block"):
        time.sleep(STALL)


@contextmanager
def talking(sockets: list[socket.socket], word: bytes, every: float = 0.2) -> Iterator[None]:
    """Peers that send from a thread of their own, whatever the loop does."""
    over = threading.Event()

    def talk() -> None:
        while not over.wait(every):
            for sock in sockets:
                sock.send(word)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def dial(server: Server, path: str = "") -> socket.socket:
    if path:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return sock
    host, _, port = server.addresses[0].removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)))


async def opened(server: Server, count: int) -> None:
    while server.stats.open < count:  # noqa: ASYNC110
        await asyncio.sleep(0)


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("option", ["idle", "idle_read"])
def test_who_talks_through_a_stall_is_not_idle(run: Run, tmp_path: Path, option: str, unix: bool) -> None:
    async def main() -> None:
        path = str(tmp_path / "it") if unix else ""
        address = f"unix://{path}" if unix else "tcp://127.0.0.1:0"
        server = Server(address, framing=Raw(), timeouts=Timeouts(**{option: 0.5}), stalls=None)
        server.on_message(block)
        ends = Ends(server)
        async with server:
            sockets = [dial(server, path) for _ in range(PEERS)]
            try:
                await opened(server, PEERS)
                with talking(sockets, b"x"):
                    sockets[0].send(b"block")
                    await asyncio.sleep(0.3)  # the stall is in it
                    assert not [conn.id for conn in server.connections if conn.is_closing], "they all talk"
                    assert ends.all() == []
                    silent = dial(server, path)
                    end = await ends.next()
                    assert (end.code, end.connection) == (f"{option.removeprefix('idle_')}-timeout", PEERS + 1)
                    silent.close()
            finally:
                for sock in sockets:
                    sock.close()

    run(main)


def test_a_silent_peer_is_closed_after_a_stall_too(run: Run) -> None:
    async def main() -> None:
        server = Server("tcp://127.0.0.1:0", framing=Raw(), timeouts=Timeouts(idle=0.5), stalls=None)
        server.on_message(block)
        ends = Ends(server)
        async with server:
            silent, loud = dial(server), dial(server)
            try:
                await opened(server, 2)
                with talking([loud], b"x"):
                    loud.send(b"block")
                    end = await ends.next()
                assert (end.code, end.connection) == ("idle-timeout", 1)
            finally:
                silent.close()
                loud.close()

    run(main)


class Answering:
    """A peer that says nothing but `pong` to each `ping`, from a thread of its own."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def _answer(self) -> None:
        while self._sock.recv(8):
            time.sleep(0.1)  # it takes its time, which it has
            self._sock.send(b"\0\0\0\4pong")

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._sock.close()


def test_a_heartbeat_that_we_kept_back_is_no_ones_fault(run: Run) -> None:
    async def main() -> None:
        beat = Heartbeat(every=0.2, timeout=1.0, ping=b"ping", pong=b"pong", jitter=0)
        server = Server("tcp://127.0.0.1:0", framing=LengthPrefix(4), heartbeat=beat, stalls=None)
        server.on_message(block)
        ends = Ends(server)
        async with server:
            socks = [dial(server) for _ in range(5)]
            peers = [Answering(sock) for sock in socks]
            try:
                await opened(server, 5)
                socks[0].send(b"\0\0\0\5block")
                await asyncio.sleep(0.5)  # the stall is in it
                assert ends.all() == []
                assert not [conn.id for conn in server.connections if conn.is_closing]
                dead = dial(server)
                end = await ends.next()
                assert (end.code, end.connection) == ("heartbeat-timeout", 6)
                dead.close()
            finally:
                for peer in peers:
                    peer.close()

    run(main)


def test_a_stalled_client_does_not_give_its_server_up(run: Run) -> None:
    async def main() -> None:
        beat: dict[str, Any] = {"ping": b"ping", "pong": b"pong", "jitter": 0}
        listener = socket.create_server(("127.0.0.1", 0))
        held: list[Answering] = []
        thread = threading.Thread(target=lambda: held.append(Answering(listener.accept()[0])))
        thread.start()
        try:
            url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            async with connect(
                url, framing=LengthPrefix(4), heartbeat=Heartbeat(every=0.2, timeout=1.0, **beat), reconnect=None
            ) as client:
                await asyncio.sleep(0.3)
                time.sleep(STALL)  # noqa: ASYNC251
                await asyncio.sleep(0.5)
                assert client.state is ClientState.OPEN
        finally:
            thread.join()
            for peer in held:
                peer.close()
            listener.close()

    run(main)


def test_a_peer_that_takes_slowly_does_not_stall_writes(run: Run) -> None:
    """It reads 32 KiB each 0.15 s: too little for the kernel to take more of ours, but it does read."""

    async def main() -> None:
        server = Server(
            "tcp://127.0.0.1:0",
            framing=Raw(),
            timeouts=Timeouts(write_stall=0.5),
            socket=SocketOptions(send_buffer=256 * 1024),
            stalls=None,
        )
        server.on_message(lambda conn, _message: conn.send_nowait(bytes(4 << 20)) and None)
        ends = Ends(server)
        async with server:
            slow, stuck = socket.socket(), socket.socket()
            for sock in (slow, stuck):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
                host, _, port = server.addresses[0].removeprefix("tcp://").rpartition(":")
                sock.connect((host, int(port)))
            slow.send(b"x")
            stuck.send(b"x")
            over = threading.Event()

            def sip() -> None:
                while not over.wait(0.15):
                    slow.recv(32768)

            thread = threading.Thread(target=sip)
            thread.start()
            try:
                end = await ends.next()
                assert end.code == "write-stalled"
                assert end.peer == stuck.getsockname()
                await asyncio.sleep(1.0)
                assert ends.all() == []
            finally:
                over.set()
                thread.join()
                slow.close()
                stuck.close()

    run(main)
