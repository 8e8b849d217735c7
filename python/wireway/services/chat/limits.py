"""The bounds of a chat. Owns their defaults, and what follows from them; enforces none."""

from __future__ import annotations

from dataclasses import dataclass, fields

from wireway import ConfigError
from wireway.units import PerSecond

__all__ = ["LISTED", "ChatLimits"]

_ROUND = 4096
LISTED = 100
"""Rooms that are told at once."""
_OTHERWISE = 512
"""Bytes of an event that are no name and no text, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatLimits:
    """The bounds of a chat. Numbers of people, rooms, messages or characters, each at least 1.

    A character is at most four bytes. What all rooms remember is at most ``rooms * history * text_length`` characters.

    :raises ConfigError: one is out of its range.
    """

    people: int = 20_000
    """People who are connected at once."""
    crowd: int = 10_000
    """People in one room."""
    rooms: int = 1000
    """Rooms that exist at once."""
    joined: int = 20
    """Rooms that one person is in."""
    history: int = 50
    """Messages of a room that who joins is told."""
    nick_length: int = 24
    """Characters of a nickname."""
    room_length: int = 32
    """Characters of a room's name."""
    text_length: int = 1000
    """Characters of a message."""
    announced: int = 200
    """In a room with more people than this, who comes and goes is not announced: that would be the square of them.
    How many there are is told instead, every few seconds. Also: how many nicknames a list of people has at most."""
    rate: PerSecond | None = 20.0
    """Messages a second that one connection may send on average, and at once; who sends more waits. None: any."""
    per_address: int | None = None
    """Connections of one IP address to each of the three servers. None: any."""

    def __post_init__(self) -> None:
        for each in fields(ChatLimits):
            name, value = each.name, getattr(self, each.name)
            if value is None and name in ("rate", "per_address"):
                continue
            if type(value) is not int and not (name == "rate" and type(value) is float):
                raise ConfigError(f"{name} is {value!r}, it must be a whole number", option=name)
            if not (value > 0 if name == "rate" else value >= 1):
                raise ConfigError(f"{name} is {value}, it must be at least 1", option=name)

    def frame(self) -> int:
        """Bytes of the longest command and of the longest event, as lines and as JSON: a character of a command may be
        written as two escapes of six bytes.
        """
        said = 12 * (self.text_length + max(self.nick_length, self.room_length))
        listed = max(2 * self.announced * (4 * self.nick_length + 3), LISTED * (4 * self.room_length + 14))
        longest = _OTHERWISE + max(said, self.spoken(self.text_length), listed)
        return -(-longest // _ROUND) * _ROUND

    def spoken(self, characters: int) -> int:
        """Bytes of a message with so many characters, at most."""
        return 4 * (characters + 2 * self.nick_length + self.room_length) + _OTHERWISE

    def queue(self) -> int:
        """Bytes that may wait for one person: the history of a room, and a good deal of talk."""
        return 1024 * 1024 + self.history * self.spoken(self.text_length)
