"""sendfile: from file to socket, through a transport or not, in the kernel or by reading."""

from __future__ import annotations

import asyncio
import io
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.streams import stream

Run = Callable[..., Any]
DATA = bytes(range(251)) * 20_000
"""5 MB: more than the kernel takes at once."""


def running() -> AbstractEventLoop:
    return asyncio.get_running_loop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def test_a_file_goes_between_what_was_written_before_and_after(run: Run, kind: str, path: Path) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            with path.open("rb") as file:
                getting = asyncio.create_task(s.gets(6 + len(DATA) + 5))
                s.transport.write(b"before")
                assert await running().sendfile(s.transport, file) == len(DATA)
                s.transport.write(b"after")
                assert await getting == b"before" + DATA + b"after"
                assert file.tell() == len(DATA)

    run(main)


def test_a_part_of_a_file(run: Run, kind: str, path: Path) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            with path.open("rb") as file:
                assert await running().sendfile(s.transport, file, 1000, 50) == 50
                assert await s.gets(50) == DATA[1000:1050]
                assert await running().sendfile(s.transport, file, len(DATA) - 10, 50) == 10
                assert await s.gets(10) == DATA[-10:]
                assert await running().sendfile(s.transport, file, len(DATA)) == 0

    run(main)


def test_nobody_writes_meanwhile(run: Run, kind: str, path: Path) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            with path.open("rb") as file:
                sending = asyncio.create_task(running().sendfile(s.transport, file))
                await asyncio.sleep(0)
                for use in (lambda: s.transport.write(b"x"), lambda: s.transport.writelines([b"x"])):
                    with pytest.raises(RuntimeError, match="sendfile is in progress"):
                        use()
                assert await s.gets(len(DATA)) == DATA
                assert await sending == len(DATA)
                s.transport.write(b"again")
                assert await s.gets(5) == b"again"

    run(main)


def test_receiving_goes_on_afterwards(run: Run, kind: str, path: Path) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            await s.sends(b"first")
            await s.protocol.receives(5)
            with path.open("rb") as file:
                sending = asyncio.create_task(running().sendfile(s.transport, file))
                await s.gets(1000)
                await s.sends(b"second")
                await s.gets(len(DATA) - 1000)
                await sending
            assert await s.protocol.receives(11) == b"firstsecond"

    run(main)


def test_what_is_no_file_is_read_and_written(run: Run, kind: str) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await running().sendfile(s.transport, io.BytesIO(DATA), fallback=False)
            getting = asyncio.create_task(s.gets(len(DATA)))
            assert await running().sendfile(s.transport, io.BytesIO(DATA)) == len(DATA)
            assert await getting == DATA

    run(main)


def test_a_peer_that_leaves_in_the_midst(run: Run, kind: str, path: Path) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            with path.open("rb") as file:
                sending = asyncio.create_task(running().sendfile(s.transport, file))
                await s.gets(1000)
                s.other.close()
                with pytest.raises(ConnectionError):
                    await sending
            await s.protocol.lost

    run(main)


def test_a_closing_transport_is_refused(run: Run, kind: str, path: Path) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            s.transport.close()
            with path.open("rb") as file, pytest.raises(RuntimeError, match="Transport is closing"):
                await running().sendfile(s.transport, file)

    run(main)


def test_a_cancelled_sendfile_leaves_a_transport_that_works(run: Run, kind: str, path: Path) -> None:
    async def main() -> None:
        async with stream(kind) as s:
            with path.open("rb") as file:
                sending = asyncio.create_task(running().sendfile(s.transport, file))
                await s.gets(1000)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
            s.transport.write(b"the end")
            s.transport.close()
            rest = await s.gets_all()
            assert rest.endswith(b"the end")
            assert rest[:-7] == DATA[1000 : 1000 + len(rest) - 7]
            assert await s.protocol.lost is None

    run(main)


def test_sock_sendfile(run: Run, path: Path) -> None:
    async def main() -> None:
        ours, other = socket.socketpair()
        ours.setblocking(False)
        other.setblocking(False)
        with ours, other, path.open("rb") as file:
            sending = asyncio.create_task(running().sock_sendfile(ours, file))
            data = bytearray()
            while len(data) < len(DATA):
                data += await running().sock_recv(other, 1 << 20)
            assert (await sending, data) == (len(DATA), DATA)

    run(main)
