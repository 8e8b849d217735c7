"""What must hold of every framing, and of every service that answers: checks that users run on their own.

Each raises `AssertionError` that names the message, the cut and what came instead. Knows the native decoder and the
public server; knows no test runner. Raised, not asserted: they hold under ``python -O`` too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from wireway._native import FrameSplitter
from wireway.errors import ConfigError
from wireway.framing import FrameError, Framing, Raw
from wireway.net.client import Client
from wireway.net.server import Server
from wireway.testing.serving import Served, served

__all__ = ["check_framing", "check_service"]

_MOST_CUTS = 4096


def check_framing(framing: Framing, messages: Iterable[bytes], *, refused: Iterable[bytes] = ()) -> None:
    """A framing, above all a `CustomFraming`, gives back what it was given, wherever TCP cuts the stream.

    :param framing: what is checked. `Raw` promises none of this.
    :param messages: messages that it can carry, at least one; their frames together at most some KiB, since every
        cut is tried (of a longer stream, 4,096 cuts evenly spread).
    :param refused: streams that must be refused, with `FrameError`, wherever they are cut.
    :raises AssertionError: it does not hold; the text says for which message and cut.

    What is checked: each message makes the round trip, alone and one after the other; cut in two at every byte, and
    byte by byte; nothing is left over; a stream that ends within a frame is seen to; and a message over `max_size` is
    refused, by the sender or the receiver.
    """
    if isinstance(framing, Raw):
        raise ConfigError("check_framing: Raw keeps no boundaries, so there is nothing to check")
    given = [bytes(message) for message in messages]
    if not given:
        raise ConfigError("check_framing: give at least one message")
    native = framing._native()
    frames = [FrameSplitter(native).encode(message) for message in given]
    for message, frame in zip(given, frames, strict=True):
        _same(framing, [frame], [message], "in one piece")
    stream = b"".join(frames)
    _same(framing, [stream], given, "all in one piece")
    for cut in range(1, len(stream), max(1, len(stream) // _MOST_CUTS)):
        _same(framing, [stream[:cut], stream[cut:]], given, f"cut after {cut} bytes")
    _same(framing, [stream[index : index + 1] for index in range(len(stream))], given, "byte by byte")
    for message, frame in zip(given, frames, strict=True):
        for end in range(1, len(frame), max(1, len(frame) // _MOST_CUTS)):
            splitter = FrameSplitter(native)
            early = splitter.feed(frame[:end])
            if early:
                raise AssertionError(f"{framing}: {end} of {len(frame)} bytes of {_short(message)} gave {early!r}")
            if not splitter.pending:
                raise AssertionError(f"{framing}: after {end} bytes of {_short(message)} nothing is missed")
    for stream in refused:
        _refused(framing, [stream], "in one piece")
        for cut in range(1, len(stream)):
            _refused(framing, [stream[:cut], stream[cut:]], f"cut after {cut} bytes")
    _check_limit(framing)


def _same(framing: Framing, pieces: Sequence[bytes], messages: list[bytes], how: str) -> None:
    splitter, found = FrameSplitter(framing._native()), list[bytes]()
    try:
        for piece in pieces:
            found += splitter.feed(piece)
    except FrameError as error:
        raise AssertionError(f"{framing}: {how}, the stream of {_short(*messages)} is refused: {error}") from error
    if found != messages:
        raise AssertionError(f"{framing}: {how}, {_short(*messages)} came as {_short(*found)}")
    if splitter.pending:
        raise AssertionError(f"{framing}: {how}, {splitter.pending} bytes are left over after {_short(*messages)}")


def _refused(framing: Framing, pieces: Sequence[bytes], how: str) -> None:
    splitter, found = FrameSplitter(framing._native()), list[bytes]()
    try:
        for piece in pieces:
            found += splitter.feed(piece)
    except FrameError:
        return
    raise AssertionError(f"{framing}: {how}, {_short(b''.join(pieces))} is taken, as {_short(*found)}")


def _check_limit(framing: Framing) -> None:
    limit = getattr(framing, "max_size", None)
    if limit is None or limit > 1 << 26:
        return
    try:
        frame = FrameSplitter(framing._native()).encode(bytes(limit + 1))
        FrameSplitter(framing._native()).feed(frame)
    except FrameError:
        return
    raise AssertionError(f"{framing}: a message of {limit + 1} bytes can be sent and received, over max_size")


def _short(*messages: bytes) -> str:
    texts = [repr(message[:40]) + ("…" if len(message) > 40 else "") for message in messages[:5]]
    return ", ".join(texts) + (f" and {len(messages) - 5} more" if len(messages) > 5 else "")


async def check_service(
    server: Server, exchange: Sequence[tuple[bytes, Sequence[bytes]]], *, within: float = 10.0
) -> None:
    """A service answers the same however the network treats it, and one broken client disturbs no other.

    :param server: with its handlers, not started; it is started and closed several times.
    :param exchange: what a client sends, message by message, and the messages that it then gets, in order. A
        service with a memory must answer a second client as it did the first.
    :param within: seconds for each exchange.
    :raises AssertionError: it does not; the text says which message, under which condition.

    What is checked: one message after the other; all sent at once; every stream cut into single bytes; several clients
    at once; a client that resets within a message, and one that sends what is no message, while another is served.
    """
    async with served(server, faults=True) as running:
        await _talk(await running.connect(), exchange, within, "one after the other")
        await _pipeline(await running.connect(), exchange, within, "all sent at once")
        with running.link.slice(1):
            await _talk(await running.connect(), exchange, within, "byte by byte")
        clients = [await running.connect() for _ in range(3)]
        await asyncio.gather(*(_talk(client, exchange, within, "several clients at once") for client in clients))
        await _disturb(running, exchange, within)


async def _disturb(running: Served, exchange: Sequence[tuple[bytes, Sequence[bytes]]], within: float) -> None:
    good = await running.connect()
    for name, data in (("is reset", b""), ("sent half a message", None), ("sent what is no message", b"\xff" * 64)):
        _reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        try:
            if data is None:
                frame = FrameSplitter(running.server._framing._native()).encode(exchange[0][0])
                data = frame[: max(1, len(frame) // 2)]
            writer.write(data)
            await _talk(good, exchange, within, f"while another client {name}")
        finally:
            writer.transport.abort()
    await _talk(good, exchange, within, "after other clients were reset")


async def _talk(
    client: Client, exchange: Sequence[tuple[bytes, Sequence[bytes]]], within: float, condition: str
) -> None:
    for message, answers in exchange:
        await client.send(message)
        for answer in answers:
            await _expect(client, answer, within, f"{condition}, after {_short(message)}")


async def _pipeline(
    client: Client, exchange: Sequence[tuple[bytes, Sequence[bytes]]], within: float, condition: str
) -> None:
    for message, _ in exchange:
        await client.send(message)
    for message, answers in exchange:
        for answer in answers:
            await _expect(client, answer, within, f"{condition}, for {_short(message)}")


async def _expect(client: Client, answer: bytes, within: float, condition: str) -> None:
    try:
        found = await asyncio.wait_for(client.receive(), within)
    except TimeoutError:
        raise AssertionError(f"{condition}: no answer within {within:g} s, expected {_short(answer)}") from None
    except ConnectionError as error:
        raise AssertionError(f"{condition}: {error}, expected {_short(answer)}") from error
    if found != answer:
        raise AssertionError(f"{condition}: the answer is {_short(found)}, expected {_short(answer)}")
