"""Owns what was sent and not acknowledged: `Resend`, and the messages that leave again after a reconnect.

Sans I/O: time is passed in. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from wireway.errors import ConfigError
from wireway.net.requests import Waiting

__all__ = ["Resend", "Unacknowledged"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resend:
    """Send again, after a reconnect, what the peer has not acknowledged: at least once instead of at most once.

    A message leaves again byte for byte, with its id: the receiver sees the same id twice, if it had it already, and
    can drop the second. Both functions run for each message and must not raise.

    :raises ConfigError: an option is wrong.
    """

    message_id: Callable[[bytes], Hashable | None]
    """The id in a message that is sent; None for one that is never sent again."""
    acknowledges: Callable[[bytes], Hashable | None]
    """The id that a received message acknowledges, or None. An answer that `Client.request` got acknowledges its
    request by itself."""
    seconds: float = 30.0
    """Only what was sent within these seconds before the connection was lost leaves again."""
    messages: int = 1000
    """Messages that are kept at most; the oldest is forgotten for a new one."""
    bytes: int = 1024 * 1024
    """Bytes of messages that are kept at most; the same."""
    swallow: bool = False
    """Whether messages that acknowledge go no further: they answer no request and reach no handler."""

    def __post_init__(self) -> None:
        for name in ("message_id", "acknowledges"):
            if not callable(getattr(self, name)):
                raise self._refuse(name, "it must be a function of a message")
        number = isinstance(self.seconds, int | float) and not isinstance(self.seconds, bool)
        if not number or not self.seconds > 0:
            raise self._refuse("seconds", "it must be more than 0")
        for name in ("messages", "bytes"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise self._refuse(name, "it must be at least 1")
        if not isinstance(self.swallow, bool):
            raise self._refuse("swallow", "it must be True or False")

    def _refuse(self, name: str, allowed: str) -> ConfigError:
        return ConfigError(f"Resend: {name} is {getattr(self, name)!r}, {allowed}")


class _Sent:
    __slots__ = ("at", "message", "waiting")

    def __init__(self, message: bytes, waiting: Waiting | None, at: float) -> None:
        self.message, self.waiting, self.at = message, waiting, at


class Unacknowledged:
    """The messages of one client that may have to leave again, the oldest first."""

    def __init__(self, resend: Resend) -> None:
        self._resend = resend
        self._sent: dict[Hashable, _Sent] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    def sent(self, message: bytes, waiting: Waiting | None, now: float) -> list[Waiting]:
        """It was handed to the connection at loop time `now`. The same id again keeps its place.

        Returns the requests that are forgotten for it.
        """
        key = self._resend.message_id(message)
        if key is None:
            return []
        former = self._sent.get(key)
        if former is not None:
            self._bytes -= len(former.message)
        self._sent[key] = _Sent(message, waiting, now)
        self._bytes += len(message)
        forgotten = self._forget_before(now - self._resend.seconds)
        while len(self._sent) > self._resend.messages or self._bytes > self._resend.bytes:
            forgotten += self._drop(next(iter(self._sent)))
        return forgotten

    def received(self, message: bytes) -> bool:
        """Look for an acknowledgement in `message`. True: it goes no further."""
        key = self._resend.acknowledges(message)
        if key is None:
            return False
        self._drop(key)
        return self._resend.swallow

    def answered(self, waiting: Waiting) -> None:
        """The answer of a request acknowledges it."""
        key = self._resend.message_id(waiting.message)
        if key in self._sent and self._sent[key].waiting is waiting:
            self._drop(key)

    def lost(self, now: float) -> list[Waiting]:
        """The connection ended at loop time `now`: the requests among what will be sent again."""
        self._forget_before(now - self._resend.seconds)
        return self._requests()

    def resumed(self, now: float) -> list[tuple[bytes, Waiting | None]]:
        """What is to be sent again, on a connection made at loop time `now`. It stays here until acknowledged."""
        for sent in self._sent.values():
            sent.at = now
        return [(sent.message, sent.waiting) for sent in self._sent.values()]

    def clear(self) -> list[Waiting]:
        """Forget all. Returns the requests among it."""
        forgotten = self._requests()
        self._sent.clear()
        self._bytes = 0
        return forgotten

    def _requests(self) -> list[Waiting]:
        return [sent.waiting for sent in self._sent.values() if sent.waiting is not None]

    def _forget_before(self, then: float) -> list[Waiting]:
        forgotten: list[Waiting] = []
        for key, sent in list(self._sent.items()):
            if sent.at >= then:
                break
            forgotten += self._drop(key)
        return forgotten

    def _drop(self, key: Hashable) -> list[Waiting]:
        sent = self._sent.pop(key, None)
        if sent is None:
            return []
        self._bytes -= len(sent.message)
        return [] if sent.waiting is None else [sent.waiting]
