"""Owns servers of the tests of `wireway bench`: threads that answer what comes, each in its way. Blocking sockets."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Answer", "answering", "echo"]

Answer = Callable[[bytes], bytes | None]
"""From what came to what goes back; None: the connection is closed."""


def echo(data: bytes) -> bytes:
    """The same."""
    return data


@contextmanager
def answering(
    answer: Callable[[], Answer] = lambda: echo,
    *,
    path: Path | None = None,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """A server; its address, as ``host:port`` or a path. `answer` makes what answers one connection."""
    if path is None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, 0), family=family, backlog=512)
        address = f"[{host}]" if ":" in host else host
        address += f":{listener.getsockname()[1]}"
    else:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(512)
        address = str(path)
    threads: list[threading.Thread] = []

    def talk(sock: socket.socket, one: Answer) -> None:
        with suppress(OSError), sock:
            secured = sock if tls is None else tls.wrap_socket(sock, server_side=True)
            with secured:
                while data := secured.recv(65536):
                    back = one(data)
                    if back is None:
                        return
                    secured.sendall(back)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threads.append(threading.Thread(target=talk, args=(sock, answer())))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield address
    finally:
        # Closing alone does not wake who waits in accept.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        for thread in threads:
            thread.join()
