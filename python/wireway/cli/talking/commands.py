"""What can be typed beside messages: the lines that begin with a colon.

Owns the commands and their help. What they change is the screen's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from wireway.cli.talking.words import ENDS, Eol, Input, View, decode
from wireway.errors import ConfigError
from wireway.framing import FrameError
from wireway.framing.names import framing_of

if TYPE_CHECKING:
    from wireway.cli.talking.screen import Screen

__all__ = ["Commands"]

_HELP = """\
What you type is sent when you press Enter. \\n, \\x00 and their like are bytes; \\\\ is a backslash.
Ctrl-D ends our half and listens on; a second one ends. Ctrl-C ends. Ctrl-R searches what was typed before.
  :text  :hex        how what comes is shown
  :input NAME        how what is typed is read: text, escaped, hex
  :eol NAME          what follows each line under raw framing: none, lf, crlf
  :x 00 ff           send these bytes, as hex
  :file PATH         send what stands in a file, as one message
  :framing NAME      cut in another way from here on, what waits too
  :wait              what is there of an unfinished frame
  :explain           tell how each receive was cut, or no more
  :times             the time before each line, then also since the one before, then neither
  :info              who it is, what went, what holds it up
  :tcp               what the kernel knows of the connection
  :half              end our half, listen on
  :close             end this connection
  :q                 end
A text that begins with a colon: write two."""

_TIMES = (frozenset[str](), frozenset({"clock"}), frozenset({"clock", "elapsed"}))


class Commands:
    """Those of one screen."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._known: dict[str, Callable[[str], Awaitable[None] | None]] = {
            "help": lambda _: screen.note(_HELP),
            "h": lambda _: screen.note(_HELP),
            "?": lambda _: screen.note(_HELP),
            "text": lambda _: self._look(View.TEXT),
            "hex": lambda _: self._look(View.HEX),
            "input": self._input,
            "eol": self._eol,
            "x": lambda rest: screen.send(decode(rest, Input.HEX), text=False),
            "file": lambda rest: screen.send(_content(rest), text=True),
            "framing": self._framing,
            "wait": lambda _: screen.say_half(),
            "explain": lambda _: self._explain(),
            "times": lambda _: self._times(),
            "info": lambda _: self._info(),
            "tcp": lambda _: self._tcp(),
            "half": lambda _: self._half(),
            "close": lambda _: self._close(),
        }

    async def run(self, name: str, rest: str) -> bool:
        """Do it, or say why not. Returns whether that was the end."""
        if name in ("q", "quit", "exit"):
            return True
        if (doing := self._known.get(name)) is None:
            self._screen.note(f":{name} is no command: :help lists them; to send it, write ::{name}")
            return False
        try:
            waits = doing(rest.strip())
            if waits is not None:
                await waits
        except OSError as error:
            self._screen.note(f"{error.strerror}: {error.filename}" if error.filename else str(error))
        except ValueError as error:
            self._screen.note(str(error))
        return False

    def _look(self, view: View) -> None:
        self._screen.view = view
        self._screen.note(f"shown as {view}")

    def _input(self, name: str) -> None:
        if name not in (Input.TEXT, Input.ESCAPED, Input.HEX):
            raise ConfigError(f":input takes text, escaped or hex, not {name!r}")
        self._screen.input = Input(name)
        self._screen.note(f"what is typed is read as {name}")

    def _eol(self, name: str) -> None:
        if not self._screen.cutter.raw:
            raise ConfigError(f":eol is for raw framing: {self._screen.cut_name()} says itself where a message ends")
        if name not in list(Eol):
            raise ConfigError(f":eol takes none, lf or crlf, not {name!r}")
        self._screen.eol = ENDS[Eol(name)]
        self._screen.note(f"each line is sent with {name} behind it")

    def _framing(self, name: str) -> None:
        screen = self._screen
        self._only_bytes()
        framing = framing_of(name)
        broken = None
        try:
            messages = screen.cutter.switch(framing)
        except FrameError as error:
            messages, broken = error.messages, error
        # Under raw framing a typed line has an end; a message has none.
        screen.eol = ENDS[Eol.LF] if screen.cutter.raw else b""
        screen.note(f"{screen.cut_name()} from here on")
        screen.show(messages)
        if broken is not None:
            screen.lost()

    def _only_bytes(self) -> None:
        if self._screen.plan.web is not None:
            raise ConfigError("a WebSocket has messages of its own: there is nothing to be cut")

    def _explain(self) -> None:
        self._only_bytes()
        cutter = self._screen.cutter
        cutter.explains = not cutter.explains
        self._screen.note("each receive is explained" if cutter.explains else "receives are not explained any more")

    def _times(self) -> None:
        stamps = self._screen.stamps
        place = _TIMES.index(stamps.kinds) if stamps.kinds in _TIMES else 0
        stamps.kinds = _TIMES[(place + 1) % len(_TIMES)]
        self._screen.note(f"before each line: {' and '.join(sorted(stamps.kinds)) or 'nothing'}")

    def _info(self) -> None:
        screen, line = self._screen, self._screen.line
        if line is None:
            screen.note("there is no connection")
            return
        stats = line.connection.stats
        lines = [
            f"{line.local or 'here'} to {line.peer or screen.plan.url}, {screen.cut_name()}",
            f"messages: {screen.sent:,} sent, {screen.cutter.messages:,} came; "
            f"bytes: {stats['bytes_out']:,} sent, {stats['bytes_in']:,} came",
            line.connection.explain(),
        ]
        if line.tls is not None:
            alpn = f", ALPN {line.tls.alpn}" if line.tls.alpn else ""
            name = f", for {line.tls.server_name}" if line.tls.server_name else ""
            lines.append(f"{line.tls.version} {line.tls.cipher}{alpn}{name}")
            lines.append(f"certificate: {line.tls.peer_certificate or 'none'}")
        screen.note("\n".join(lines))

    def _tcp(self) -> None:
        screen, line = self._screen, self._screen.line
        info = None if line is None else line.connection.tcp_info()
        if info is None:
            screen.note("there is no TCP connection")
            return
        values = [f"{item.name}={_short(getattr(info, item.name))}" for item in fields(info)]
        rows, width = [""], 100
        for value in values:
            if rows[-1] and len(rows[-1]) + len(value) > width:
                rows.append("")
            rows[-1] += f"{value} "
        screen.note("\n".join(rows))

    def _half(self) -> None:
        if self._screen.line is None:
            raise ConfigError("there is no connection")
        self._screen.line.half_close()
        self._screen.note("our half is closed; what still comes is shown")

    def _close(self) -> None:
        if self._screen.line is None:
            raise ConfigError("there is no connection")
        self._screen.line.close()


def _short(value: object) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _content(path: str) -> bytes:
    if not path:
        raise ConfigError(":file takes the path of a file")
    return Path(path).expanduser().read_bytes()
