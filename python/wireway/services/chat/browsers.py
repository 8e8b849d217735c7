"""The chat's face for browsers, as an ASGI application: the page, and the WebSocket that it talks over.

Owns which pages may talk to the chat, and how much one browser may say. Knows no room.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from urllib.parse import urlsplit

from websockets.frames import Frame, Opcode

import wireway
from wireway.http import HttpOptions
from wireway.http.options import Receive, Scope, Send
from wireway.services.chat.limits import ChatLimits
from wireway.services.chat.rooms import Person

__all__ = ["Browsers", "as_frame"]

_KEEP_ALIVE = 65.0
_LONG_A_SECOND = 8
"""Of the longest messages."""
_TRY_LATER = 1013
_GOING_AWAY = 1001


def as_frame(data: bytes) -> bytes:
    """A text frame as a server sends it, to be shared by many connections."""
    return Frame(Opcode.TEXT, data).serialize(mask=False)


def options(heartbeat: float | None, largest: int) -> HttpOptions:
    """Those of the server: a browser that answers no ping for two heartbeats is gone."""
    rest = None if heartbeat is None else max(_KEEP_ALIVE, 3 * heartbeat)
    return HttpOptions(message_size=largest, keep_alive=rest, ping=heartbeat)


def slower(gate: wireway.Limits, limits: ChatLimits) -> wireway.Limits:
    """The limits of the server: bytes too have a rate, for a thousand pings of six bytes are one piece that comes."""
    if limits.rate is None or gate.byte_rate is not None:
        return gate
    a_second = _LONG_A_SECOND * limits.spoken(limits.text_length)
    return replace(gate, byte_rate=a_second, byte_burst=max(a_second, limits.frame()))


class Browsers:
    """The application.

    :param enter: somebody came over a connection; None if they may not.
    :param obey: they said something.
    :param leave: they went.
    :param rate: messages a second that one may send on average, and at once; who sends more waits.
    :param origins: whose pages may talk to it, beside its own.
    :raises ConfigError: one is none.
    """

    def __init__(
        self,
        enter: Callable[[wireway.Connection], Person | None],
        obey: Callable[[Person, bytes], None],
        leave: Callable[[Person], None],
        *,
        rate: float | None,
        origins: Sequence[str],
    ) -> None:
        self._enter, self._obey, self._leave = enter, obey, leave
        self._rate = rate
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        for origin in self._origins - {"*"}:
            if not re.fullmatch(r"https?://[^/\s]+", origin):
                raise wireway.ConfigError(
                    f"an origin is like https://example.org, not {origin!r}: a site without a path"
                )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            await _answer(scope, send)
            return
        await receive()
        if scope["path"] != "/chat":
            await send({"type": "websocket.close"})
        elif not self._may_talk(scope):
            text = b"pages of other sites may not talk to this chat, unless its --origin names them\n"
            await send({"type": "websocket.http.response.start", "status": 403, "headers": _PLAIN})
            await send({"type": "websocket.http.response.body", "body": text})
        else:
            await send({"type": "websocket.accept"})
            await self._talk(scope["extensions"]["wireway.connection"]["connection"], receive, send)

    async def _talk(self, conn: wireway.Connection, receive: Receive, send: Send) -> None:
        person = self._enter(conn)
        if person is None:
            await send({"type": "websocket.close", "code": _TRY_LATER, "reason": "the chat is full"})
            return
        loop = asyncio.get_running_loop()
        free = 0.0  # when all that was said is within the rate: many messages come in one piece
        try:
            while (event := await receive())["type"] == "websocket.receive":
                self._obey(person, (event.get("text") or "").encode())
                if self._rate is not None:
                    free = max(free, loop.time()) + 1 / self._rate
                    if (late := free - loop.time() - 1) > 0:
                        await asyncio.sleep(late)
        finally:
            self._leave(person)
        # If the browser has closed it already, this says nothing.
        await send({"type": "websocket.close", "code": _GOING_AWAY, "reason": "the server is going away"})

    def _may_talk(self, scope: Scope) -> bool:
        """Whether it is one of our own pages, or no page at all. Browsers say truthfully whose page connects (RFC 6455,
        10.2), and nothing else keeps a page of another site from a chat that its reader can reach."""
        fields = {name: value.decode("latin-1").lower() for name, value in scope["headers"]}
        origin, host = fields.get(b"origin"), fields.get(b"host", "")
        if origin is None or origin in self._origins or "*" in self._origins:
            return True
        try:
            site = urlsplit(origin)
            if site.netloc != host or not site.hostname:
                return False
            # A name that was turned to point at this machine is its owner's all the same (DNS rebinding).
            return _is_local(site.hostname) or not _is_local((scope.get("server") or ("",))[0])
        except ValueError:
            return False


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


# --- the page -------------------------------------------------------------------------------------------------------

_PLAIN = [(b"content-type", b"text/plain; charset=utf-8")]
_ANSWERS: dict[tuple[str, bool], tuple[int, bytes]] = {
    ("/", False): (405, b"GET and HEAD only\n"),
    ("/chat", True): (426, b"this is a WebSocket\n"),
    ("/chat", False): (426, b"this is a WebSocket\n"),
}


async def _answer(scope: Scope, send: Send) -> None:
    asks = scope["method"] in ("GET", "HEAD")
    if scope["path"] == "/" and asks:
        body, policy = _page()
        status, headers = (
            200,
            [
                (b"content-type", b"text/html; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"content-security-policy", policy),
                (b"referrer-policy", b"no-referrer"),
                (b"x-content-type-options", b"nosniff"),
            ],
        )
    else:
        status, body = _ANSWERS.get((scope["path"], asks), (404, b"there is only / here\n"))
        headers = [*_PLAIN, *([(b"allow", b"GET, HEAD")] if status == 405 else [])]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


@cache
def _page() -> tuple[bytes, bytes]:
    """The page, and what it may do: its own style, its own script, its own WebSocket."""
    page = files("wireway.services.chat").joinpath("page.html").read_bytes()

    def own(tag: bytes) -> bytes:
        found = re.search(b"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        assert found is not None
        return b"'sha256-%b'" % base64.b64encode(hashlib.sha256(found[1]).digest())

    return page, (
        b"default-src 'none'; style-src %b; script-src %b; connect-src 'self'; img-src data:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ) % (own(b"style"), own(b"script"))
