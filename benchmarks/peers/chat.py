"""The rooms of `wireway serve chat` on plain asyncio: the same rules, the same JSON, a write for each listener.

Owns the way from the sockets to the rooms and back, written as one would with asyncio's protocols. Measures nothing.
Needs `wireway.services` to be importable; the loop under it is whichever is named::

    python benchmarks/peers/chat.py --loop uvloop

Prints ``ready PORT`` once it listens; SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Callable
from typing import Any

from echo import FramedEcho, loop_factory, raise_descriptor_limit

from wireway.services.chat import ChatLimits
from wireway.services.chat.names import Mistake
from wireway.services.chat.rooms import Event, Person, Room, Rooms
from wireway.services.chat.wire import as_json, obey_json


def framed(event: Event) -> bytes:
    """An event with its length before it."""
    data = as_json(event)
    return len(data).to_bytes(4, "big") + data


class Post:
    """From the rooms to transports."""

    def __init__(self) -> None:
        self.members: dict[str, dict[Person, None]] = {}

    def to_room(self, room: Room, event: Event, sender: Person | None) -> None:
        """Framed once, written to each."""
        data, but = framed(event), None if event["type"] == "message" else sender
        for person in self.members.get(room.key, ()):
            if person is not but:
                person.outlet.write(data)

    def to_person(self, person: Person, event: Event) -> None:
        """To one."""
        person.outlet.write(framed(event))

    def named(self, person: Person) -> None:
        """Of no use here."""

    def joined(self, person: Person, room: Room) -> None:
        """They hear it."""
        self.members.setdefault(room.key, {})[person] = None

    def left(self, person: Person, room: Room) -> None:
        """And no more."""
        del self.members[room.key][person]

    def end(self, person: Person) -> None:
        """They want to go."""
        person.outlet.close()

    def later(self, callback: Callable[[], None]) -> None:
        """In two seconds."""
        asyncio.get_running_loop().call_later(2.0, callback)


class Talk(FramedEcho):
    """Somebody's connection."""

    __slots__ = ("person",)
    rooms: Rooms

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.person = self.rooms.enter(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.rooms.leave(self.person)

    def message(self, payload: bytes) -> None:
        try:
            obey_json(self.rooms, self.person, payload)
        except Mistake as mistake:
            self.transport.write(framed({"type": "error", "code": mistake.code, "text": str(mistake)}))


async def serve() -> None:
    """Until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    Talk.rooms = Rooms(Post(), ChatLimits())
    server = await loop.create_server(Talk, "127.0.0.1", 0, backlog=4096)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    """Run on the loop that is named."""
    parser = argparse.ArgumentParser(description="the chat's rooms on plain asyncio", allow_abbrev=False)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    options = parser.parse_args()
    raise_descriptor_limit()
    factory: Any = loop_factory(options.loop, "auto")
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
