"""Connecting: which address is tried when, who wins, what is said, and that nothing is left open."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from wireway.config import Keepalive, SocketOptions
from wireway.errors import AddressError, ConfigError, ConnectError, ConnectTimeoutError
from wireway.net.connecting import ATTEMPT_DELAY, interleave, open_socket

V4, V6, TCP = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM


@contextmanager
def listening(host: str = "127.0.0.1", port: int = 0, backlog: int = 64) -> Iterator[socket.socket]:
    """A socket that listens; its kernel accepts, it does not."""
    with socket.socket(V6 if ":" in host else V4) as sock:
        if sock.family == V6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(backlog)
        yield sock


@contextmanager
def silent(host: str, port: int = 0) -> Iterator[int]:
    """A port whose backlog is full: its kernel drops each SYN, as a firewall does. Yields the port."""
    with listening(host, port, backlog=0) as sock, ExitStack() as fillers:
        where = sock.getsockname()
        for _ in range(2):
            filler = fillers.enter_context(socket.socket(sock.family))
            filler.setblocking(False)
            filler.connect_ex(where)
        yield where[1]


@contextmanager
def on_two_hosts(first: Any, second: Any) -> Iterator[tuple[Any, Any, int]]:
    """`first` on 127.0.0.1 and `second` on 127.0.0.2, with the same port. Others may have it on one of the two."""
    for attempt in range(20):
        with ExitStack() as opened:
            one = opened.enter_context(first("127.0.0.1"))
            port = one if isinstance(one, int) else int(one.getsockname()[1])
            try:
                two = opened.enter_context(second("127.0.0.2", port))
            except OSError:
                if attempt == 19:
                    raise
                continue
            yield one, two, port
            return


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    with listening(host) as sock:
        return int(sock.getsockname()[1])


def resolves(*hosts: str) -> Any:
    """A `getaddrinfo` that has these addresses for every name."""

    async def getaddrinfo(_host: Any, port: int, **_options: Any) -> list[Any]:
        return [
            (V6, TCP, 6, "", (host, port, 0, 0)) if ":" in host else (V4, TCP, 6, "", (host, port)) for host in hosts
        ]

    return getaddrinfo


class Sleeps:
    """Takes the place of `asyncio.sleep`: records, and is over at once or never."""

    def __init__(self, *, over: bool) -> None:
        self.seconds: list[float] = []
        self._over = over

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if not self._over:
            await asyncio.get_running_loop().create_future()


def test_families_take_turns_and_keep_their_order() -> None:
    def target(family: int, name: str) -> Any:
        return (family, TCP, 6, (name, 1))

    six = [target(V6, name) for name in "abc"]
    four = [target(V4, name) for name in "xy"]
    assert interleave([*six, *four]) == [six[0], four[0], six[1], four[1], six[2]]
    assert interleave([*four, *six]) == [four[0], six[0], four[1], six[1], six[2]]
    assert interleave([six[0], six[0], four[0]]) == [six[0], four[0]]
    assert interleave([]) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_connects(run: Run, host: str) -> None:
    async def main() -> None:
        with listening(host) as listener:
            port = listener.getsockname()[1]
            with await open_socket(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}") as sock:
                assert sock.getpeername()[:2] == (host, port)
                assert sock.getblocking() is False

    run(main)


def test_the_options_are_set(run: Run) -> None:
    async def main() -> None:
        options = SocketOptions(
            no_delay=False, keepalive=Keepalive(7, 5, 2), user_timeout=1.5, send_buffer=30_000, receive_buffer=20_000
        )
        with listening() as listener:
            url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            with await open_socket(url, options=options) as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 2
                assert sock.getsockopt(socket.IPPROTO_TCP, 18) == 1500
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 60_000
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 40_000
            with await open_socket(url) as sock:
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60

    run(main)


def test_it_connects_from_the_local_address(run: Run) -> None:
    async def main() -> None:
        with listening() as listener:
            url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            with await open_socket(url, local=("127.0.0.7", 0)) as sock:
                assert sock.getsockname()[0] == "127.0.0.7"
            with pytest.raises(ConnectError, match="of another family"):
                await open_socket(url, local=("::1", 0))

    run(main)


def test_a_silent_address_is_overtaken_after_the_delay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        sleeps = Sleeps(over=True)
        with on_two_hosts(listening, silent) as (_, _, port):
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolves("127.0.0.2", "127.0.0.1"))
            with await open_socket(f"tcp://two.example:{port}", sleep=sleeps) as sock:
                assert sock.getpeername()[0] == "127.0.0.1"
        assert sleeps.seconds == [ATTEMPT_DELAY]
        assert len(asyncio.all_tasks()) == 1, "the loser is gone"

    run(main)


def test_a_refused_address_is_followed_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with listening("127.0.0.1") as listener:
            port = listener.getsockname()[1]
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolves("127.0.0.2", "127.0.0.1"))
            with await open_socket(f"tcp://two.example:{port}", sleep=Sleeps(over=False)) as sock:
                assert sock.getpeername()[0] == "127.0.0.1"

    run(main)


def test_a_first_address_that_answers_is_the_only_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with on_two_hosts(listening, listening) as (_, other, port):
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolves("127.0.0.1", "127.0.0.2"))
            (await open_socket(f"tcp://two.example:{port}", sleep=Sleeps(over=False))).close()
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.accept()

    run(main)


def test_two_that_connect_at_once_leave_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with on_two_hosts(listening, listening) as (_, _, port):
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolves("127.0.0.1", "127.0.0.2"))
            for _ in range(50):
                (await open_socket(f"tcp://two.example:{port}", sleep=Sleeps(over=True))).close()

    run(main)


def test_each_address_and_its_reason_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        port = free_port()
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolves("127.0.0.1", "::1"))
        with pytest.raises(ConnectError) as caught:
            await open_socket(f"tcp://two.example:{port}")
        refused = "Connection refused"
        assert str(caught.value) == (
            f"[Errno {errno.ECONNREFUSED}] tcp://two.example:{port} can not be reached: 127.0.0.1:{port}: {refused}; "
            f"[::1]:{port}: {refused} (nobody listens there: is the server running?)"
        )
        assert [name for name, _ in caught.value.attempts] == [f"127.0.0.1:{port}", f"[::1]:{port}"]
        assert caught.value.errno == errno.ECONNREFUSED
        assert isinstance(caught.value, ConnectionError)

    run(main)


def test_an_unknown_host_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_arguments: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def main() -> None:
        with pytest.raises(ConnectError, match=r"host '.+' is unknown: a part of a name"):
            await open_socket(f"tcp://{'x' * 64}.example:1")
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
        with pytest.raises(ConnectError, match=r"host 'nowhere\.example' is unknown: Name or service not known$"):
            await open_socket("tcp://nowhere.example:1")

    run(main)


def test_the_time_is_bounded_and_says_what_has_not_answered(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with silent("127.0.0.1") as port:
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolves("127.0.0.2", "127.0.0.1"))
            with pytest.raises(ConnectTimeoutError) as caught:
                await open_socket(f"tcp://two.example:{port}", timeout=0.05)
        assert f"within 0.05 s: 127.0.0.2:{port}: Connection refused; 127.0.0.1:{port}: no answer" in str(caught.value)
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, ConnectError)

    run(main)


def test_name_resolution_is_within_the_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_arguments: Any, **_options: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
        with pytest.raises(ConnectTimeoutError, match=r"host 'slow\.example' was not resolved$"):
            await open_socket("tcp://slow.example:1", timeout=0.01)

    run(main)


def test_cancelling_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        both, calls = asyncio.Event(), iter(range(9))

        async def pause(_seconds: float) -> None:
            if next(calls):
                both.set()
                await asyncio.get_running_loop().create_future()

        before = len(asyncio.all_tasks())
        with on_two_hosts(silent, silent) as (_, _, port):
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolves("127.0.0.1", "127.0.0.2", "::1"))
            connecting = asyncio.create_task(open_socket(f"tcp://two.example:{port}", sleep=pause))
            await both.wait()
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        assert len(asyncio.all_tasks()) == before

    run(main)  # `no_descriptor_left` looks for the sockets


def test_a_socket_that_meets_itself_is_refused(run: Run) -> None:
    async def main() -> None:
        port = free_port()
        with pytest.raises(ConnectError, match="met itself"):
            await open_socket(f"tcp://127.0.0.1:{port}", local=("127.0.0.1", port))

    run(main)


def test_unix(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "socket"
        with pytest.raises(
            ConnectError, match=rf"unix://{path} can not be reached: {path}: No such file.*running\?\)$"
        ):
            await open_socket(f"unix://{path}")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            with pytest.raises(ConnectError, match="Connection refused"):
                await open_socket(f"unix://{path}")
            listener.listen()
            with await open_socket(f"unix://{path}") as sock:
                assert sock.getpeername() == str(path)
                assert sock.getblocking() is False

    run(main)


def test_a_full_unix_backlog_is_waited_for(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(0)
            with await open_socket(f"unix://{path}"):
                with pytest.raises(ConnectTimeoutError, match=r"\(its backlog is full\): no answer$"):
                    await open_socket(f"unix://{path}", timeout=0.02)
                paused: list[float] = []

                async def pause(seconds: float) -> None:
                    paused.append(seconds)
                    if len(paused) == 3:
                        listener.accept()[0].close()

                with await open_socket(f"unix://{path}", sleep=pause) as sock:
                    assert sock.getpeername() == str(path)
                assert paused == [0.001, 0.002, 0.004]

    run(main)


def test_what_is_no_address_to_connect_to(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(AddressError):
            await open_socket("http://127.0.0.1:80")
        with pytest.raises(ConfigError, match="port 0 is for servers"):
            await open_socket("tcp://127.0.0.1:0")
        with pytest.raises(ConfigError, match="a unix address has none"):
            await open_socket("unix:///x", local=("127.0.0.1", 0))

    run(main)
