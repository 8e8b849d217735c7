"""`Plan`: which servers workers serve, as their supervisor must know them. `Halls`: their listening sockets and hubs.

Owns which socket is whose, also when another plan takes the place of one: a socket that both have stays open, so nobody
who connects meanwhile is refused. Knows no process.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from wireway.config import SocketOptions
from wireway.errors import ConfigError
from wireway.net.address import parse, url_of
from wireway.net.listening import Listening, listen, twin
from wireway.serve.hub import Hub

__all__ = ["Hall", "Halls", "Place", "Plan"]

logger = logging.getLogger("wireway.supervisor")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One server of a plan."""

    name: str
    """No other of the plan has it."""
    addresses: tuple[str, ...]
    """Where it listens, as it was made with."""
    socket: SocketOptions = field(default_factory=SocketOptions)
    """Options of its listening sockets."""
    workers: int = 1
    """Worker k serves it if this is k or more."""
    kind: str = ""
    """Connections move to a worker of another plan if the place has the same name, addresses and kind there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a supervisor runs."""

    places: tuple[Place, ...]
    drain_timeout: float = 10.0
    """Seconds that workers give their connections to finish."""
    text: bytes = b""
    """What each worker is given, to make its servers of."""

    @property
    def workers(self) -> int:
        """How many processes."""
        return max(place.workers for place in self.places)


class Hall:
    """A place with its sockets, and the hub that joins its workers."""

    def __init__(self, place: Place, sockets: Sequence[Sequence[socket.socket]], hub: Hub) -> None:
        self.place = place
        self.hub = hub
        self._sockets = sockets

    def share(self, number: int) -> list[socket.socket]:
        """The sockets of that worker: of each address its own, and those of workers that are gone; or a shared one."""
        found: list[socket.socket] = []
        for twins in self._sockets:
            own = list(twins[number - 1 :: self.place.workers])
            found += own or [twins[(number - 1) % len(twins)]]
        return found


class Halls:
    """Those of the plan that is served. Everything belongs to the thread that runs the loop."""

    def __init__(self) -> None:
        self.plan = Plan(places=())
        self._halls: list[Hall] = []
        self._open: dict[tuple[str, int], _Opened] = {}

    @classmethod
    def of(cls, addresses: Sequence[str], shares: Sequence[Sequence[socket.socket]], drain_timeout: float) -> Halls:
        """One place on sockets that are somebody else's: those of each worker."""
        found = cls()
        place = Place(name="", addresses=tuple(addresses), workers=len(shares))
        found.plan = Plan(places=(place,), drain_timeout=drain_timeout)
        columns = [list(dict.fromkeys(column)) for column in zip(*shares, strict=True)]
        found._halls = [Hall(place, columns, Hub())]
        return found

    def having(self, number: int) -> list[Hall]:
        """Those that this worker serves."""
        return [hall for hall in self._halls if hall.place.workers >= number]

    def take(self, plan: Plan, given: Sequence[socket.socket] = ()) -> Halls:
        """The halls of another plan, which has the sockets of this one as far as both have them.

        Nothing of this one is closed: `close_but` does that, of the one that is not gone on with.

        :param given: listening sockets that systemd opened: those of addresses of the plan are taken.
        :raises ConfigError: one of those is for no address of the plan.
        :raises OSError: an address can not be listened on; what was opened for the plan is closed.
        :raises AddressError: the same.
        """
        found = Halls()
        found.plan = plan
        left = list(given)
        try:
            for place in plan.places:
                twins: list[list[socket.socket]] = []
                for address in place.addresses:
                    twins += found._opened(self, address, place, left).fit(place)
                before = next((hall for hall in self._halls if _same(hall.place, place)), None)
                found._halls.append(Hall(place, twins, Hub() if before is None else before.hub))
            if left:
                urls = ", ".join(map(url_of, left))
                raise ConfigError(f"systemd gave a socket on {urls}, which is the address of no listener")
        except BaseException:
            found.close_but(self)
            raise
        return found

    def _opened(self, before: Halls, address: str, place: Place, left: list[socket.socket]) -> _Opened:
        number = 0
        while (address, number) in self._open:  # several of one plan may ask for any free port
            number += 1
        opened = before._open.get((address, number))
        ours = [sock for sock in left if url_of(sock, secured=address.startswith("tls:")) == address]
        if opened is None and ours:
            left[:] = [sock for sock in left if sock not in ours]
            opened = _Opened(Listening(ours), place, is_ours=False)
        elif opened is None:
            opened = _Opened(listen([parse(address)], place.socket), place)
        elif opened.options != place.socket:
            text = (
                "%s: the options of its socket are other ones now: they are those of the next start, the rest is served"
            )
            logger.warning(text, address)
        self._open[address, number] = opened
        return opened

    def close_but(self, other: Halls | None = None) -> None:
        """Close the sockets and hubs that the other one has not."""
        kept = set() if other is None else set(map(id, other._open.values()))
        for opened in self._open.values():
            if id(opened) not in kept:
                opened.listening.close()
        hubs = set() if other is None else {id(hall.hub) for hall in other._halls}
        for hall in self._halls:
            if id(hall.hub) not in hubs:
                hall.hub.close()


class _Opened:
    """The listening sockets of one address."""

    def __init__(self, listening: Listening, place: Place, *, is_ours: bool = True) -> None:
        self.listening, self.options = listening, place.socket
        self._may_grow = is_ours
        if not is_ours:  # how it is shared was decided elsewhere: all workers take from one queue
            self._twins = [[sock] for sock in listening.sockets]
            return
        try:
            shares = listening.share(place.socket, place.workers, may_grow=True)
        except BaseException:
            listening.close()
            raise
        self._twins = [list(dict.fromkeys(column)) for column in zip(*shares, strict=True)]

    def fit(self, place: Place) -> list[list[socket.socket]]:
        """For each socket that the address has (IPv4, IPv6) those for so many workers."""
        for twins in self._twins:
            while self._may_grow and twins[0].family != socket.AF_UNIX and len(twins) < place.workers:
                made = twin(twins[0], self.options)
                self.listening.sockets.append(made)
                twins.append(made)
        return self._twins


def _same(one: Place, other: Place) -> bool:
    return (one.name, one.addresses, one.kind) == (other.name, other.addresses, other.kind)
