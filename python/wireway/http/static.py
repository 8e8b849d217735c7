"""`StaticFiles`: the files of a folder, as an ASGI application.

Owns which file a path means, and what is said of it: type, validators, ranges, versions that were compressed before.
What a client asks for is read in `conditions.py`. Files are opened and read in threads: a slow disk stalls nobody else.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import mimetypes
import os
import secrets
import stat
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

from wireway.errors import ConfigError
from wireway.http.conditions import Fields, Span, codings, precondition, ranges
from wireway.http.options import Receive, Scope, Send
from wireway.http.sending import PIECE, FileChangedError, send_pieces

__all__ = ["StaticFiles"]

logger = logging.getLogger("wireway.http")

_COMPRESSED = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
_TYPES = mimetypes.MimeTypes()
for _kind, _suffixes in {
    "application/json": ".map",
    "application/manifest+json": ".webmanifest",
    "application/toml": ".toml",
    "application/wasm": ".wasm",
    "application/yaml": ".yaml .yml",
    "audio/ogg": ".ogg .opus",
    "font/otf": ".otf",
    "font/ttf": ".ttf",
    "font/woff": ".woff",
    "font/woff2": ".woff2",
    "image/avif": ".avif",
    "image/vnd.microsoft.icon": ".ico",
    "image/webp": ".webp",
    "text/javascript": ".js .mjs",
    "text/markdown": ".md",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}.items():
    for _suffix in _suffixes.split():
        _TYPES.add_type(_kind, _suffix)
_OF_CODING = {"gzip": "application/gzip", "br": "application/octet-stream", "bzip2": "application/x-bzip2"}
_OF_CODING |= {"xz": "application/x-xz", "compress": "application/x-compress"}
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO, errno.ENODEV)
_FORBIDDEN = (errno.EACCES, errno.EPERM)

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class _Opened:
    """A file, opened. Who has it closes it."""

    fd: int
    size: int
    modified: int
    """Seconds since 1970."""
    etag: str
    encoding: str | None
    first: bytes | None
    """All of it, if it is small."""

    def close(self) -> None:
        os.close(self.fd)


class StaticFiles:
    """Serves the files beneath a folder: GET and HEAD.

    A path never leads out of the folder: not by `..`, not by an escape, not by a link. Names that begin with a dot
    are not served, but for `/.well-known/` (RFC 8615). `index.html` stands for its folder. `name.br`, `name.zst` and
    `name.gz` beside a file are sent in its place to who takes them.

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
                await receive()
                await send({"type": "websocket.close"})
                return
            raise ValueError(f"files have no {scope['type']}")
        if scope["method"] not in ("GET", "HEAD"):
            await _say(send, 405, "Method Not Allowed", [(b"allow", b"GET, HEAD")])
            return
        root: str = scope.get("root_path", "")
        path: str = scope["path"].removeprefix(root)
        fields: dict[bytes, str] = {}
        for name, value in scope["headers"]:
            text = value.decode("latin-1")
            fields[name] = f"{fields[name]}, {text}" if name in fields else text
        wanted = codings(fields.get(b"accept-encoding"), _COMPRESSED)
        try:
            found = await asyncio.to_thread(self._open, path, wanted)
        except OSError as error:
            if error.errno not in _FORBIDDEN:
                raise
            logger.warning("%s can not be read: %s", error.filename, error.strerror)
            await _say(send, 403, "Forbidden")
            return
        if isinstance(found, str):
            where = quote(root + found) + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
            await _say(send, 308, "Permanent Redirect", [(b"location", where.encode())])
            return
        if found is None:
            await _say(send, 404, "Not Found")
            return
        try:
            await self._answer(found, path, fields, send, is_head=scope["method"] == "HEAD")
        except FileChangedError as error:
            # Its client gets an answer that breaks off.
            logger.warning("%s became shorter while it was sent: %s", path, error)
        finally:
            found.close()

    # --- which file -------------------------------------------------------------------------------------

    def _open(self, path: str, wanted: list[str]) -> _Opened | str | None:
        """The file, opened; where to go instead; or None. Runs in a thread.

        :raises OSError: it is there, and can not be read.
        """
        parts = path.split("/")
        hidden = any(part.startswith(".") for part in parts if part != ".well-known")
        if not path.startswith("/") or "\0" in path or hidden or ".well-known" in parts[2:]:
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
        except (RuntimeError, UnicodeEncodeError):  # links in a circle; half a character
            return None
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise
        for coding in wanted:
            try:
                opened = _opened(Path(f"{place}{_COMPRESSED[coding]}"), coding)
            except OSError as error:
                if error.errno not in _FORBIDDEN:
                    raise
                continue
            if opened is not None:
                return opened
        return _opened(place, None)

    # --- what is said of it -----------------------------------------------------------------------------

    async def _answer(self, file: _Opened, path: str, fields: Fields, send: Send, *, is_head: bool) -> None:
        said: Headers = [
            (b"etag", file.etag.encode()),
            (b"last-modified", formatdate(file.modified, usegmt=True).encode()),
            (b"cache-control", self._cache),
            (b"vary", b"accept-encoding"),
        ]
        outcome = precondition(fields, file.etag, file.modified)
        if outcome == 412:
            await _say(send, 412, "Precondition Failed")
            return
        if outcome == 304:
            await send({"type": "http.response.start", "status": 304, "headers": said})
            await send({"type": "http.response.body"})
            return
        kind = _type_of(path)
        said += [(b"accept-ranges", b"bytes"), (b"x-content-type-options", b"nosniff")]
        if file.encoding is not None:
            said.append((b"content-encoding", file.encoding.encode()))
        # A range has a meaning for GET only (RFC 9110, 14.2).
        spans = None if is_head else ranges(fields, file.etag, file.modified, file.size)
        if spans is None:
            await self._send_span(file, (0, file.size), send, 200, [*said, (b"content-type", kind)], is_head=is_head)
        elif not spans:
            await _say(send, 416, "Range Not Satisfiable", [(b"content-range", b"bytes */%d" % file.size)])
        elif len(spans) == 1:
            said += [(b"content-type", kind), (b"content-range", _content_range(spans[0], file.size))]
            await self._send_span(file, spans[0], send, 206, said, is_head=False)
        else:
            await self._send_several(file, spans, send, said, kind)

    async def _send_span(
        self, file: _Opened, span: Span, send: Send, status: int, said: Headers, *, is_head: bool
    ) -> None:
        start, end = span
        said = [*said, (b"content-length", b"%d" % (end - start))]
        await send({"type": "http.response.start", "status": status, "headers": said})
        if is_head:
            await send({"type": "http.response.body"})
        elif file.first is not None:
            await send({"type": "http.response.body", "body": file.first[start:end]})
        else:
            await send_pieces(file.fd, start, end, send)

    async def _send_several(self, file: _Opened, spans: list[Span], send: Send, said: Headers, kind: bytes) -> None:
        """Several ranges, as `multipart/byteranges` (RFC 9110, 14.6)."""
        boundary = secrets.token_hex(12).encode()
        fronts = [
            b"\r\n--%b\r\ncontent-type: %b\r\ncontent-range: %b\r\n\r\n"
            % (boundary, kind, _content_range(span, file.size))
            for span in spans
        ]
        last = b"\r\n--%b--\r\n" % boundary
        size = sum(len(front) + end - start for front, (start, end) in zip(fronts, spans, strict=True)) + len(last)
        said = [
            *said,
            (b"content-type", b"multipart/byteranges; boundary=" + boundary),
            (b"content-length", b"%d" % size),
        ]
        await send({"type": "http.response.start", "status": 206, "headers": said})
        for front, (start, end) in zip(fronts, spans, strict=True):
            await send({"type": "http.response.body", "body": front, "more_body": True})
            await send_pieces(file.fd, start, end, send, more=True)
        await send({"type": "http.response.body", "body": last})


def _content_range(span: Span, size: int) -> bytes:
    return b"bytes %d-%d/%d" % (span[0], span[1] - 1, size)


def _type_of(path: str) -> bytes:
    """The media type of a path. What is compressed by its name is that: to a client `x.tar.gz` is no tar archive."""
    name = path.rpartition("/")[2] or "index.html"
    # The whole suffixes only: `guess_type` takes names for URLs.
    kind, coding = _TYPES.guess_type("x" + name.replace(":", "-").replace(";", "-"))
    if coding is not None:
        kind = _OF_CODING.get(coding, "application/octet-stream")
    kind = kind or "application/octet-stream"
    return (kind + "; charset=utf-8" if kind.startswith("text/") else kind).encode()


def _opened(place: Path, encoding: str | None) -> _Opened | None:
    try:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            os.close(fd)
            return None
        first = os.pread(fd, about.st_size, 0) if about.st_size <= PIECE else None
    except BaseException:
        os.close(fd)
        raise
    if first is not None and len(first) < about.st_size:
        first = None
    etag = f'"{about.st_mtime_ns:x}-{about.st_size:x}{f"-{encoding}" if encoding else ""}"'
    return _Opened(fd, about.st_size, int(about.st_mtime), etag, encoding, first)


async def _say(send: Send, status: int, text: str, headers: Headers | None = None) -> None:
    said = [*(headers or []), (b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": said})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})
