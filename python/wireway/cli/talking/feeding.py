"""Owns what goes to the peer in a pipe: the texts of `--send`, then stdin, then the end of our half.

Stdin goes on where it stood with the next connection. Knows nothing of what comes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from wireway.cli.failing import Failure
from wireway.cli.talking.cutting import Cutter
from wireway.cli.talking.line import Line
from wireway.cli.talking.plan import Plan
from wireway.cli.talking.streams import read_lines, read_pieces
from wireway.cli.talking.words import Input, decode

__all__ = ["Feed"]


class Feed:
    """What is sent, over one connection or several.

    :param stdin: a descriptor; None: nothing is read.
    """

    def __init__(self, plan: Plan, stdin: int | None, cutter: Cutter) -> None:
        self._plan, self._cutter = plan, cutter
        self._stdin = None if stdin is None else self._read(stdin)
        self._number = 0
        self.given = 0
        """Pieces that stdin gave."""
        self.hungry = False
        """It waits for stdin."""
        self.blocked = False
        """It waits for the peer to take something."""

    async def into(self, line: Line) -> None:
        """Send all, then end our half, if that is wanted. Returns early when the connection is over.

        :raises Failure: a line of stdin can not be sent.
        """
        for message in self._plan.sends:
            if not await self._send(line, self._cutter.encode(message)):
                return
        while self._stdin is not None:
            self.hungry = True
            try:
                message = await anext(self._stdin)
            except StopAsyncIteration:
                self._stdin = None
                break
            finally:
                self.hungry = False
            self.given += 1
            if not await self._send(line, self._frame(message)):
                return
        # A WebSocket has no half to be closed: who waits for silence ends it.
        if self._plan.half_close and not self._plan.expects and self._plan.web is None:
            line.half_close()

    async def _read(self, stdin: int) -> AsyncIterator[bytes]:
        pieces = read_pieces(stdin) if self._plan.input is Input.BYTES else read_lines(stdin)
        async for piece in pieces:
            yield piece

    def _frame(self, given: bytes) -> bytes:
        how = self._plan.input
        if how is Input.BYTES and self._cutter.raw:
            return given
        self._number += 1
        try:
            if how in (Input.HEX, Input.ESCAPED):
                given = decode(given.decode("utf-8", "surrogateescape"), how)
            return self._cutter.encode(given + self._plan.eol)
        except ValueError as error:
            what = "piece" if how is Input.BYTES else "line"
            raise Failure(f"{what} {self._number} of stdin: {error}") from None

    async def _send(self, line: Line, data: bytes) -> bool:
        self.blocked = True
        try:
            return await line.send(data, text=self._plan.input in (Input.TEXT, Input.ESCAPED))
        finally:
            self.blocked = False
