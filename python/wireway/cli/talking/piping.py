"""Stdin and stdout that are no terminal: what stands in one is sent, what comes is written to the other.

Owns the order of ends: our half is closed at the end of stdin, and the peer's end is waited for; and after the peer's
end stdin is still sent for as long as it gives something. Notes go to stderr.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress

import wireway
from wireway.cli.failing import Exit, Failure
from wireway.cli.talking.cutting import Cutter
from wireway.cli.talking.expecting import Expectation
from wireway.cli.talking.feeding import Feed
from wireway.cli.talking.line import Line, open_lines
from wireway.cli.talking.plan import Plan
from wireway.cli.talking.stamps import Stamps
from wireway.cli.talking.streams import Output
from wireway.cli.talking.words import View, shown
from wireway.framing import FrameError

__all__ = ["HALF_AFTER", "IN_ORDER", "Piping"]

HALF_AFTER = 1.0
"""Seconds without a byte after which an unfinished frame is worth a note."""

IN_ORDER = frozenset({"peer-closed", "closed"})
"""Codes of an end that nobody needs to hear of."""

_FOLLOWS = 0.5
"""Seconds for which stdin may give nothing after the peer's end, before that ends all."""

_WEB_WAIT = 1.0
"""The same for a WebSocket after the end of stdin: it has no half to be closed, so that nothing tells of the end."""


class Piping:
    """One run of it.

    :raises ConfigError: what is expected can not be read.
    """

    def __init__(self, plan: Plan, *, stdin: int | None = 0, stdout: int = 1) -> None:
        self._plan = plan
        self._out = Output(stdout)
        self._cutter = Cutter(plan.framing, whole=plan.web is not None)
        self._cutter.explains = plan.explain
        self._feed = Feed(plan, stdin, self._cutter)
        self._stamps = Stamps(plan.stamps)
        between = b"" if self._cutter.raw else b"\n"
        self._expected = Expectation(plan.expects, between)
        self._never = [Expectation([each], between, option="--never") for each in plan.never]
        self._half: asyncio.TimerHandle | None = None
        self._line: Line | None = None
        self._heard = 0
        """Pieces that came or were written: what `--wait` looks at."""

    async def run(self) -> None:
        """Until the peer's end, or until all came that is expected.

        :raises Failure: what was expected did not come; it was not over in time; it broke off; what came is no frame.
        """
        try:
            async with asyncio.timeout(self._plan.timeout), open_lines(self._plan, self._note) as next_line:
                while True:
                    self._line = None
                    await self._one(await next_line())
                    if not self._plan.keep or (self._plan.expects and self._expected.met):
                        return
        except TimeoutError as error:
            if isinstance(error, wireway.ConnectTimeoutError) or error.errno is not None:
                raise
            unreached = self._line is None and not self._plan.listen
            raise Failure(self._too_late(), Exit.UNREACHABLE if unreached else Exit.NO) from None
        finally:
            self._calm()

    async def _one(self, line: Line) -> None:
        self._line = line
        self._cutter.begin()
        try:
            await self._talk(line)
        except Failure as failure:
            if not self._plan.keep or self._plan.expects or self._plan.never:
                raise
            self._say(f"{line.peer}: {failure}")  # the next may do better
        finally:
            self._calm()
            line.close()

    async def _talk(self, line: Line) -> None:
        writing = asyncio.ensure_future(self._feed.into(line))
        reading = asyncio.ensure_future(self._read(line))
        waiting = asyncio.ensure_future(self._silence(writing))
        tasks: Sequence[asyncio.Task[object]] = (writing, reading, waiting)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if writing.done() and not reading.done():
                await writing  # its failure, or that all was sent
                await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                if reading.result():
                    return
                await self._send_on(line, writing)
                line.close()
            elif self._plan.expects:
                raise self._did_not_come(f"in {waiting.result():g} s without a byte")
            else:
                self._note(f"ended: no byte for {waiting.result():g} s")
                line.close()
            await self._over(line)
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _send_on(self, line: Line, writing: asyncio.Task[None]) -> None:
        """The peer has ended its half. What stdin has is still sent, until it has nothing for a while."""
        while not writing.done() and not line.over:
            given = self._feed.given
            await asyncio.wait({writing}, timeout=_FOLLOWS)
            if self._feed.hungry and self._feed.given == given:
                return
        if writing.done():
            await writing

    async def _silence(self, writing: asyncio.Task[None]) -> float:
        """Ends when nothing came or went for long enough; returns how long that is. Never, unless told."""
        wait = self._plan.wait
        if wait is None:
            if self._plan.web is None or self._plan.expects or not self._plan.half_close:
                await asyncio.get_running_loop().create_future()
            with suppress(Exception):
                await asyncio.wait({writing})
            wait = _WEB_WAIT
        while True:
            before = (self._heard, self._feed.given)
            await asyncio.sleep(wait)
            if before == (self._heard, self._feed.given) and not self._out.blocked and not self._feed.blocked:
                return wait

    # --- from the peer --------------------------------------------------------------------------------

    async def _read(self, line: Line) -> bool:
        """Returns whether all came that is expected; else the peer has ended its half, or all."""
        async for piece in line.pieces():
            self._heard += 1
            self._calm()
            try:
                messages, broken = self._cutter.feed(piece), None
            except FrameError as error:
                messages, broken = error.messages, error
            for row in self._cutter.explained():
                self._say(row)
            met = bool(self._plan.expects) and any(self._expected.hear(message) for message in messages)
            await self._show(messages)
            self._refuse(messages)
            if met:
                return True
            if broken is not None:
                raise Failure(self._cutter.refused()) from broken
            if self._cutter.waiting:
                self._half = asyncio.get_running_loop().call_later(HALF_AFTER, self._say_half)
        return False

    def _refuse(self, messages: list[bytes]) -> None:
        """:raises Failure: something came that must not."""
        for each in self._never:
            text = each.next
            if any(each.hear(message) for message in messages):
                raise Failure(f"{text!r} came, which --never forbids")

    async def _over(self, line: Line) -> None:
        reason = await line.reason()
        if self._cutter.waiting:
            raise Failure(f"the connection ended within a frame: {self._cutter.unfinished()}")
        if self._plan.expects:
            raise self._did_not_come(f"before the end ({reason.code})")
        if reason.code not in IN_ORDER:
            raise Failure(f"the connection broke off: {reason}")
        if (complaint := line.complaint()) is not None:
            raise Failure(complaint)
        self._note(line.ending() or f"closed: {reason}")

    async def _show(self, messages: list[bytes]) -> None:
        plan, end = self._plan, b"" if self._cutter.raw else b"\n"
        if plan.view is View.BYTES:
            await self._out.write(messages[0] if not end else b"".join(message + end for message in messages))
        else:
            for message in messages:
                front = self._stamps.message()
                rows = shown(message, plan.view, lines=self._cutter.raw, most=sys.maxsize)
                text = "".join(f"{front}{row}\n" for row in rows)
                await self._out.write(text.encode("utf-8", "backslashreplace"))
        self._heard += 1

    # --- notes ----------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        if self._plan.verbose or (self._plan.listen and self._line is None and not self._plan.quiet):
            self._say(text)

    def _say(self, text: str) -> None:
        print(f"{self._stamps.note()}{text}", file=sys.stderr, flush=True)

    def _say_half(self) -> None:
        if not self._plan.quiet:
            self._say(f"waits: {self._cutter.unfinished()}")

    def _calm(self) -> None:
        if self._half is not None:
            self._half.cancel()
            self._half = None

    def _did_not_come(self, when: str) -> Failure:
        half = f"; {self._cutter.unfinished()}" if self._cutter.waiting else ""
        return Failure(f"{self._expected.next!r} did not come {when}: {self._expected.what_came()}{half}")

    def _too_late(self) -> str:
        seconds = f"{self._plan.timeout:g} s"
        if self._line is None:
            return (
                f"nobody connected in {seconds}" if self._plan.listen else f"{self._plan.url}: no answer in {seconds}"
            )
        if self._plan.expects:
            return str(self._did_not_come(f"in {seconds}"))
        return f"it was not over in {seconds}{f'; {self._cutter.unfinished()}' if self._cutter.waiting else ''}"
