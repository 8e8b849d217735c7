"""Files: which one a path means, what is said of it, and what is never given out."""

from __future__ import annotations

import asyncio
import email
import errno
import gzip
import os
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

import wireway
from conftest import Run
from support.talking import peer, serving
from wireway.http import StaticFiles

LARGE = bytes(range(256)) * 5000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_text("<h1>front</h1>")
    (root / "sub" / "index.html").write_text("<h1>sub</h1>")
    (root / "a b.txt").write_text("0123456789")
    (root / "app.js").write_text("let a = 1;")
    (root / "app.js.gz").write_bytes(gzip.compress(b"let a = 1;"))
    (root / "large.bin").write_bytes(LARGE)
    (root / ".secret").write_text("secret")
    (root / "empty").mkdir()
    (tmp_path / "outside.txt").write_text("outside")
    (root / "link.txt").symlink_to(tmp_path / "outside.txt")
    (root / "inside.txt").symlink_to(root / "a b.txt")
    os.mkfifo(root / "fifo")
    return root


Answer = tuple[int, dict[bytes, bytes], bytes]


def ask(folder: Path, path: str, method: str = "GET", *, root: str = "", query: bytes = b"", **headers: str) -> Answer:
    """The answer to a request, without a socket."""
    events: list[Any] = []

    async def send(event: Any) -> None:
        events.append(event)

    async def receive() -> Any:
        raise AssertionError("a file needs no body")

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root,
        "query_string": query,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(StaticFiles(folder)(scope, receive, send))
    start, *bodies = events
    fields = dict(start["headers"])
    assert len(fields) == len(start["headers"]), "a field stands there twice"
    assert [event.get("more_body", False) for event in bodies] == [True] * (len(bodies) - 1) + [False]
    return start["status"], fields, b"".join(event.get("body", b"") for event in bodies)


def test_files_and_their_types(folder: Path) -> None:
    for path, body, kind in (
        ("/", b"<h1>front</h1>", b"text/html; charset=utf-8"),
        ("/index.html", b"<h1>front</h1>", b"text/html; charset=utf-8"),
        ("/sub/", b"<h1>sub</h1>", b"text/html; charset=utf-8"),
        ("/a b.txt", b"0123456789", b"text/plain; charset=utf-8"),
        ("/inside.txt", b"0123456789", b"text/plain; charset=utf-8"),
        ("/app.js", b"let a = 1;", b"text/javascript; charset=utf-8"),
        ("/large.bin", LARGE, b"application/octet-stream"),
    ):
        status, fields, got = ask(folder, path)
        assert (status, got, fields[b"content-type"]) == (200, body, kind)
        assert int(fields[b"content-length"]) == len(body)
        assert fields[b"accept-ranges"] == b"bytes"


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/../outside.txt", "/sub/../../outside.txt", "/..", "//../outside.txt", "/./index.html"),
        *(
            "/.secret",
            "/link.txt",
            "/fifo",
            "/empty/",
            "/a b.txt/",
            "/a b.txt/x",
            "/nul\0",
            "nothing",
            "/" + "x" * 5000,
        ),
        "/sub/..%2f..%2foutside.txt",
    ],
)
def test_what_is_never_given_out(folder: Path, path: str) -> None:
    assert ask(folder, path)[0] == 404


def test_a_folder_without_its_slash(folder: Path) -> None:
    assert ask(folder, "/sub")[:1] == (308,)
    assert ask(folder, "/sub")[1][b"location"] == b"/sub/"
    assert ask(folder, "//sub")[1][b"location"] == b"/sub/"  # not //sub/, which names another host


def test_methods(folder: Path) -> None:
    status, fields, body = ask(folder, "/a b.txt", "HEAD")
    assert (status, fields[b"content-length"], body) == (200, b"10", b"")
    status, fields, _ = ask(folder, "/a b.txt", "POST")
    assert (status, fields[b"allow"]) == (405, b"GET, HEAD")


def test_who_has_it_already(folder: Path) -> None:
    _, fields, _ = ask(folder, "/a b.txt")
    etag = fields[b"etag"].decode()
    for known in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        status, said, body = ask(folder, "/a b.txt", if_none_match=known)
        assert (status, said[b"etag"], body) == (304, fields[b"etag"], b"")
        assert b"content-length" not in said
    assert ask(folder, "/a b.txt", if_none_match='"other"')[0] == 200
    modified = (folder / "a b.txt").stat().st_mtime
    assert ask(folder, "/a b.txt", if_modified_since=formatdate(modified + 1, usegmt=True))[0] == 304
    assert ask(folder, "/a b.txt", if_modified_since=formatdate(modified - 10, usegmt=True))[0] == 200
    assert ask(folder, "/a b.txt", if_modified_since="yesterday")[0] == 200
    later = formatdate(modified + 1, usegmt=True)
    assert ask(folder, "/a b.txt", if_none_match='"other"', if_modified_since=later)[0] == 200
    (folder / "a b.txt").write_text("other words")
    assert ask(folder, "/a b.txt", if_none_match=etag)[0] == 200


@pytest.mark.parametrize(
    ("wanted", "status", "got", "said"),
    [
        ("bytes=0-0", 206, b"0", b"bytes 0-0/10"),
        ("bytes=2-4", 206, b"234", b"bytes 2-4/10"),
        ("bytes=7-", 206, b"789", b"bytes 7-9/10"),
        ("bytes=-3", 206, b"789", b"bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", b"bytes 0-9/10"),
        ("bytes=5-100", 206, b"56789", b"bytes 5-9/10"),
        ("bytes=10-", 416, b"Range Not Satisfiable\n", b"bytes */10"),
        ("bytes=-0", 416, b"Range Not Satisfiable\n", b"bytes */10"),
        ("bytes=4-2", 200, b"0123456789", None),
        ("bytes=a-b", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=" + "9" * 5000 + "-", 200, b"0123456789", None),
        ("bytes=0-1,1-4", 200, b"0123456789", None),  # they overlap
        ("bytes=" + ",".join(f"{at}-{at}" for at in range(40)), 200, b"0123456789", None),
        ("bytes=20-30,40-", 416, b"Range Not Satisfiable\n", b"bytes */10"),
        ("Bytes=3-4,20-30", 206, b"34", b"bytes 3-4/10"),
    ],
)
def test_ranges(folder: Path, wanted: str, status: int, got: bytes, said: bytes | None) -> None:
    answer = ask(folder, "/a b.txt", range=wanted)
    assert (answer[0], answer[2], answer[1].get(b"content-range")) == (status, got, said)


def test_several_ranges(folder: Path) -> None:
    for path, spans in (("/a b.txt", [(7, 9), (0, 1)]), ("/large.bin", [(0, 9), (300_000, 900_000)])):
        whole = ask(folder, path)[2]
        wanted = ", ".join(f"{first}-{last}" for first, last in spans)
        status, fields, body = ask(folder, path, range=f"bytes={wanted}")
        assert (status, int(fields[b"content-length"])) == (206, len(body))
        message = email.message_from_bytes(b"content-type: " + fields[b"content-type"] + b"\r\n\r\n" + body)
        parts: Any = message.get_payload()
        assert [part["content-range"] for part in parts] == [
            f"bytes {first}-{last}/{len(whole)}" for first, last in spans
        ]
        assert {part["content-type"].encode() for part in parts} == {ask(folder, path, "HEAD")[1][b"content-type"]}
        for first, last in spans:
            assert b"\r\n\r\n" + whole[first : last + 1] + b"\r\n--" in body


def test_a_range_has_a_meaning_for_get_only(folder: Path) -> None:
    status, fields, body = ask(folder, "/a b.txt", "HEAD", range="bytes=0-1")
    assert (status, fields[b"content-length"], body) == (200, b"10", b"")


def test_conditions(folder: Path) -> None:
    _, fields, _ = ask(folder, "/a b.txt")
    etag, date = fields[b"etag"].decode(), fields[b"last-modified"].decode()
    before, after = formatdate(1, usegmt=True), formatdate(4e9, usegmt=True)
    for status, asked in (
        (200, {"if_match": etag}),
        (200, {"if_match": f'"other", {etag}'}),
        (200, {"if_match": "*"}),
        (412, {"if_match": '"other"'}),
        (412, {"if_match": f"W/{etag}"}),  # strong only
        (200, {"if_unmodified_since": date}),
        (412, {"if_unmodified_since": before}),
        (200, {"if_unmodified_since": "nonsense"}),
        (200, {"if_unmodified_since": before, "if_match": etag}),
        (304, {"if_none_match": f'"other", W/{etag}'}),
        (304, {"if_none_match": "*"}),
        (200, {"if_none_match": '"other"', "if_modified_since": after}),
        (304, {"if_modified_since": date}),
        (200, {"if_modified_since": before}),
        (200, {"if_modified_since": "Thu, 01 Jan 0000 00:00:00 GMT"}),
        (412, {"if_match": '"other"', "if_none_match": etag}),
        (206, {"if_range": date, "range": "bytes=0-1"}),
        (200, {"if_range": after, "range": "bytes=0-1"}),
        (200, {"if_range": f"W/{etag}", "range": "bytes=0-1"}),
    ):
        assert ask(folder, "/a b.txt", **asked)[0] == status, asked


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", b"gzip"),
        ("x-gzip", b"gzip"),
        ("GZIP;Q=0.5", b"gzip"),
        ("gzip;q=0.5, br;q=0.1", b"gzip"),
        ("gzip, br", b"br"),
        ("*", b"br"),
        ("*;q=0.5, br;q=0", b"gzip"),
        ("gzip;q=0", None),
        ("gzip;q=nonsense", None),
        ("gzip;q=0.5, identity", None),
        ("deflate", None),
        ("", None),
    ],
)
def test_which_coding_is_liked(folder: Path, accepted: str, coding: bytes | None) -> None:
    (folder / "app.js.br").write_bytes(b"br")
    assert ask(folder, "/app.js", accept_encoding=accepted)[1].get(b"content-encoding") == coding


def test_a_file_that_is_compressed_by_its_name(folder: Path) -> None:
    (folder / "x.tar.gz").write_bytes(b"tar")
    (folder / "note.md").write_text("x")
    for name, kind in (
        ("x.tar.gz", b"application/gzip"),
        ("app.js.gz", b"application/gzip"),
        ("note.md", b"text/markdown; charset=utf-8"),
    ):
        _, fields, _ = ask(folder, f"/{name}")
        assert fields[b"content-type"] == kind
        assert b"content-encoding" not in fields


def test_names(folder: Path) -> None:
    for name in ("日本 é.txt", "a%b;c&d.txt", "back\\slash.txt", "a:b.txt"):
        (folder / name).write_text(name)
        status, fields, body = ask(folder, f"/{name}")
        assert (status, body.decode(), fields[b"content-type"]) == (200, name, b"text/plain; charset=utf-8")
    (folder / ".well-known").mkdir()
    (folder / ".well-known" / "token").write_text("here")
    assert ask(folder, "/.well-known/token")[2] == b"here"
    (folder / "sub" / ".well-known").mkdir()
    assert ask(folder, "/sub/.well-known/")[0] == 404


def test_a_folder_that_is_mounted(folder: Path) -> None:
    status, fields, _ = ask(folder, "/app/sub", root="/app", query=b"a=b")
    assert (status, fields[b"location"]) == (308, b"/app/sub/?a=b")
    assert ask(folder, "/app/sub/", root="/app")[0] == 200


@pytest.mark.parametrize(("number", "status"), [(errno.EACCES, 403), (errno.ELOOP, 404), (errno.EMFILE, None)])
def test_what_the_kernel_refuses(
    folder: Path, number: int, status: int | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(path: Path, flags: int) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", refused)
    if status is None:
        with pytest.raises(OSError, match="Too many open files"):  # the server answers 500 and tells
            ask(folder, "/a b.txt")
    else:
        assert ask(folder, "/a b.txt")[0] == status
    assert ("can not be read" in caplog.text) == (status == 403)


def test_a_file_that_becomes_shorter(run: Run, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its client sees that the answer broke off, and no other bytes."""
    size, large = 40_000_000, folder / "large.bin"
    os.truncate(large, size)

    async def main() -> None:
        async with serving(StaticFiles(folder)) as (_, host, port), peer(host, port) as client:
            await client.send(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.reader.readexactly(100_000)  # it waits for us now, with most of it unread
            os.truncate(large, 1_000_000)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await client.reader.readexactly(size)

    run(main)
    assert "became shorter while it was sent" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_large_file_takes_little_memory(run: Run, folder: Path) -> None:
    os.truncate(folder / "large.bin", 500_000_000)

    async def main() -> None:
        async with serving(StaticFiles(folder)) as (server, host, port), peer(host, port) as client:
            await client.send(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.reader.readexactly(1_000_000)
            [conn] = server.connections
            assert conn.queued < 2_000_000  # it waits for its client, with two pieces

    run(main)


def test_a_range_of_another_version_is_the_whole(folder: Path) -> None:
    etag = ask(folder, "/a b.txt")[1][b"etag"].decode()
    assert ask(folder, "/a b.txt", range="bytes=0-1", if_range=etag)[2] == b"01"
    assert ask(folder, "/a b.txt", range="bytes=0-1", if_range='"old"')[2] == b"0123456789"
    assert ask(folder, "/large.bin", range="bytes=300000-900000")[2] == LARGE[300_000:900_001]


def test_what_was_compressed_before(folder: Path) -> None:
    status, fields, body = ask(folder, "/app.js", accept_encoding="br;q=1, gzip")
    assert (status, fields[b"content-encoding"], gzip.decompress(body)) == (200, b"gzip", b"let a = 1;")
    assert fields[b"content-type"] == b"text/javascript; charset=utf-8"
    assert fields[b"vary"] == b"accept-encoding"
    plain = ask(folder, "/app.js", accept_encoding="gzip;q=0, br")
    assert plain[2] == b"let a = 1;"
    assert plain[1][b"etag"] != fields[b"etag"]
    assert ask(folder, "/app.js", accept_encoding="gzip", if_none_match=fields[b"etag"].decode())[0] == 304


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(wireway.ConfigError, match="nothing' is not a folder"):
        StaticFiles(tmp_path / "nothing")


def test_over_a_connection(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with serving(StaticFiles(folder)) as (_, host, port), peer(host, port) as client:
            await client.send(
                b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\nGET /a%20b.txt HTTP/1.1\r\nHost: x\r\n\r\n"
                b"GET /%2e%2e/outside.txt HTTP/1.1\r\nHost: x\r\n\r\nGET /..%2foutside.txt HTTP/1.1\r\nHost: x\r\n\r\n"
            )
            assert (await client.answer())[2] == LARGE
            assert (await client.answer())[2] == b"0123456789"
            assert [(await client.answer())[0] for _ in range(2)] == [404, 404]

    run(main)
