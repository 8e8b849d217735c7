"""What a proxy in front says of the client: `X-Forwarded-For` and `X-Forwarded-Proto`, from those who are trusted.

Owns whom to believe. Anybody can write these fields, so each name in them counts only as far as the one who wrote it is
trusted: read from the right, the first address that is none of ours is the client's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from wireway.errors import ConfigError
from wireway.http.options import Scope

__all__ = ["Forwarded"]

_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Forwarded:
    """Believes what trusted proxies say.

    :param trusted: networks and addresses as in `ipaddress`; ``unix``: who comes over a Unix socket; ``*``: everybody.
    :raises ConfigError: one of them is none of these.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._everybody = self._unix = False
        for text in trusted:
            if text == "*":
                self._everybody = True
            elif text == "unix":
                self._unix = True
            else:
                try:
                    self._networks.append(ipaddress.ip_network(text, strict=False))
                except ValueError:
                    raise ConfigError(
                        f"forwarded_allow has {text!r}: give addresses, networks (192.0.2.0/24), unix or *",
                        option="forwarded_allow",
                    ) from None

    def trusts(self, peer: Any) -> bool:
        """Whether the other end of a connection is believed."""
        if self._everybody:
            return True
        if not isinstance(peer, tuple):
            return self._unix
        return self._is_ours(_address(peer[0].partition("%")[0]))

    def _is_ours(self, address: Address | None) -> bool:
        if address is None:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return self._everybody or any(address in network for network in self._networks)

    def believe(self, scope: Scope) -> None:
        """Put the client and the scheme that the proxy tells into a scope."""
        hops: list[str] = []
        schemes: list[bytes] = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                hops += [hop.strip() for hop in value.decode("latin-1").split(",")]
            elif name == b"x-forwarded-proto":
                schemes += [scheme.strip().lower() for scheme in value.split(b",")]
        at = self._client(hops) if hops else None
        if at is not None and (found := _host_and_port(hops[at])) is not None:
            scope["client"] = found
        if schemes:
            # Told for each hop, the client's is where its address is; else the proxy before us tells the last.
            told = schemes[at] if at is not None and len(schemes) == len(hops) else schemes[-1]
            scope["scheme"] = _SCHEMES.get(told, scope["scheme"])

    def _client(self, hops: list[str]) -> int:
        for at in range(len(hops) - 1, -1, -1):
            found = _host_and_port(hops[at])
            if found is None or not self._is_ours(_address(found[0])):
                return at
        return 0


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _host_and_port(text: str) -> tuple[str, int] | None:
    """From ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1``, ``[2001:db8::1]:80``; None: none. Port 0: not said."""
    if _address(text) is not None:
        return text, 0
    host, _, port = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, port = text, "0"
    host = host.removeprefix("[").removesuffix("]")
    if _address(host) is None or not (port.isascii() and port.isdigit() and len(port) <= 5):
        return None
    return host, int(port)
