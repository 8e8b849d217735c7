"""Messages that wait for who receives: whoever is cancelled in the moment of being told passes it on."""

from __future__ import annotations

import asyncio

from conftest import Run
from wireway.net.inbox import MESSAGES, Inbox


def test_a_cancelled_receiver_passes_on_what_it_was_told_of(run: Run) -> None:
    async def main() -> None:
        inbox = Inbox(lambda: None)
        waiting = [asyncio.create_task(inbox.get()) for _ in range(2)]
        await asyncio.sleep(0)
        inbox.put(b"one")
        waiting[0].cancel()  # it is told, and has not run
        assert await waiting[1] == b"one"
        assert waiting[0].cancelled()

    run(main, limit=5)


def test_the_end_comes_after_the_messages(run: Run) -> None:
    async def main() -> None:
        inbox = Inbox(lambda: None)
        waiting = [asyncio.create_task(inbox.get()) for _ in range(3)]
        await asyncio.sleep(0)
        inbox.put(b"one")
        inbox.end()
        assert await asyncio.gather(*waiting) == [b"one", None, None]
        assert await inbox.get() is None

    run(main, limit=5)


def test_it_says_when_there_is_room_again() -> None:
    resumed: list[int] = []
    inbox = Inbox(lambda: resumed.append(len(inbox)))
    for _ in range(MESSAGES - 1):
        inbox.put(b"x")
    assert not inbox.full
    inbox.put(b"x")
    assert inbox.full
    while len(inbox):
        inbox.take()
    assert resumed == [MESSAGES // 2], "once, and at half"
    assert inbox.take() is None
    inbox.put(b"x" * (1 << 20))
    assert inbox.full, "bytes count too"
