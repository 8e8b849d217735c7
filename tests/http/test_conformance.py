"""What a request is and what is none: the edge cases that h11, llhttp and the literature of request smuggling list.

Each is fed whole and byte by byte, which must make no difference. What we take, h11 must take for the same requests:
two programs that read the same bytes otherwise are how requests are smuggled.
"""

from __future__ import annotations

from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wireway._native import HttpExchange, HttpParser

Request = tuple[str, bytes, list[tuple[bytes, bytes]], bytes]
"""Method, target, fields, body."""
Found = tuple[list[Request], int | None]
"""The requests, and the status that what follows them is refused with."""

TEMPLATE: dict[str, Any] = {"root_path": ""}


def ours(data: bytes, step: int) -> Found:
    """What our parser finds in `data`, fed so many bytes at a time."""
    connection: Any = object()

    async def nothing(*args: Any) -> None:
        raise AssertionError("nobody waits here")

    parser = HttpParser(connection, TEMPLATE, nothing, nothing, None, (4096, 40, 1000), (True, True))
    requests: list[Request] = []
    head: tuple[str, bytes, list[tuple[bytes, bytes]]] | None = None
    body = b""
    for at in range(0, len(data), step):
        parser.push(data[at : at + step])
        while True:
            if head is None:
                found = parser.next()
                if found is None:
                    break
                if not isinstance(found, HttpExchange):
                    return requests, found[0]
                scope, body = found.scope, b""
                target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
                head = (scope["method"], target, scope["headers"])
            match parser.take_body():
                case None:
                    break
                case (int() as status, str()):
                    return requests, status
                case (bytes() as piece, bool() as more):
                    body += piece
                    if not more:
                        requests.append((*head, body))
                        head = None
    return requests, None


def theirs(data: bytes) -> list[Request]:
    """What h11 finds."""
    conn = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    conn.receive_data(data)
    requests: list[Request] = []
    while True:
        try:
            event = conn.next_event()
        except h11.RemoteProtocolError:
            return requests
        match event:
            case h11.Request():
                fields = list(event.headers)
                head, body = (event.method.decode(), event.target, fields), b""
            case h11.Data():
                body += bytes(event.data)
            case h11.EndOfMessage():
                requests.append((*head, body))
                if conn.their_state is h11.MIGHT_SWITCH_PROTOCOL:
                    return requests
                conn.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                conn.send(h11.EndOfMessage())
                if conn.our_state is not h11.DONE:  # it closes after this one
                    return requests
                conn.start_next_cycle()
            case _:
                return requests


def path_of(target: bytes) -> bytes:
    """Of a URL without its scheme and host: so a scope has it."""
    if target.startswith(b"/") or target == b"*":
        return target.removesuffix(b"?")
    rest = target.partition(b"://")[2]
    at = min((found for found in (rest.find(b"/"), rest.find(b"?")) if found >= 0), default=len(rest))
    return (rest[at:] if rest[at : at + 1] == b"/" else b"/" + rest[at:]).removesuffix(b"?")


def small(name: bytes, value: bytes) -> bytes:
    """Codings and expectations are the same in small letters."""
    return value.lower() if name in (b"transfer-encoding", b"expect") else value


def check(data: bytes) -> Found:
    """What is found however it is fed, and by h11 too."""
    whole = ours(data, len(data) or 1)
    requests, refused = whole
    cut, cut_refused = ours(data, 1)
    # Of two mistakes the other may be seen first.
    assert (cut, cut_refused is None) == (requests, refused is None), data
    if requests:
        # h11 takes no empty lines before a request, and writes codings small; both are as good.
        agreed = [
            (method, path_of(target), [(name, small(name, value)) for name, value in fields], body)
            for method, target, fields, body in theirs(data.lstrip(b"\r\n"))
        ]
        requests = [
            (method, target, [(name, small(name, value)) for name, value in fields], body)
            for method, target, fields, body in requests
        ]
        assert agreed[: len(requests)] == requests[: len(agreed)], data
        assert agreed, data
    return whole


def get(fields: str = "", line: str = "GET / HTTP/1.1") -> bytes:
    return f"{line}\r\nHost: x\r\n{fields}\r\n".encode("latin-1")


def post(fields: str, body: bytes = b"") -> bytes:
    return f"POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode("latin-1") + body


def chunked(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked\r\n", body)


AFTER = get(line="GET /after HTTP/1.1")
"""A request that follows: it must not be reached through what is refused, nor be swallowed by what is taken."""

REFUSED: dict[str, tuple[int, bytes]] = {
    # lengths that are said twice, or in a way that somebody reads otherwise
    "CL.TE": (400, post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nX")),
    "TE.CL": (400, post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"1\r\nX\r\n0\r\n\r\n")),
    "CL.CL other": (400, post("Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!")),
    "CL.CL same": (400, post("Content-Length: 5\r\nContent-Length: 5\r\n", b"hello")),
    "CL list": (400, post("Content-Length: 5, 5\r\n", b"hello")),
    "CL plus": (400, post("Content-Length: +5\r\n", b"hello")),
    "CL minus": (400, post("Content-Length: -5\r\n", b"hello")),
    "CL hex": (400, post("Content-Length: 0x5\r\n", b"hello")),
    "CL inner space": (400, post("Content-Length: 1 0\r\n", b"hello")),
    "CL underscore": (400, post("Content-Length: 1_0\r\n", b"hello")),
    "CL empty": (400, post("Content-Length: \r\n", b"")),
    "CL overflow": (400, post("Content-Length: 18446744073709551621\r\n", b"hello")),
    "CL too large": (413, post("Content-Length: 1001\r\n", b"")),
    "CL other digits": (400, post("Content-Length: \xb2\r\n", b"ab")),
    "CL vertical tab": (400, post("Content-Length: \x0b5\r\n", b"hello")),
    "CL form feed": (400, post("Content-Length: 5\x0c\r\n", b"hello")),
    # codings
    "TE.TE": (400, post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", b"0\r\n\r\n")),
    "TE.TE first": (400, post("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    "TE twice": (400, post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    "TE list twice": (400, post("Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n")),
    "TE not last": (400, post("Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n")),
    "TE identity": (400, post("Transfer-Encoding: identity\r\n", b"")),
    "TE identity, chunked": (501, post("Transfer-Encoding: identity, chunked\r\n", b"0\r\n\r\n")),
    "TE gzip, chunked": (501, post("Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n")),
    "TE empty": (400, post("Transfer-Encoding:\r\n", b"0\r\n\r\n")),
    "TE comma": (400, post("Transfer-Encoding: ,chunked\r\n", b"0\r\n\r\n")),
    "TE comma after": (400, post("Transfer-Encoding: chunked,\r\n", b"0\r\n\r\n")),
    "TE xchunked": (400, post("Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n")),
    "TE chunked-x": (400, post("Transfer-Encoding: chunked-x\r\n", b"0\r\n\r\n")),
    "TE parameter": (400, post("Transfer-Encoding: chunked;a=b\r\n", b"0\r\n\r\n")),
    "TE quoted": (400, post('Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n")),
    "TE vertical tab": (400, post("Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n")),
    "TE folded": (400, post("Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n")),
    "TE space before colon": (400, post("Transfer-Encoding : chunked\r\n", b"0\r\n\r\n")),
    "TE tab before name": (400, post("\tTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    "TE bare CR": (400, post("X: a\rTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    "TE after bare LF": (400, post("X: a\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n")),
    "TE in HTTP/1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    # chunks
    "size of nothing": (400, chunked(b"\r\n")),
    "size in words": (400, chunked(b"xyz\r\n")),
    "size negative": (400, chunked(b"-1\r\na\r\n")),
    "size plus": (400, chunked(b"+1\r\na\r\n")),
    "size 0x": (400, chunked(b"0x1\r\na\r\n")),
    "size underscore": (400, chunked(b"1_0\r\na\r\n")),
    "size after a space": (400, chunked(b" 1\r\na\r\n")),
    "size before a space": (400, chunked(b"1 \r\na\r\n")),
    "size twice": (400, chunked(b"1 1\r\na\r\n")),
    "size overflow": (400, chunked(b"10000000000000001\r\na\r\n")),
    "size too large": (413, chunked(b"3e9\r\n")),
    "sizes too large together": (413, chunked(b"1f4\r\n" + bytes(500) + b"\r\n1f5\r\n")),
    "size bare LF": (400, chunked(b"1\na\r\n0\r\n\r\n")),
    "size bare CR": (400, chunked(b"1\ra\r\n0\r\n\r\n")),
    "extension bare LF": (400, chunked(b"1;a\nb\r\na\r\n0\r\n\r\n")),
    "extension bare CR": (400, chunked(b"1;a\rb\r\na\r\n0\r\n\r\n")),
    "extension NUL": (400, chunked(b"1;a\0b\r\na\r\n0\r\n\r\n")),
    "extension without end": (431, chunked(b"1;" + b"a" * 5000)),
    "data too long": (400, chunked(b"1\r\nab\r\n0\r\n\r\n")),
    "data without CRLF": (400, chunked(b"1\r\na0\r\n\r\n")),
    "data before bare LF": (400, chunked(b"1\r\na\n0\r\n\r\n")),
    "data before CR and more": (400, chunked(b"1\r\na\rX0\r\n\r\n")),
    "trailer no field": (400, chunked(b"0\r\nnonsense\r\n\r\n")),
    "trailer space before colon": (400, chunked(b"0\r\nA : b\r\n\r\n")),
    "trailer folded": (400, chunked(b"0\r\nA: b\r\n c\r\n\r\n")),
    "trailer bare LF": (400, chunked(b"0\r\nA: b\n\r\n")),
    "trailer bare CR": (400, chunked(b"0\r\nA: b\rc\r\n\r\n")),
    "trailers without end": (431, chunked(b"0\r\n" + b"A: b\r\n" * 2000)),
    # lines and fields
    "bare LF everywhere": (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    "bare LF after the line": (400, b"GET / HTTP/1.1\nHost: x\r\n\r\n"),
    "bare LF at the end": (400, b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    "bare CR after the line": (400, b"GET / HTTP/1.1\rHost: x\r\n\r\n"),
    "bare CR in a value": (400, get("A: b\rc\r\n")),
    "bare CR at the end of a value": (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\r\n\r\n"),
    "NUL in a value": (400, get("A: b\0c\r\n")),
    "NUL in a name": (400, get("A\0: b\r\n")),
    "DEL in a value": (400, get("A: b\x7fc\r\n")),
    "folded": (400, get("A: b\r\n c\r\n")),
    "folded with a tab": (400, get("A: b\r\n\tc\r\n")),
    "folded first": (400, b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    "space before colon": (400, get("A : b\r\n")),
    "tab before colon": (400, get("A\t: b\r\n")),
    "space in a name": (400, get("A B: c\r\n")),
    "no colon": (400, get("nonsense\r\n")),
    "no name": (400, get(": b\r\n")),
    "name not ASCII": (400, get("\xe9: b\r\n")),
    "name in brackets": (400, get("A[]: b\r\n")),
    "too many fields": (431, get("A: b\r\n" * 40)),
    "too large": (431, get(f"A: {'b' * 5000}\r\n")),
    "too large, no end": (431, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 5000),
    # the request line
    "method of nothing": (400, b" / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "method not a token": (400, get(line="GE(T / HTTP/1.1")),
    "method small": (400, get(line="get / HTTP/1.1")),
    "method with a NUL": (400, get(line="GET\0 / HTTP/1.1")),
    "two spaces": (400, get(line="GET  / HTTP/1.1")),
    "tab": (400, get(line="GET\t/ HTTP/1.1")),
    "space at the end": (400, get(line="GET / HTTP/1.1 ")),
    "space in the target": (400, get(line="GET /a b HTTP/1.1")),
    "control character in the target": (400, get(line="GET /a\x01b HTTP/1.1")),
    "target not ASCII": (400, get(line="GET /\xe9 HTTP/1.1")),
    "fragment": (400, get(line="GET /a#b HTTP/1.1")),
    "target neither": (400, get(line="GET a HTTP/1.1")),
    "asterisk for GET": (400, get(line="GET * HTTP/1.1")),
    "authority": (400, get(line="GET x:80 HTTP/1.1")),
    "CONNECT": (501, get(line="CONNECT x:80 HTTP/1.1")),
    "no version": (400, b"GET /\r\nHost: x\r\n\r\n"),
    "version small": (400, get(line="GET / http/1.1")),
    "version of nothing": (400, get(line="GET / HTTP/")),
    "version and more": (400, get(line="GET / HTTP/1.1.1")),
    "version of two digits": (400, get(line="GET / HTTP/1.10")),
    "version 0.9": (505, get(line="GET / HTTP/0.9")),
    "version 1.2": (505, get(line="GET / HTTP/1.2")),
    "version 2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "another protocol": (400, get(line="GET / ICE/1.0")),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    # hosts
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, get("Host: y\r\n")),
    "host list": (400, b"GET / HTTP/1.1\r\nHost: x, y\r\n\r\n"),
    "host with a path": (400, b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"),
    "host with a user": (400, b"GET / HTTP/1.1\r\nHost: u@x\r\n\r\n"),
    "host with a space": (400, b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n"),
    "host with two ports": (400, b"GET / HTTP/1.1\r\nHost: x:1:2\r\n\r\n"),
    "host and another target": (400, b"GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    "expectation": (417, get("Expect: the-unexpected\r\n")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    status, data = REFUSED[name]
    assert check(data) == ours(data, 1) == ([], status)
    assert check(data + AFTER) == ([], status)  # and never a guess where the next one begins
    requests, refused = check(AFTER + data)
    assert (len(requests), refused) == (1, status)


HOST = (b"host", b"x")
TAKEN: dict[str, tuple[bytes, list[Request]]] = {
    "plain": (get(), [("GET", b"/", [HOST], b"")]),
    "empty lines before": (b"\r\n\r\n" + get(), [("GET", b"/", [HOST], b"")]),
    "another method": (get(line="M-SEARCH / HTTP/1.1"), [("M-SEARCH", b"/", [HOST], b"")]),
    "URL": (get(line="GET http://x/a?b HTTP/1.1"), [("GET", b"/a?b", [HOST], b"")]),
    "URL without a path": (get(line="GET http://x?b HTTP/1.1"), [("GET", b"/?b", [HOST], b"")]),
    "asterisk": (get(line="OPTIONS * HTTP/1.1"), [("OPTIONS", b"*", [HOST], b"")]),
    "odd target": (get(line="GET //a/../b;c=%zz?d=[e]|^ HTTP/1.1"), [("GET", b"//a/../b;c=%zz?d=[e]|^", [HOST], b"")]),
    "spaces around values": (get("A: \t b \t\r\n"), [("GET", b"/", [HOST, (b"a", b"b")], b"")]),
    "no space, no value": (get("A:b\r\nC:\r\n"), [("GET", b"/", [HOST, (b"a", b"b"), (b"c", b"")], b"")]),
    "tab and latin-1 in a value": (get("A: b\tc\xe9\r\n"), [("GET", b"/", [HOST, (b"a", b"b\tc\xe9")], b"")]),
    "order and doubles": (
        get("B: 1\r\na: 2\r\nB: 3\r\n"),
        [("GET", b"/", [HOST, (b"b", b"1"), (b"a", b"2"), (b"b", b"3")], b"")],
    ),
    "length": (post("Content-Length: 5\r\n", b"hello"), [("POST", b"/", [HOST, (b"content-length", b"5")], b"hello")]),
    "length with zeros": (
        post("Content-Length: 0005\r\n", b"hello"),
        [("POST", b"/", [HOST, (b"content-length", b"0005")], b"hello")],
    ),
    "body of GET": (
        get("Content-Length: 1\r\n") + b"a",
        [("GET", b"/", [HOST, (b"content-length", b"1")], b"a")],
    ),
    "chunks": (
        chunked(b"5\r\nhello\r\n00A;x=y;z\r\n0123456789\r\n0\r\n\r\n"),
        [("POST", b"/", [HOST, (b"transfer-encoding", b"chunked")], b"hello0123456789")],
    ),
    "chunks with trailers": (
        chunked(b"1\r\n\n\r\n0;last\r\nA: b\r\nContent-Length: 9\r\n\r\n"),
        [("POST", b"/", [HOST, (b"transfer-encoding", b"chunked")], b"\n")],
    ),
    "coding in capitals": (
        post("TRANSFER-ENCODING: Chunked\r\n", b"0\r\n\r\n"),
        [("POST", b"/", [HOST, (b"transfer-encoding", b"Chunked")], b"")],
    ),
    "host with a port": (
        b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:8000\r\n\r\n",
        [("GET", b"/", [(b"host", b"[2001:db8::1]:8000")], b"")],
    ),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n", [("GET", b"/", [], b"")]),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    data, requests = TAKEN[name]
    assert check(data) == (requests, None)
    assert check(data + AFTER) == ([*requests, ("GET", b"/after", [HOST], b"")], None)


PARTS = [data for data, _ in TAKEN.values()] + [data for status, data in REFUSED.values() if len(data) < 500]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutations(data: st.DataObject) -> None:
    """Bytes put in, taken out and changed: whatever is still taken, h11 takes for the same."""
    text = bytearray(b"".join(data.draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        what = data.draw(st.sampled_from(["put", "cut", "change"]))
        token = data.draw(
            st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b",", b";", b"0", b"9", b"a"])
        )
        if what == "put":
            text[at:at] = token
        elif what == "cut":
            del text[at : at + data.draw(st.integers(1, 4))]
        else:
            text[at : at + 1] = token
    check(bytes(text))
