"""`FakeClock` on every back end: hours pass in milliseconds, in order, and the real time comes back."""

from __future__ import annotations

import asyncio
import time

import pytest

from conftest import Run
from wireway import ConfigError, WirewayError
from wireway.testing import FakeClock

DAY = 86400.0


def test_hours_pass_in_order(run: Run) -> None:
    async def main() -> None:
        loop, seen = asyncio.get_running_loop(), list[tuple[str, float]]()
        begun = time.monotonic()
        with FakeClock() as clock:
            start = clock.now
            assert loop.time() == start
            for name, delay in (("c", 3000.0), ("a", 1.0), ("b", 60.5)):
                loop.call_later(delay, lambda name=name: seen.append((name, round(loop.time() - start, 3))))
            await clock.advance(3600, step=0.5)
            assert clock.now == loop.time() == start + 3600
        assert seen == [("a", 1.0), ("b", 60.5), ("c", 3000.0)]
        assert time.monotonic() - begun < 30

    run(main, limit=DAY)


def test_time_stands_still_until_it_is_moved(run: Run) -> None:
    async def main() -> None:
        with FakeClock() as clock:
            sleeping = asyncio.create_task(asyncio.sleep(0.001))
            await asyncio.to_thread(time.sleep, 0.02)
            assert not sleeping.done()
            await clock.advance(0.0005)
            assert not sleeping.done()
            await clock.advance(0.0005)
            assert sleeping.done()

    run(main)


def test_what_follows_from_a_deadline_has_its_own(run: Run) -> None:
    async def main() -> None:
        seen: list[float] = []

        async def tick() -> None:
            for _ in range(5):
                await asyncio.sleep(1)
                seen.append(round(clock.now - start, 3))

        with FakeClock() as clock:
            start = clock.now
            task = asyncio.create_task(tick())
            await clock.advance(5)
            assert seen == [1, 2, 3, 4, 5]
            assert task.done()

    run(main)


def test_timeouts_of_asyncio(run: Run) -> None:
    async def main() -> None:
        with FakeClock() as clock:
            waiting = asyncio.create_task(asyncio.wait_for(asyncio.get_running_loop().create_future(), 600))
            await clock.advance(599)
            assert not waiting.done()
            await clock.advance(1)
            with pytest.raises(TimeoutError):
                await waiting

    run(main, limit=DAY)


def test_the_real_time_comes_back(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with FakeClock() as clock:
            await clock.advance(1000)
        assert abs(loop.time() - time.monotonic()) < 10
        begun = time.monotonic()
        await asyncio.sleep(0.02)
        assert time.monotonic() - begun >= 0.019

    run(main, limit=DAY)


def test_what_can_not_be_is_refused(run: Run) -> None:
    async def main() -> None:
        clock = FakeClock()
        with pytest.raises(WirewayError, match="within its block"):
            await clock.advance(1)
        with clock:
            with pytest.raises(WirewayError, match="runs already"), clock:
                pass
            with pytest.raises(ConfigError, match="time does not go back"):
                await clock.advance(-1)
            with pytest.raises(ConfigError, match="step is 0"):
                await clock.advance(1, step=0)

    run(main)
    with pytest.raises(WirewayError, match="no loop runs"):
        FakeClock()
    loop = asyncio.SelectorEventLoop()
    try:
        with pytest.raises(WirewayError, match=r"wireway\.EventLoop, not .*SelectorEventLoop"):
            FakeClock(loop)
    finally:
        loop.close()
