"""A person at a terminal: a line to type in, and above it what both sides said, whenever they said it.

Owns the prompt, what is printed above it, and the order of connections. The commands that begin with a colon are
`commands.py`'s. Long output is held back so that it can be read; TCP holds the peer back meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress

from prompt_toolkit import PromptSession
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.patch_stdout import patch_stdout

import wireway
from wireway.cli.failing import Exit, Failure
from wireway.cli.talking.commands import Commands
from wireway.cli.talking.cutting import Cutter
from wireway.cli.talking.history import history_at
from wireway.cli.talking.line import Line, Lines, open_lines
from wireway.cli.talking.piping import HALF_AFTER, IN_ORDER
from wireway.cli.talking.plan import Plan
from wireway.cli.talking.stamps import Stamps
from wireway.cli.talking.words import Input, View, decode, shown
from wireway.framing import FrameError
from wireway.framing.names import framing_name
from wireway.net.reconnecting import Backoff, Reconnect

__all__ = ["Screen"]

_BURST = 200
"""Lines that are shown at once; then the terminal gets time to draw them."""
_DRAWING = 0.25


class Screen:
    """One talk at a terminal, over one connection or one after the other."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.view, self.input, self.eol = plan, plan.view, plan.input, plan.eol
        self.cutter = Cutter(plan.framing, whole=plan.web is not None)
        self.cutter.explains = plan.explain
        self.stamps = Stamps(plan.stamps)
        self.sent = 0
        self.line: Line | None = None
        self._commands = Commands(self)
        self._begun = asyncio.Event()
        """There is, or was, a connection, or one is waited for: what is typed has a meaning."""
        self._half: asyncio.TimerHandle | None = None
        self._heard = 0
        self._colors = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._encoding = sys.stdout.encoding or "ascii"
        history, self._complaint = history_at(plan.history)
        depth = None if self._colors else ColorDepth.DEPTH_1_BIT
        self._session: PromptSession[str] = PromptSession(
            "> ", history=history, bottom_toolbar=self._toolbar, color_depth=depth, refresh_interval=0.5
        )

    async def run(self) -> None:
        """Until one side ends it; with `Plan.keep` and `Plan.reconnect` until this side does.

        :raises Failure: it broke off, or what came is no frame.
        :raises KeyboardInterrupt: Ctrl-C.
        """
        with patch_stdout(raw=True):
            if self._complaint is not None:
                self.note(self._complaint)
            async with open_lines(self.plan, self.news) as lines:
                talking = asyncio.ensure_future(self._talks(lines))
                typing = asyncio.ensure_future(self._type())
                try:
                    await asyncio.wait({talking, typing}, return_when=asyncio.FIRST_COMPLETED)
                    await (talking if talking.done() else typing)  # a Ctrl-C of typing is ours
                finally:
                    self._calm()
                    for task in (typing, talking):
                        task.cancel()
                        with suppress(asyncio.CancelledError, Exception, KeyboardInterrupt):
                            await task

    # --- one connection after the other ---------------------------------------------------------------

    async def _talks(self, lines: Lines) -> None:
        backoff = Backoff(Reconnect())
        clock = asyncio.get_running_loop().time
        greeted = False
        while True:
            try:
                async with asyncio.timeout(None if greeted and self.plan.listen else self.plan.timeout):
                    line = await lines()
            except (wireway.ConnectError, TimeoutError, Failure) as error:
                if not self.plan.reconnect:
                    raise self._unreached(error) from None
                self.note(str(error))
                self._begun.set()
            else:
                backoff.opened(clock())
                if not greeted:
                    self.news(f"{self.cut_name()}; :help tells what can be typed")
                    greeted = True
                self.line = line
                self._begun.set()
                failure = await self._talk(line)
                backoff.closed(clock())
                if not self.plan.reconnect and not self.plan.keep:
                    if failure is not None:
                        raise failure
                    return
                if failure is not None:
                    self.note(str(failure))
                if self.plan.keep:
                    continue
            delay = backoff.next() or 0.0
            self.note(f"trying again in {delay:.1f} s")
            await asyncio.sleep(delay)

    def _unreached(self, error: Exception) -> Exception:
        if isinstance(error, TimeoutError) and not isinstance(error, wireway.ConnectError) and error.errno is None:
            return Failure(f"{self.plan.url}: nobody was there in {self.plan.timeout:g} s", Exit.UNREACHABLE)
        return error

    async def _talk(self, line: Line) -> Failure | None:
        """To the end of this connection. Returns what is wrong with that end."""
        self.cutter.begin()
        silence = asyncio.ensure_future(self._silence(line))
        try:
            for message in self.plan.sends:
                await self.send(message)
            await self._read(line)
            if self.plan.listen and self.plan.web is None and not line.over and not line.half_closed:
                # Who sent a question and ended its half waits for the answer. Of a server it is the end.
                self.note("the peer has ended its half; what you type is still sent. Ctrl-D ends ours")
                await line.said_all()
            return await self._over(line)
        except Failure as failure:
            return failure
        finally:
            self._calm()
            silence.cancel()
            line.close()
            self.line = None

    async def _silence(self, line: Line) -> None:
        """Close it when nothing came or went for long enough, if that is wanted."""
        while (wait := self.plan.wait) is not None:
            before = (self._heard, self.sent)
            await asyncio.sleep(wait)
            if before == (self._heard, self.sent):
                self.note(f"no byte for {wait:g} s")
                line.close()
                return

    # --- what comes -----------------------------------------------------------------------------------

    async def _read(self, line: Line) -> None:
        drawn = 0
        async for piece in line.pieces():
            self._calm()
            self._heard += 1
            try:
                messages, broken = self.cutter.feed(piece), None
            except FrameError as error:
                messages, broken = error.messages, error
            drawn += self.show(messages)
            if drawn >= _BURST:
                drawn = 0
                await asyncio.sleep(_DRAWING)
            if broken is not None:
                self.lost()
            if self.cutter.waiting:
                self._half = asyncio.get_running_loop().call_later(HALF_AFTER, self._still_half)

    async def _over(self, line: Line) -> Failure | None:
        line.close()
        reason = await line.reason()
        if self.cutter.waiting:
            return Failure(f"the connection ended within a frame: {self.cutter.unfinished()}")
        if self.cutter.lost:
            return Failure(f"what came is no frame, and was shown as it came; {reason}")
        if reason.code not in IN_ORDER:
            return Failure(f"the connection broke off: {reason}")
        if (complaint := line.complaint()) is not None:
            return Failure(complaint)
        self.news(line.ending() or f"closed: {reason}")
        return None

    def show(self, messages: list[bytes]) -> int:
        """What came. Returns how many lines that took."""
        for row in self.cutter.explained():
            self.note(row)
        return sum(self._came(message) for message in messages)

    def lost(self) -> None:
        """What came is no frame. It is shown as it comes, and can be cut in another way."""
        self.note(self.cutter.refused())
        self._came(self.cutter.uncut)
        self.note("shown as it comes from here on; :framing NAME cuts it in another way")

    def _came(self, message: bytes) -> int:
        rows = shown(message, self.view, lines=self.cutter.raw or self.cutter.lost)
        front = self.stamps.message()
        kind = "binary, " if type(message) is not bytes else ""
        if self.view is not View.TEXT or kind:
            self._print(front, "<", f"{kind}{len(message):,} byte{'' if len(message) == 1 else 's'}", "36")
        for row in rows:
            headed = self.view is View.TEXT and not kind
            self._print(front, "<" if headed else " ", row, "36" if headed else "")
        return len(rows)

    # --- what is typed --------------------------------------------------------------------------------

    async def _type(self) -> None:
        await self._begun.wait()
        while True:
            try:
                typed = await self._session.prompt_async()
            except EOFError:
                if self.line is None or self.line.half_closed:
                    return
                self.line.half_close()
                self.note("our half is closed; what still comes is shown. Ctrl-D again ends it")
                continue
            # What is pasted may have several lines: each counts as if it had been typed.
            for row in typed.removesuffix("\n").split("\n"):
                if await self._typed(row):
                    return

    async def _typed(self, row: str) -> bool:
        """One line: a command or a message. Returns whether that was the end."""
        if row.startswith(":") and not row.startswith("::"):
            return await self._commands.run(*row[1:].strip().partition(" ")[::2])
        try:
            message = decode(row[1:] if row.startswith("::") else row, self.input)
        except ValueError as error:
            self.note(str(error))
        else:
            await self.send(message + self.eol, text=self.input is not Input.HEX)
        return False

    async def send(self, message: bytes, *, text: bool = True) -> None:
        """One message, or say why not."""
        line = self.line
        if line is None or line.half_closed:
            self.note(f"not sent: {'our half is closed' if line is not None else 'there is no connection'}")
            return
        try:
            frame = self.cutter.encode(message)
        except FrameError as error:
            self.note(f"not sent: {error}")
            return
        if await line.send(frame, text=text):
            self.sent += 1
        else:
            self.note("not sent: the connection is closed")

    # --- what is said ---------------------------------------------------------------------------------

    def cut_name(self) -> str:
        """How what comes is cut, in words."""
        return "WebSocket" if self.plan.web is not None else f"{framing_name(self.cutter.framing)} framing"

    def say_half(self) -> None:
        """What is there of an unfinished frame."""
        waits = self.cutter.waiting
        self.note(f"waits: {self.cutter.unfinished()}" if waits else "nothing waits: each byte was part of a message")

    def _still_half(self) -> None:
        if self.cutter.waiting:  # it may have been cut in another way meanwhile
            self.say_half()

    def _calm(self) -> None:
        if self._half is not None:
            self._half.cancel()
            self._half = None

    def _toolbar(self) -> str:
        line, cutter = self.line, self.cutter
        if line is None:
            return f" {self.plan.url} · {'waits for a connection' if self.plan.listen else 'not connected'} "
        parts = [line.peer or self.plan.url, self.cut_name().removesuffix(" framing")]
        parts += [f"sent {self.sent:,}", f"came {cutter.messages:,}"]
        if cutter.waiting:
            there = f"{cutter.waiting:,} byte{' is' if cutter.waiting == 1 else 's are'} here"
            parts.append(f"half a frame: {there}, {max(cutter.missing(), 0):,} missing")
        if cutter.lost:
            parts.append("what comes is no frame")
        if line.half_closed:
            parts.append("our half is closed")
        return f" {' · '.join(parts)} "

    def news(self, text: str) -> None:
        """Say what happens in order, unless that is not wanted."""
        if not self.plan.quiet:
            self.note(text)

    def note(self, text: str) -> None:
        """Say something of our own."""
        for row in text.splitlines():
            self._print(self.stamps.note(), "*", row, "2")

    def _print(self, front: str, mark: str, row: str, color: str) -> None:
        begin, end = (f"\x1b[{color}m", "\x1b[0m") if self._colors and color else ("", "")
        whole = color == "2"
        text = f"{begin}{front}{mark}{'' if whole else end} {row}{end if whole else ''}"
        print(text.encode(self._encoding, "backslashreplace").decode(self._encoding))
