"""What a loop's own work costs: callbacks, timers, switches of Tasks.

Owns the four exercises; prints one JSON object with operations a second. Run by the benchmark runner,
one process for each loop and exercise.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import time
from collections.abc import Awaitable, Callable

from echo import LOOPS, loop_factory

Measure = Callable[[float], Awaitable[float]]


async def call_soon(seconds: float) -> float:
    """Callbacks that each schedule the next, 100 chains at once."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    count = 0
    end = time.perf_counter() + seconds

    def step() -> None:
        nonlocal count
        count += 1
        if count % 1000 == 0 and time.perf_counter() >= end and not done.done():
            done.set_result(None)
        if not done.done():
            loop.call_soon(step)

    start = time.perf_counter()
    for _ in range(100):
        loop.call_soon(step)
    await done
    return count / (time.perf_counter() - start)


async def call_later(seconds: float) -> float:
    """Timers: 10,000 of up to a minute are set, nine in ten cancelled, one in ten runs out at once."""
    loop = asyncio.get_running_loop()
    count = 0
    start = time.perf_counter()
    end = start + seconds

    def nothing() -> None:
        pass

    while time.perf_counter() < end:
        handles = [loop.call_later(0.0 if n % 10 == 0 else 1.0 + n % 60, nothing) for n in range(10_000)]
        for n, handle in enumerate(handles):
            if n % 10:
                handle.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        count += len(handles)
    return count / (time.perf_counter() - start)


async def switches(seconds: float) -> float:
    """100 Tasks that yield with ``sleep(0)``."""
    end = time.perf_counter() + seconds

    async def spin() -> int:
        count = 0
        while time.perf_counter() < end:
            for _ in range(100):
                await asyncio.sleep(0)
            count += 100
        return count

    start = time.perf_counter()
    counts = await asyncio.gather(*(spin() for _ in range(100)))
    return sum(counts) / (time.perf_counter() - start)


async def tasks(seconds: float) -> float:
    """Tasks made and gathered, 100 at a time."""
    count = 0
    start = time.perf_counter()
    end = start + seconds

    async def one() -> None:
        pass

    while time.perf_counter() < end:
        await asyncio.gather(*(asyncio.create_task(one()) for _ in range(100)))
        count += 100
    return count / (time.perf_counter() - start)


MEASURES: dict[str, Measure] = {
    "call_soon": call_soon,
    "call_later": call_later,
    "switches": switches,
    "tasks": tasks,
}


async def measure(name: str, seconds: float) -> float:
    """One of them, after a short time to warm up."""
    await MEASURES[name](min(0.1, seconds))
    gc.collect()
    return await MEASURES[name](seconds)


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="what a loop's own work costs")
    parser.add_argument("--loop", choices=LOOPS, required=True)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--measure", choices=tuple(MEASURES), required=True)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory(options.loop, options.backend)) as runner:
        rate = runner.run(measure(options.measure, options.seconds))
    print(json.dumps({"rate": rate, "what": f"Python {platform.python_version()}"}))


if __name__ == "__main__":
    main()
