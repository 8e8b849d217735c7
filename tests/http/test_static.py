"""Files: which one a path means, what is said of it, and what is never given out."""

from __future__ import annotations

import asyncio
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


def ask(folder: Path, path: str, method: str = "GET", **headers: str) -> Answer:
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
        "root_path": "",
        "query_string": b"",
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
        ("bytes=0-1,3-4", 200, b"0123456789", None),
    ],
)
def test_ranges(folder: Path, wanted: str, status: int, got: bytes, said: bytes | None) -> None:
    answer = ask(folder, "/a b.txt", range=wanted)
    assert (answer[0], answer[2], answer[1].get(b"content-range")) == (status, got, said)


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
