"""`StaticFiles`: the files of a folder, as an ASGI application.

Owns which file a path means, and what may be said of it: type, validators, ranges (RFC 9110, 13 and 14), versions that
were compressed before. Files are opened and read in threads: a slow disk stalls nobody else.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
import stat
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

from wireway.errors import ConfigError
from wireway.http.options import Receive, Scope, Send

__all__ = ["StaticFiles"]

_CHUNK = 256 * 1024
"""Bytes that are read at once. A file up to this size is read with its opening: one hop to a thread."""
_COMPRESSED = (("br", ".br"), ("zstd", ".zst"), ("gzip", ".gz"))
_TYPES = mimetypes.MimeTypes()
for _kind, _suffix in (("text/javascript", ".js"), ("text/javascript", ".mjs"), ("application/wasm", ".wasm")):
    _TYPES.add_type(_kind, _suffix)
for _kind, _suffix in (("image/webp", ".webp"), ("font/woff2", ".woff2"), ("image/avif", ".avif")):
    _TYPES.add_type(_kind, _suffix)

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class _Opened:
    """A file, opened. Who has it closes it."""

    fd: int
    size: int
    modified: float
    etag: str
    encoding: str | None
    first: bytes | None
    """All of it, if it is small."""

    def close(self) -> None:
        os.close(self.fd)


class StaticFiles:
    """Serves the files beneath a folder: GET and HEAD.

    A path never leads out of the folder: not by `..`, not by an escape, not by a link. Names that begin with a dot
    are not served. `index.html` stands for its folder. `name.br`, `name.zst` and `name.gz` beside a file are sent in
    its place to who takes them.

    :param folder: must be there.
    :param max_age: seconds that a client may keep a file without asking; 0: it asks each time, and `ETag` makes
        that cheap.
    :raises ConfigError: it is no folder.
    """

    def __init__(self, folder: str | Path, *, max_age: int = 0) -> None:
        self._root = Path(folder).resolve()
        if not self._root.is_dir():
            raise ConfigError(f"{str(folder)!r} is not a folder")
        self._cache = b"no-cache" if max_age == 0 else b"public, max-age=%d" % max_age

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close"})
                return
            raise ValueError(f"files have no {scope['type']}")
        if scope["method"] not in ("GET", "HEAD"):
            await _say(send, 405, "Method Not Allowed", [(b"allow", b"GET, HEAD")])
            return
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        accepted = _codings(headers.get(b"accept-encoding", ""))
        found = await asyncio.to_thread(self._open, path, accepted)
        if isinstance(found, str):
            where = quote(found) + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
            await _say(send, 308, "Permanent Redirect", [(b"location", where.encode())])
            return
        if found is None:
            await _say(send, 404, "Not Found")
            return
        try:
            await self._answer(found, path, headers, send, body=scope["method"] == "GET")
        finally:
            found.close()

    # --- which file -------------------------------------------------------------------------------------

    def _open(self, path: str, accepted: frozenset[str]) -> _Opened | str | None:
        """The file, opened; where to go instead; or None. Runs in a thread."""
        parts = path.split("/")
        if not path.startswith("/") or "\0" in path or any(part.startswith(".") for part in parts):
            return None
        try:
            place = self._root.joinpath(*parts).resolve(strict=True)
            if not place.is_relative_to(self._root):
                return None
            if place.is_dir():
                if not path.endswith("/"):
                    # Of slashes at the front one stays: two would name another host.
                    return "/" + path.strip("/") + "/"
                place = (place / "index.html").resolve(strict=True)
                if not place.is_relative_to(self._root):
                    return None
            elif path.endswith("/"):
                return None
        except (OSError, RuntimeError):
            return None
        for coding, suffix in _COMPRESSED:
            if coding in accepted and (opened := _opened(Path(f"{place}{suffix}"), coding)) is not None:
                return opened
        return _opened(place, None)

    # --- what is said of it -----------------------------------------------------------------------------

    async def _answer(self, file: _Opened, path: str, headers: dict[bytes, str], send: Send, *, body: bool) -> None:
        kind, _ = _TYPES.guess_type(path if not path.endswith("/") else "index.html")
        kind = kind or "application/octet-stream"
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        said: Headers = [
            (b"etag", file.etag.encode()),
            (b"last-modified", formatdate(file.modified, usegmt=True).encode()),
            (b"cache-control", self._cache),
            (b"vary", b"accept-encoding"),
        ]
        if _is_known(file, headers):
            await send({"type": "http.response.start", "status": 304, "headers": said})
            await send({"type": "http.response.body"})
            return
        said += [
            (b"content-type", kind.encode()),
            (b"accept-ranges", b"bytes"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if file.encoding is not None:
            said.append((b"content-encoding", file.encoding.encode()))
        span = _range(headers, file)
        if span == "none of it":
            size = b"bytes */%d" % file.size
            await _say(send, 416, "Range Not Satisfiable", [(b"content-range", size)])
            return
        start, end, status = 0, file.size, 200
        if isinstance(span, tuple):
            start, end, status = *span, 206
            said.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, file.size)))
        said.append((b"content-length", b"%d" % (end - start)))
        await send({"type": "http.response.start", "status": status, "headers": said})
        if not body:
            await send({"type": "http.response.body"})
        elif file.first is not None:
            await send({"type": "http.response.body", "body": file.first[start:end]})
        else:
            await self._send_pieces(file, start, end, send)

    async def _send_pieces(self, file: _Opened, start: int, end: int, send: Send) -> None:
        at = start
        while at < end:
            piece = await asyncio.to_thread(os.pread, file.fd, min(_CHUNK, end - at), at)
            if not piece:
                raise OSError("the file became shorter while it was sent")
            at += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": at < end})


def _opened(place: Path, encoding: str | None) -> _Opened | None:
    try:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            os.close(fd)
            return None
        first = os.pread(fd, about.st_size, 0) if about.st_size <= _CHUNK else None
    except BaseException:
        os.close(fd)
        raise
    if first is not None and len(first) < about.st_size:
        first = None
    etag = f'"{about.st_mtime_ns:x}-{about.st_size:x}{f"-{encoding}" if encoding else ""}"'
    return _Opened(fd, about.st_size, about.st_mtime, etag, encoding, first)


def _codings(text: str) -> frozenset[str]:
    """The content codings that a client takes; `q=0` forbids one."""
    taken = set()
    for word in text.lower().split(","):
        coding, _, rest = word.strip().partition(";")
        quality = rest.strip().removeprefix("q=").strip()
        try:
            if not quality or float(quality) > 0:
                taken.add(coding.strip())
        except ValueError:
            continue
    return frozenset(taken)


def _is_known(file: _Opened, headers: dict[bytes, str]) -> bool:
    """Whether the client has this very file: `If-None-Match`, and only without it `If-Modified-Since`."""
    if (known := headers.get(b"if-none-match")) is not None:
        return known.strip() == "*" or any(tag.strip().removeprefix("W/") == file.etag for tag in known.split(","))
    if (since := headers.get(b"if-modified-since")) is not None:
        try:
            return int(file.modified) <= parsedate_to_datetime(since).timestamp()
        except (TypeError, ValueError):
            return False
    return False


def _range(headers: dict[bytes, str], file: _Opened) -> tuple[int, int] | str | None:
    """The first and the last-but-one byte that are wanted; None: all. Several ranges at once are answered with all."""
    text = headers.get(b"range")
    if text is None or not text.startswith("bytes=") or "," in text:
        return None
    if (condition := headers.get(b"if-range")) is not None and condition.strip() != file.etag:
        return None
    first, dash, last = text.removeprefix("bytes=").strip().partition("-")
    if not dash or not all(part.isascii() and (part.isdigit() or not part) for part in (first, last)):
        return None
    if not first:
        if not last:
            return None
        wanted = min(int(last), file.size)
        return (file.size - wanted, file.size) if wanted else "none of it"
    start = int(first)
    end = min(int(last) + 1, file.size) if last else file.size
    if last and int(last) < start:
        return None
    return (start, end) if start < file.size else "none of it"


async def _say(send: Send, status: int, text: str, headers: Headers | None = None) -> None:
    said = [*(headers or []), (b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": said})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})
