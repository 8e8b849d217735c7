"""Subprocesses: pipelines with big data, many at a time, back pressure, kill, cancellation, no child left."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
LINES = 200_000


def children() -> set[int]:
    """Return the process ids of this process's children, zombies too."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.add(int(status.parent.name))
    return found


@pytest.fixture(autouse=True)
def every_child_is_waited_for() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def test_sort_uniq_pipeline_counts_two_hundred_thousand_lines(run: Run) -> None:
    rng = random.Random(1)
    words = [f"word-{rng.randrange(5_000)}" for _ in range(LINES)]
    expected = Counter(words)

    async def main() -> bytes:
        middle_read, middle_write = os.pipe()
        environment = {**os.environ, "LC_ALL": "C"}
        sort = await asyncio.create_subprocess_exec("sort", stdin=PIPE, stdout=middle_write, env=environment)
        uniq = await asyncio.create_subprocess_exec("uniq", "-c", stdin=middle_read, stdout=PIPE, env=environment)
        os.close(middle_read)
        os.close(middle_write)

        async def feed() -> None:
            assert sort.stdin is not None
            for start in range(0, LINES, 1_000):
                sort.stdin.write("".join(f"{word}\n" for word in words[start : start + 1_000]).encode())
                await sort.stdin.drain()
            sort.stdin.close()
            await sort.stdin.wait_closed()

        assert uniq.stdout is not None
        _, output, first, second = await asyncio.gather(feed(), uniq.stdout.read(), sort.wait(), uniq.wait())
        assert (first, second) == (0, 0)
        return output

    counted = {word: int(count) for count, word in (line.split() for line in run(main()).decode().splitlines())}
    assert counted == expected


def test_many_processes_at_once_each_return_their_megabytes(run: Run) -> None:
    async def echo(seed: int) -> None:
        data = random.Random(seed).randbytes(4 << 20)
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(data)
        assert hashlib.sha256(output).digest() == hashlib.sha256(data).digest()
        assert process.returncode == 0

    async def main() -> None:
        await asyncio.gather(*(echo(seed) for seed in range(16)))

    run(main())


def test_stdout_and_stderr_are_kept_apart_and_status_is_reported(run: Run) -> None:
    script = "import os,sys\nfor i in range(20000): os.write(1+i%2, b'%d\\n' % i)\nsys.exit(7)"

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=PIPE, stderr=PIPE)
        out, err = await process.communicate()
        assert [int(line) for line in out.split()] == list(range(0, 20_000, 2))
        assert [int(line) for line in err.split()] == list(range(1, 20_000, 2))
        assert process.returncode == 7

    run(main())


def test_a_reader_that_stops_holds_the_writer_back(run: Run) -> None:
    """The child writes without end; unread, it must block and the memory here must stay bounded."""

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", "/dev/zero", stdout=PIPE, limit=1 << 16)
        stream: Any = process.stdout
        await stream.readexactly(10 << 20)
        while not stream._paused:  # noqa: ASYNC110 - each yield is a turn of the loop; the child fills the buffer
            await asyncio.sleep(0)
        assert len(stream._buffer) <= 1 << 19
        await stream.readexactly(10 << 20)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        await stream.read()

    run(main())


def test_a_child_that_ends_early_breaks_the_pipe_and_not_the_loop(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("head", "-c", "10", stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(b"0123456789" * 1_000_000)
        assert output == b"0123456789"
        assert process.returncode == 0

    run(main())


def test_a_cancelled_wait_leaves_the_process_usable(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await process.wait()
        assert process.returncode is None
        assert (await process.communicate(b"still here"))[0] == b"still here"

    run(main())


def test_terminate_fifty_children_among_which_some_have_ended(run: Run) -> None:
    async def main() -> None:
        ended = [await asyncio.create_subprocess_shell("exit 3") for _ in range(25)]
        waiting = [await asyncio.create_subprocess_exec("sleep", "1000", stdin=DEVNULL) for _ in range(25)]
        for process in waiting:
            process.terminate()
        assert await asyncio.gather(*(process.wait() for process in ended)) == [3] * 25
        assert await asyncio.gather(*(process.wait() for process in waiting)) == [-signal.SIGTERM] * 25

    run(main())


def test_shell_pipeline_with_a_line_reader(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_shell("seq 1 50000 | grep 7 | sort -rn", stdout=PIPE)
        assert process.stdout is not None
        lines = [int(line) async for line in process.stdout]
        assert lines == sorted((i for i in range(1, 50_001) if "7" in str(i)), reverse=True)
        assert await process.wait() == 0

    run(main())
