"""Stdin and stdout that are no terminal: what stands in one is sent, what comes is written to the other.

Owns the order of ends: our half is closed at the end of stdin, and the peer's end is waited for. Notes go to stderr.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from datetime import datetime

import wireway
from wireway.cli.failing import Exit, Failure
from wireway.cli.talking.cutting import Cutter
from wireway.cli.talking.expecting import Expectation
from wireway.cli.talking.line import Line, Plan, open_line
from wireway.cli.talking.streams import read_lines, read_pieces, write_all
from wireway.cli.talking.words import Input, View, decode, shown
from wireway.framing import FrameError

__all__ = ["HALF_AFTER", "IN_ORDER", "Piping", "stamp"]

HALF_AFTER = 1.0
"""Seconds without a byte after which an unfinished frame is worth a note."""

IN_ORDER = frozenset({"peer-closed", "closed"})
"""Codes of an end that nobody needs to hear of."""


class Piping:
    """One run of it.

    :raises ConfigError: what is expected can not be read.
    """

    def __init__(self, plan: Plan, *, stdin: int | None = 0, stdout: int = 1) -> None:
        self._plan, self._in, self._out = plan, stdin, stdout
        self._cutter = Cutter(plan.framing)
        self._expected = Expectation(plan.expects, b"" if self._cutter.raw else b"\n")
        self._half: asyncio.TimerHandle | None = None
        self._line: Line | None = None
        self._written = asyncio.Event()

    async def run(self) -> None:
        """Until the peer's end, or until all came that is expected.

        :raises Failure: what was expected did not come; it was not over in time; it broke off; what came is no frame.
        """
        try:
            async with asyncio.timeout(self._plan.timeout):
                async with open_line(self._plan, self._note) as line:
                    self._line = line
                    await self._talk(line)
        except TimeoutError as error:
            if isinstance(error, wireway.ConnectTimeoutError) or error.errno is not None:
                raise
            unreached = self._line is None and not self._plan.listen
            raise Failure(self._too_late(), Exit.UNREACHABLE if unreached else Exit.NO) from None
        finally:
            self._calm()

    async def _talk(self, line: Line) -> None:
        writing = asyncio.ensure_future(self._write(line))
        try:
            reading = asyncio.ensure_future(self._read(line))
            try:
                # The peer's end is the end, also while stdin stays open.
                await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
                if writing.done():
                    await writing
                await reading
            finally:
                reading.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await reading
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await writing

    # --- to the peer ----------------------------------------------------------------------------------

    async def _write(self, line: Line) -> None:
        for message in self._plan.sends:
            if not await line.send(self._cutter.encode(message)):
                self._written.set()
                return
        if self._in is not None and not await self._write_stdin(line, self._in):
            self._written.set()
            return
        if not self._plan.expects:
            line.half_close()
        self._written.set()

    async def _write_stdin(self, line: Line, stdin: int) -> bool:
        how = self._plan.input
        if how is Input.BYTES:
            async for piece in read_pieces(stdin):
                if not await line.send(self._cutter.encode(piece)):
                    return False
            return True
        number = 0
        async for text in read_lines(stdin):
            number += 1
            try:
                message = text if how is Input.TEXT else decode(text.decode("utf-8", "surrogateescape"), how)
                frame = self._cutter.encode(message + self._plan.eol)
            except ValueError as error:
                raise Failure(f"line {number} of stdin: {error}") from None
            if not await line.send(frame):
                return False
        return True

    # --- from the peer --------------------------------------------------------------------------------

    async def _read(self, line: Line) -> None:
        async for piece in line.pieces():
            self._calm()
            try:
                messages, broken = self._cutter.feed(piece), None
            except FrameError as error:
                messages, broken = error.messages, error
            met = False
            for message in messages:
                if self._plan.expects and not met:
                    met = self._expected.hear(message)
            await self._show(messages)
            if met:
                return
            if broken is not None:
                raise Failure(f"what came is no frame: {self._cutter.unfinished()}") from broken
            if self._cutter.waiting:
                self._half = asyncio.get_running_loop().call_later(HALF_AFTER, self._say_half)
        if line.stays_open:
            await self._written.wait()
            line.close()
        await self._over(line)

    async def _over(self, line: Line) -> None:
        reason = await line.reason()
        if self._cutter.waiting:
            raise Failure(f"the connection ended within a frame: {self._cutter.unfinished()}")
        if self._plan.expects:
            wanted = self._expected.next
            raise Failure(f"{wanted!r} did not come before the end ({reason.code}): {self._expected.what_came()}")
        if reason.code not in IN_ORDER:
            raise Failure(f"the connection broke off: {reason}")
        if self._plan.verbose:
            self._note(str(reason))

    async def _show(self, messages: list[bytes]) -> None:
        plan, end = self._plan, b"" if self._cutter.raw else b"\n"
        if plan.view is View.BYTES:
            await write_all(self._out, b"".join(message + end for message in messages))
            return
        front = f"{stamp()} " if plan.timestamps else ""
        for message in messages:
            rows = shown(message, plan.view, lines=self._cutter.raw, most=sys.maxsize)
            await write_all(self._out, "".join(f"{front}{row}\n" for row in rows).encode("utf-8", "backslashreplace"))

    # --- notes ----------------------------------------------------------------------------------------

    def _note(self, text: str) -> None:
        if self._plan.verbose or (self._plan.listen and not self._plan.quiet):
            print(f"{f'{stamp()} ' if self._plan.timestamps else ''}{text}", file=sys.stderr, flush=True)

    def _say_half(self) -> None:
        if not self._plan.quiet:
            print(f"waits: {self._cutter.unfinished()}", file=sys.stderr, flush=True)

    def _calm(self) -> None:
        if self._half is not None:
            self._half.cancel()
            self._half = None

    def _too_late(self) -> str:
        seconds = f"{self._plan.timeout:g} s"
        half = f"; {self._cutter.unfinished()}" if self._cutter.waiting else ""
        if self._line is None:
            return (
                f"nobody connected in {seconds}" if self._plan.listen else f"{self._plan.url}: no answer in {seconds}"
            )
        if self._plan.expects:
            return f"{self._expected.next!r} did not come in {seconds}: {self._expected.what_came()}{half}"
        return f"it was not over in {seconds}{half}"


def stamp() -> str:
    """The time of day, to the millisecond."""
    return datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
