"""What is sent: letters of the size that was asked for, or what a person wrote. In a framing that can carry it."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase, digits

import wireway
from wireway.cli.failing import Exit, Failure
from wireway.cli.talking.words import unescape
from wireway.framing.names import framing_of
from wireway.units import size as size_of

__all__ = ["bytes_of", "framed_message"]

SIZE = 100
"""Bytes of a message unless told."""
LARGEST = 64 * 1024 * 1024


def bytes_of(text: str, option: str) -> bytes:
    r"""What a person wrote, ``\n`` and ``\x00`` are bytes; or the file ``@PATH``.

    :raises ConfigError: an escape is none.
    :raises Failure: the file can not be read.
    """
    if not text.startswith("@"):
        return unescape(text)
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        status = Exit.PERMISSION if isinstance(error, PermissionError) else Exit.MISSING
        raise Failure(f"{option} {text}: {error.strerror}", status) from None


def framed_message(name: str, size: str | None, text: str | None) -> tuple[wireway.Framing, bytes]:
    """The framing of that name, and a message in it.

    :param size: what a person wrote for its bytes.
    :param text: what a person wrote for its content.
    :raises ConfigError: there is no such framing, size or escape.
    :raises Failure: they do not fit together.
    """
    framing = framing_of(name)
    if text is not None and size is not None:
        raise Failure("--message and --size contradict each other: give one of them", Exit.USAGE)
    if text is not None:
        content = bytes_of(text, "--message")
        if not content:
            raise Failure("--message is empty: a message has at least one byte", Exit.USAGE)
    else:
        fixed = framing.size if isinstance(framing, wireway.FixedLength) else SIZE
        length = fixed if size is None else size_of(size)
        if not 1 <= length <= LARGEST:
            raise Failure(f"--size is 1 byte to 64 MiB, not {size}", Exit.USAGE)
        content = _letters(framing, length)
    if not isinstance(framing, wireway.Raw | wireway.FixedLength | wireway.CustomFraming):
        # Those of tests and of real devices alike are larger than the caution of a server allows.
        framing = framing_of(name, max_size=max(framing.max_size, len(content)))
    return framing, content


def _letters(framing: wireway.Framing, size: int) -> bytes:
    """Content that the framing takes; a byte of it that was lost or moved is seen."""
    if isinstance(framing, wireway.Mbap):
        # "Read holding registers" of unit 1, transaction 1; what follows is of no meaning to a device.
        head = b"\0\1\0\0" + max(size - 6, 0).to_bytes(4, "big")[-2:] + b"\1\3"
        return (head + ascii_lowercase.encode() * (size // 26 + 1))[:size]
    avoided = framing.delimiter if isinstance(framing, wireway.Delimiter) else b""
    alphabet = [byte for byte in ascii_lowercase.encode() if byte not in avoided] or list(digits.encode())
    return (bytes(alphabet) * (size // len(alphabet) + 1))[:size]
