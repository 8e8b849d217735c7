"""Owns what systemd gives and wants to hear: sockets that it opened, and how the service is.

Sources: sd_listen_fds(3), sd_notify(3), systemd.service(5). Does nothing where systemd is not.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

__all__ = ["activated", "notify", "reloading", "watchdog_interval"]

_FIRST = 3
"""SD_LISTEN_FDS_START."""


def activated() -> list[socket.socket]:
    """The listening stream sockets that systemd opened for this process. They are asked for once, then forgotten."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for number in range(_FIRST, _FIRST + int(count)):
        sock = socket.socket(fileno=number)
        is_stream = sock.type == socket.SOCK_STREAM
        if is_stream and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            os.set_inheritable(number, False)
            sock.setblocking(False)
            found.append(sock)
        else:
            sock.detach()  # not ours to close
    return found


def notify(*lines: str) -> None:
    """Tell the service manager, as ``READY=1`` or ``STATUS=text``. Nothing happens where there is none."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.setblocking(False)
        sock.sendto("\n".join(lines).encode(), address)


def reloading() -> None:
    """Tell that a reload has begun; ``READY=1`` ends it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval() -> float | None:
    """Seconds between two ``WATCHDOG=1``: half of what systemd allows. None if it does not watch this process."""
    allowed, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not allowed.isdecimal() or int(allowed) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(allowed) / 2_000_000
