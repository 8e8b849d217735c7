"""The error of bytes that are no frame, and of messages that can not be framed."""

from __future__ import annotations

from wireway.errors import WirewayError

__all__ = ["FrameError"]


class FrameError(WirewayError, ValueError):
    """Bytes that are no frame, or a message that the framing can not send; the text says why.

    A cut function of `CustomFraming` may raise it too: then its text is the reason why the connection is closed.

    :param text: what is wrong, for people.
    :param code: the close code of it: ``"bad-frame"`` or ``"frame-too-large"``.
    :param messages: the messages that were whole before the error.
    """

    code: str
    messages: list[bytes]

    def __init__(self, text: str, code: str = "bad-frame", messages: list[bytes] | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.messages = [] if messages is None else messages
