"""Owns how a trace is written: for people in text or hex, for programs as a JSON object a line. Knows no socket.

What peers send is shown with every control character escaped: it can not do anything to the terminal.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from wireway.cli.looking import printable
from wireway.cli.tracing.streams import Frame, Loss, Note, Piece, Stream

__all__ = ["Style", "as_json", "told"]

_TEXT = 200
"""Bytes of a message that are shown on its line."""
_HEX = 4096
"""Bytes of a frame that are shown in hex."""


class Style(StrEnum):
    """How frames are shown."""

    TEXT = "text"
    HEX = "hex"
    JSON = "json"


def told(stream: Stream, what: Frame | Piece | Loss | Note, style: Style, *, whole: bool = False) -> Iterator[str]:
    """The lines for something that happened.

    :param whole: all bytes, and not only the first.
    """
    who = stream.about["who"]
    match what:
        case Piece():
            return
        case Note(at, text):
            yield f"{_clock(at)} {who} {printable(text)}"
        case Loss(at, way, events, size):
            lost = f"{size:,} bytes" if size else f"{events:,} events"
            yield f"{_clock(at)} {who} {way:<3} {lost} were lost here: what reads this trace is too slow"
        case Frame(at, way, size, message):
            content = _content(what)
            text = f"{_clock(at)} {who} {way:<3} {_sizes(what)}"
            if what.pieces > 1:
                text += f", in {what.pieces} pieces"
            if len(what.data) < size:
                text += f", the first {size - len(what.data):,} were not seen"
            if style is Style.HEX:
                yield text
                yield from _dump(what.data, None if whole else _HEX)
                return
            if message == 0:
                yield text
                return
            shown = content if whole else content[:_TEXT]
            more = len(content) - len(shown)
            words = printable(shown.decode(errors="backslashreplace")) if shown else ""
            yield f"{text}: {words}" + (f" … {more:,} more" if more else "")


def as_json(stream: Stream, what: Frame | Piece | Loss | Note) -> str | None:
    """The same for programs; None for what they are not told."""
    about = stream.about
    line: dict[str, Any] = {"at": what.at / 1e9} | {name: about[name] for name in ("pid", "server", "id", "peer")}
    match what:
        case Piece():
            return None
        case Note(_, text, ended):
            line |= {"ended" if ended else "note": text.removeprefix("ended: ")}
        case Loss(_, way, events, size):
            line |= {"way": way, "lost": events, "lost_bytes": size}
        case Frame(_, way, size, message, data, skip, pieces):
            line |= {"way": way, "frame": size, "message": message, "header": skip, "pieces": pieces}
            line |= {"data": base64.b64encode(data).decode()}
    return json.dumps(line)


def _content(frame: Frame) -> bytes:
    if frame.skip is None or frame.message is None:
        return frame.data
    return frame.data[frame.skip : frame.skip + frame.message]


def _sizes(frame: Frame) -> str:
    size, message = frame.size, frame.message
    if message is None:
        return f"frame of {size:,}"
    if message == size:
        return f"{size:,} bytes" if size != 1 else "1 byte"
    if frame.skip is None:
        return f"frame of {size:,}, message of {message:,}"
    head = frame.data[: min(frame.skip, 16)].hex(" ")
    parts = [f"header {head}{' …' if frame.skip > 16 else ''}"] if frame.skip else []
    tail = frame.data[frame.skip + message :]
    parts.append(f"message of {message:,}")
    parts += [f"end {tail[:16].hex(' ')}"] if tail else []
    return f"frame of {size:,} = {' + '.join(parts)}"


def _clock(at: int) -> str:
    seconds, nanos = divmod(at, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{nanos // 1000:06}"


def _dump(data: bytes, most: int | None) -> Iterator[str]:
    shown = data if most is None else data[:most]
    for start in range(0, len(shown), 16):
        row = shown[start : start + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        left, right = row[:8].hex(" "), row[8:].hex(" ")
        yield f"    {start:06x}  {left:<23}  {right:<23}  |{text}|"
    if len(data) > len(shown):
        yield f"    … {len(data) - len(shown):,} more bytes"
