"""Where connections come from (`--ifaddr`), and whether this process may have so many."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterator

from wireway.cli.failing import Exit, Failure
from wireway.net.descriptors import budget, raise_soft_limit

__all__ = ["fitting", "make_room", "sources_of"]

MOST = 65_536
"""Addresses; each has tens of thousands of ports."""

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def sources_of(text: str | None) -> list[str]:
    """``127.0.0.2``, ``127.0.0.2,127.0.0.3``, ``127.0.1.1-50``, ``127.0.1.1-127.0.2.9``, ``127.0.3.0/24``, ``::1``.

    :raises Failure: it names no addresses, or more than `MOST`.
    """
    found: list[str] = []
    for part in (text or "").split(","):
        if not part.strip():
            continue
        try:
            each = _addresses(part.strip())
            found += [str(address) for address, _ in zip(each, range(MOST + 1 - len(found)), strict=False)]
        except ValueError:
            raise Failure(
                f"--ifaddr: {part.strip()!r} is no address, no range as 127.0.0.2-9, no network as 127.0.3.0/24",
                Exit.USAGE,
            ) from None
        if len(found) > MOST:
            raise Failure(f"--ifaddr: more than {MOST:,} addresses; name fewer", Exit.USAGE)
    if text is not None and not found:
        raise Failure("--ifaddr names no address: write 127.0.0.2-9", Exit.USAGE)
    for address in dict.fromkeys(found):
        _refuse_a_stranger(address)
    return list(dict.fromkeys(found))


def _refuse_a_stranger(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise Failure(f"--ifaddr: {address} is no address of this machine", Exit.USAGE) from None


def _addresses(text: str) -> Iterator[_Ip]:
    if "/" in text:
        return iter(ipaddress.ip_network(text, strict=False).hosts())
    first, dash, last = text.partition("-")
    begin: _Ip = ipaddress.ip_address(first)
    if not dash:
        return iter((begin,))
    try:
        end: _Ip = ipaddress.ip_address(last)
    except ValueError:
        # Only what stands behind the last dot, or colon, is told.
        mark = "." if begin.version == 4 else ":"
        end = ipaddress.ip_address(f"{first.rpartition(mark)[0]}{mark}{last}")
    if end.version != begin.version or int(end) < int(begin):
        raise ValueError(text)
    return (type(begin)(number) for number in range(int(begin), int(end) + 1))


def fitting(addresses: list[tuple[str, int] | str], sources: list[str]) -> list[tuple[str, int] | str]:
    """Those of a server's addresses that can be reached from there.

    :raises Failure: none can, or the sources are of both families.
    """
    if not sources:
        return addresses
    versions = {ipaddress.ip_address(source).version for source in sources}
    if len(versions) > 1:
        raise Failure("--ifaddr: IPv4 and IPv6 can not be mixed, the server is reached by one of them", Exit.USAGE)
    [version] = versions
    found: list[tuple[str, int] | str] = []
    found += [each for each in addresses if not isinstance(each, str) and (":" in each[0]) == (version == 6)]
    if not found:
        raise Failure(f"--ifaddr: from an address of IPv{version} this server can not be reached", Exit.USAGE)
    return found


def make_room(connections: int, threads: int) -> None:
    """Raise the soft limit of descriptors, if so many connections need it.

    :raises Failure: the hard limit is too low as well.
    """
    here = budget("epoll")
    if connections + threads > here.room:
        raise_soft_limit()
        here = budget("epoll")
    if connections + threads > here.room:
        raise Failure(
            f"{connections:,} connections are too many for the limit of {here.soft:,} descriptors, about {here.room:,} "
            f"fit; {here.remedy}",
            Exit.PERMISSION,
        )
