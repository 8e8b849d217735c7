"""A person at a terminal: a line to type in, and above it what both sides said, whenever they said it.

Owns the keys, the commands that begin with a colon, and the notes on half frames. Long output is held back so that it
can be read; TCP holds the peer back meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.patch_stdout import patch_stdout

from wireway.cli.failing import Failure
from wireway.cli.talking.cutting import Cutter
from wireway.cli.talking.history import history_at
from wireway.cli.talking.line import Line, Plan, open_line
from wireway.cli.talking.piping import HALF_AFTER, IN_ORDER, stamp
from wireway.cli.talking.words import Input, View, decode, shown
from wireway.framing import FrameError
from wireway.framing.names import framing_name, framing_of

__all__ = ["Screen"]

_BURST = 200
"""Lines that are shown at once; then the terminal gets time to draw them."""
_DRAWING = 0.25

_HELP = """\
What you type is sent when you press Enter. \\n, \\x00 and their like are bytes; \\\\ is a backslash.
Ctrl-D ends our half and listens on; a second one ends. Ctrl-C ends.
  :text  :hex        how what comes is shown
  :x 00 ff           send these bytes, as hex
  :file PATH         send what stands in a file, as one message
  :wait              what is there of an unfinished frame
  :framing NAME      cut in another way from here on
  :info              who it is, what went, what holds it up
  :half              end our half, listen on
  :q                 end
A text that begins with a colon: write two."""


class Screen:
    """One talk at a terminal."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._view = plan, plan.view
        self._cutter = Cutter(plan.framing)
        self._half: asyncio.TimerHandle | None = None
        self._colors = "NO_COLOR" not in os.environ
        self._sent = 0
        history, self._complaint = history_at(plan.history)
        depth = None if self._colors else ColorDepth.DEPTH_1_BIT
        self._session: PromptSession[str] = PromptSession(
            "> ", history=history, bottom_toolbar=self._toolbar, color_depth=depth, refresh_interval=0.5
        )
        self._line: Line | None = None

    async def run(self) -> None:
        """Until one side ends it.

        :raises Failure: it broke off, or what came is no frame.
        :raises KeyboardInterrupt: Ctrl-C.
        """
        with patch_stdout(raw=True):
            async with asyncio.timeout(self._plan.timeout) as patience, open_line(self._plan, self._note) as line:
                patience.reschedule(None)
                self._line = line
                if self._complaint is not None:
                    self._note(self._complaint)
                self._note(f"{framing_name(self._cutter.framing)} framing; :help tells what can be typed")
                await self._talk(line)

    async def _talk(self, line: Line) -> None:
        reading = asyncio.ensure_future(self._read(line))
        typing = asyncio.ensure_future(self._type(line))
        try:
            await asyncio.wait({reading, typing}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await typing  # its Ctrl-C is ours
                return
        finally:
            self._calm()
            for task in (typing, reading):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception, KeyboardInterrupt):
                    await task
        reading.result()

    # --- what comes -----------------------------------------------------------------------------------

    async def _read(self, line: Line) -> None:
        drawn = 0
        async for piece in line.pieces():
            self._calm()
            try:
                messages, broken = self._cutter.feed(piece), None
            except FrameError as error:
                messages, broken = error.messages, error
            for message in messages:
                drawn += self._came(message)
                if drawn >= _BURST:
                    drawn = 0
                    await asyncio.sleep(_DRAWING)
            if broken is not None:
                raise Failure(f"what came is no frame: {self._cutter.unfinished()}") from broken
            if self._cutter.waiting:
                self._half = asyncio.get_running_loop().call_later(HALF_AFTER, self._say_half)
        reason = await line.reason()
        if self._cutter.waiting:
            raise Failure(f"the connection ended within a frame: {self._cutter.unfinished()}")
        if reason.code not in IN_ORDER:
            raise Failure(f"the connection broke off: {reason}")
        self._note(f"closed: {reason}")

    def _came(self, message: bytes) -> int:
        rows = shown(message, self._view, lines=self._cutter.raw)
        size = "" if self._view is View.TEXT else f"{len(message):,} bytes"
        if size:
            self._print("<", size, "36")
        for row in rows:
            self._print(" " if size else "<", row, "" if size else "36")
        return len(rows)

    # --- what is typed --------------------------------------------------------------------------------

    async def _type(self, line: Line) -> None:
        for message in self._plan.sends:
            await self._send(line, message)
        while True:
            try:
                typed = await self._session.prompt_async()
            except EOFError:
                if line.half_closed:
                    return
                line.half_close()
                self._note("our half is closed; what still comes is shown. Ctrl-D again ends it")
                continue
            if typed.startswith(":") and not typed.startswith("::"):
                if await self._command(line, *typed[1:].strip().partition(" ")[::2]):
                    return
                continue
            try:
                message = decode(typed[1:] if typed.startswith("::") else typed, self._plan.input)
            except ValueError as error:
                self._note(str(error))
                continue
            await self._send(line, message + self._plan.eol)

    async def _send(self, line: Line, message: bytes) -> None:
        if line.half_closed:
            self._note("not sent: our half is closed")
            return
        try:
            frame = self._cutter.encode(message)
        except FrameError as error:
            self._note(f"not sent: {error}")
            return
        if await line.send(frame):
            self._sent += 1
        else:
            self._note("not sent: the connection is closed")

    async def _command(self, line: Line, name: str, rest: str) -> bool:
        """Returns whether that was the end."""
        doing: dict[str, Callable[[], None]] = {
            "help": lambda: self._note(_HELP),
            "text": lambda: self._look(View.TEXT),
            "hex": lambda: self._look(View.HEX),
            "wait": self._say_half,
            "half": lambda: line.half_close(),
            "info": lambda: self._info(line),
        }
        try:
            if name in ("q", "quit", "close"):
                return True
            if name == "x":
                await self._send(line, decode(rest, Input.HEX))
            elif name == "file":
                await self._send(line, _content(rest))
            elif name == "framing":
                for message in self._cutter.switch(framing_of(rest, None)):
                    self._came(message)
                self._note(f"{framing_name(self._cutter.framing)} framing from here on")
            elif name in doing:
                doing[name]()
            else:
                self._note(f":{name} is no command: :help lists them; to send it, write ::{name}")
        except (ValueError, OSError) as error:
            self._note(str(error))
        return False

    def _look(self, view: View) -> None:
        self._view = view
        self._note(f"shown as {view}")

    def _info(self, line: Line) -> None:
        stats = line.connection.stats
        lines = [
            f"{line.local or 'here'} to {line.peer or self._plan.url}, {framing_name(self._cutter.framing)} framing",
            f"messages: {self._sent:,} sent, {self._cutter.messages:,} came; "
            f"bytes: {stats['bytes_out']:,} sent, {stats['bytes_in']:,} came",
            line.connection.explain(),
        ]
        if line.tls is not None:
            shown_by = line.tls.peer_certificate
            lines.append(f"{line.tls.version} {line.tls.cipher}; certificate: {shown_by or 'none'}")
        self._note("\n".join(lines))

    # --- what is said ---------------------------------------------------------------------------------

    def _say_half(self) -> None:
        waits = self._cutter.waiting
        self._note(f"waits: {self._cutter.unfinished()}" if waits else "nothing waits: each byte was part of a message")

    def _calm(self) -> None:
        if self._half is not None:
            self._half.cancel()
            self._half = None

    def _toolbar(self) -> str:
        line, cutter = self._line, self._cutter
        if line is None:
            return " … "
        parts = [line.peer or self._plan.url, framing_name(cutter.framing), f"sent {self._sent:,}"]
        parts.append(f"came {cutter.messages:,}")
        if cutter.waiting:
            parts.append(f"half a frame: {cutter.waiting:,} bytes are here, {max(cutter.missing(), 0):,} missing")
        if line.half_closed:
            parts.append("our half is closed")
        return f" {' · '.join(parts)} "

    def _note(self, text: str) -> None:
        for row in text.splitlines():
            self._print("*", row, "2")

    def _print(self, mark: str, row: str, color: str) -> None:
        when = f"{stamp()} " if self._plan.timestamps else ""
        begin, end = (f"\x1b[{color}m", "\x1b[0m") if self._colors and color else ("", "")
        whole = color == "2"
        print(f"{begin}{when}{mark}{'' if whole else end} {row}{end if whole else ''}")


def _content(path: str) -> bytes:
    return Path(path).expanduser().read_bytes()
