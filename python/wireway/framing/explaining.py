"""`explain`: how bytes are cut, frame by frame, and what is missing of the last; for people who debug half a packet.

Where frames end the native half says, as it does for a connection. What stands here is how to show it.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields

from wireway._native import FrameSplitter
from wireway.errors import ConfigError
from wireway.framing.custom import CustomFraming
from wireway.framing.failure import FrameError
from wireway.framing.hints import hint_for
from wireway.framing.kinds import Framing
from wireway.framing.lengths import LengthPrefix, Varint
from wireway.framing.plain import Delimiter, FixedLength, Lines, Raw
from wireway.framing.protocols import Mbap, Tpkt

__all__ = ["ExplainedFrame", "Explanation", "explain"]

_SHOWN_BYTES = 16
_SHOWN_FRAMES = 50


@dataclass(frozen=True, slots=True)
class ExplainedFrame:
    """One whole frame.

    :param offset: where it begins, in bytes from the first.
    :param header: the bytes up to the end of the header; also part of ``message`` where they are not stripped.
    :param length: what the length field says; None for framings without one.
    :param message: what the handler gets.
    :param size: bytes of the frame, header and delimiter included.
    """

    offset: int
    header: bytes
    length: int | None
    message: bytes
    size: int

    def __str__(self) -> str:
        return f"at {self.offset:,}: {_head(self.header, self.length)}message of {_bytes(len(self.message))}" + (
            f": {_show(self.message)}" if self.message else ""
        )


@dataclass(frozen=True, slots=True)
class Explanation:
    """How some bytes are cut. `str()` is the text for people.

    :param framing: what cuts them.
    :param size: how many they are.
    :param frames: the whole frames at their front.
    :param rest: the bytes after those: a frame that has begun, or what is no frame.
    :param missing: how many bytes at least the begun frame still needs; 0 when none has begun, or for an error.
    :param problem: what is missing of the begun frame, or why ``rest`` is no frame; None when nothing is left over.
    :param failed: ``rest`` is no frame: a connection would be closed.
    :param hint: what may be behind it, if it looks like a common mistake.
    """

    framing: Framing
    size: int
    frames: tuple[ExplainedFrame, ...]
    rest: bytes
    missing: int
    problem: str | None
    failed: bool
    hint: str | None

    def __str__(self) -> str:
        lines = [f"{_brief(self.framing)}, {_bytes(self.size)}:"]
        lines += [f"  {frame}" for frame in self.frames[:_SHOWN_FRAMES]]
        if (more := len(self.frames) - _SHOWN_FRAMES) > 0:
            lines.append(f"  … and {more:,} more whole frame{'s' if more > 1 else ''}")
        if self.problem is None:
            lines.append("  nothing is left over")
        else:
            header, length = _header(self.framing, self.rest)
            word = "error: " if self.failed else ""
            lines.append(f"  at {self.size - len(self.rest):,}: {_head(header, length)}{word}{self.problem}")
            lines.append(f"  left over: {_bytes(len(self.rest))}: {_show(self.rest)}")
        if self.hint is not None:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


def explain(framing: Framing, data: bytes | bytearray | memoryview) -> Explanation:
    """Show how ``data``, the first bytes of a stream, would be cut.

    ``print(explain(LengthPrefix(4), data))`` says for each frame where it begins, its header, the length read and
    the first bytes of its message; for what is left over, what is missing or wrong, and which common mistake it looks
    like: another protocol, the other byte order. May be called from any thread.

    :raises ConfigError: ``framing`` is none.
    """
    if not isinstance(framing, Framing):
        raise ConfigError(f"explain: framing is {framing!r}, it must be a framing, such as wireway.LengthPrefix(4)")
    native = framing._native()
    data = bytes(data)
    view = memoryview(data)
    frames: list[ExplainedFrame] = []
    offset, missing, problem, failed = 0, 0, None, False
    while offset < len(data):
        try:
            seen = FrameSplitter.look(native, view[offset:])
        except FrameError as error:
            problem, failed = str(error), True
            break
        rest = data[offset : offset + _reach(framing)]
        if isinstance(seen, int):
            missing = seen - (len(data) - offset)
            problem = _wanted(framing, missing, len(data) - offset)
            break
        skip, body, tail = seen
        size = skip + body + tail
        header, length = _header(framing, rest)
        if (missing := max(offset + size - len(data), 0)) > 0:
            in_header = max(skip - (len(data) - offset), 0)
            part = f"header of {skip:,}" if in_header else f"body of {body:,}"
            problem = f"needs {_more(in_header or missing)} of the {part}"
            break
        message = data[offset + skip : offset + skip + body]
        frames.append(ExplainedFrame(offset, header or data[offset : offset + skip], length, message, size))
        offset += size
    rest = data[offset:]
    hint = hint_for(framing, data, rest, failed=failed) if problem is not None else None
    return Explanation(framing, len(data), tuple(frames), rest, missing, problem, failed, hint)


def _reach(framing: Framing) -> int:
    """The longest header, bytes."""
    return framing.offset + framing.width if isinstance(framing, LengthPrefix) else 10


def _header(framing: Framing, data: bytes) -> tuple[bytes, int | None]:
    """The header at the front of ``data`` and what its length field says, if it is all there."""
    match framing:
        case LengthPrefix():
            end = framing.offset + framing.width
            field = data[framing.offset : end]
            whole = len(field) == framing.width
            return data[:end], int.from_bytes(field, framing.byteorder) if whole else None
        case Varint():
            for end, byte in enumerate(data[: framing.max_bytes], 1):
                if byte < 0x80:
                    return data[:end], sum((digit & 0x7F) << 7 * place for place, digit in enumerate(data[:end]))
            return data[: framing.max_bytes], None
        case Tpkt():
            return data[:4], int.from_bytes(data[2:4]) if len(data) >= 4 else None
        case Mbap():
            return data[:7], int.from_bytes(data[4:6]) if len(data) >= 6 else None
        case _:
            return b"", None


def _wanted(framing: Framing, missing: int, have: int) -> str:
    """What it takes before more can be said."""
    match framing:
        case Lines():
            return f"no end of line in {_bytes(have)}, at most {framing.max_size:,} are allowed"
        case Delimiter():
            return f"no {framing.delimiter!r} in {_bytes(have)}, at most {framing.max_size:,} are allowed"
        case CustomFraming():
            return f"the cut function needs {_more(missing)}"
        case LengthPrefix():
            return f"needs {_more(missing)} of the header of {framing.offset + framing.width}"
        case Varint():
            return "needs at least 1 more byte of the length"
        case Tpkt():
            return f"needs {_more(missing)} of the header of 4"
        case Mbap():
            return f"needs {_more(missing)} of the header, up to its length"
        case Raw() | FixedLength():
            return f"needs {_more(missing)}"


def _bytes(count: int) -> str:
    return f"{count:,} byte{'' if count == 1 else 's'}"


def _more(count: int) -> str:
    return f"{count:,} more byte{'' if count == 1 else 's'}"


def _head(header: bytes, length: int | None) -> str:
    if not header:
        return ""
    dots = " …" if len(header) > _SHOWN_BYTES else ""
    said = "" if length is None else f"the length field says {length:,}, "
    return f"header {header[:_SHOWN_BYTES].hex(' ')}{dots}, {said}"


def _show(data: bytes) -> str:
    """The first bytes, as hex and as text."""
    front = data[:_SHOWN_BYTES]
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in front)
    dots = " …" if len(data) > _SHOWN_BYTES else ""
    return f"{front.hex(' ')}{dots}  |{text}|"


def _brief(framing: Framing) -> str:
    """The framing as one would write it: without what is as it is unless told."""
    parts = []
    for item in fields(framing):
        value = getattr(framing, item.name)
        if not item.kw_only or item.default is MISSING or value != item.default:
            shown = getattr(value, "__name__", None) or repr(value)
            parts.append(f"{item.name}={shown}" if item.kw_only else shown)
    return f"{type(framing).__name__}({', '.join(parts)})"
