"""From what a person writes to a run: URL, framing, durations, source addresses. Opens nothing but a name look-up."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass, field
from typing import Any

import typer

import wireway
from wireway.cli.failing import Exit, Failure
from wireway.framing.names import framing_of
from wireway.net.address import parse

__all__ = ["Wanted", "framing_for_load", "seconds_of", "sources_of", "target_of"]

_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """One measurement."""

    host: str
    port: int
    framing: tuple[Any, ...]
    """As `LoadRun` takes it."""
    size: int
    connections: int
    in_flight: int
    rate: float | None
    connect_rate: float | None
    connect_timeout: float
    duration: float
    count: int | None
    warm_up: float
    sources: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `LoadRun`."""
        return {name: getattr(self, name) for name in self.__slots__}


def target_of(url: str) -> tuple[str, int]:
    """The numeric address and the port of a ``tcp://`` URL.

    :raises Failure: it is none that can be measured, or its name is unknown.
    """
    address = parse(url)
    if address.scheme != "tcp":
        raise Failure(f"{url}: bench speaks plain TCP only; give tcp://host:port", Exit.USAGE)
    if address.port == 0 or address.host == "*":
        raise Failure(f"{url}: give the host and the port of a server", Exit.USAGE)
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise Failure(f"{address.host!r} is unknown: {error.strerror}", Exit.USAGE) from None
    return str(found[0][4][0]), address.port


def framing_for_load(text: str) -> tuple[Any, ...]:
    """The framing as `LoadRun` takes it.

    :raises ConfigError: there is no such framing.
    :raises Failure: it is one that load can not be made in.
    """
    match framing_of(text):
        case wireway.Raw():
            return ("raw",)
        case wireway.Lines():
            return ("lines",)
        case wireway.LengthPrefix(width=width, byteorder=order) as found if found == wireway.LengthPrefix(
            width, byteorder=order
        ):
            return ("length", width, order == "little")
    raise Failure(f"load can not be made in {text!r}: take raw, lines or length:N[:le]", Exit.USAGE)


def seconds_of(text: str, option: str) -> float:
    """``10``, ``10s``, ``250ms``, ``2m``.

    :raises typer.BadParameter: it is no time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zµ]*)", text.strip())
    if found is None or found[2] not in _UNITS:
        raise typer.BadParameter(f"{text!r} is no time: write 10s, 250ms, 2m", param_hint=option)
    return float(found[1]) * _UNITS[found[2]]


def sources_of(text: str | None) -> list[str]:
    """``127.0.0.2``, ``127.0.0.2,127.0.0.3``, ``127.0.1.1-50``.

    :raises typer.BadParameter: it names no addresses.
    """
    found: list[str] = []
    for part in (text or "").split(","):
        first, dash, last = part.strip().partition("-")
        if not first:
            continue
        try:
            begin = ipaddress.ip_address(first)
            number = int(last) if dash else int(str(begin).rpartition(".")[2] if begin.version == 4 else 0)
            if not dash:
                found.append(str(begin))
                continue
            stem = str(begin).rpartition(".")[0]
            own = int(str(begin).rpartition(".")[2])
            found += [str(ipaddress.ip_address(f"{stem}.{each}")) for each in range(own, number + 1)]
        except ValueError:
            raise typer.BadParameter(
                f"{part!r} is no address, nor a range as 127.0.0.2-9", param_hint="--ifaddr"
            ) from None
    return found
