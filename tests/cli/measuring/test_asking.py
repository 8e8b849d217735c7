"""From what a person writes to a run: sizes and messages, source addresses, URLs and requests."""

from __future__ import annotations

from pathlib import Path

import pytest

import wireway
from wireway.cli.failing import Exit, Failure
from wireway.cli.measuring.asked import seconds_of
from wireway.cli.measuring.messages import framed_message
from wireway.cli.measuring.sources import fitting, sources_of
from wireway.cli.measuring.targets import http_request, target_of


def test_times() -> None:
    assert [seconds_of(text, "-x") for text in ("10", "10s", "250ms", "2m", "1.5h", "7us", "1h30m")] == [
        *(10, 10, 0.25, 120, 5400, 7e-6, 5400)
    ]
    assert seconds_of("0", "-x", zero=True) == 0
    with pytest.raises(Failure, match="--x must be more than 0"):
        seconds_of("0s", "--x")


def test_source_addresses() -> None:
    assert sources_of(None) == []
    assert sources_of("127.0.0.2,127.0.1.1-3,127.0.0.2") == ["127.0.0.2", "127.0.1.1", "127.0.1.2", "127.0.1.3"]
    assert sources_of("127.0.0.254-127.0.1.1") == ["127.0.0.254", "127.0.0.255", "127.0.1.0", "127.0.1.1"]
    assert sources_of("127.9.0.0/29") == [f"127.9.0.{last}" for last in range(1, 7)]
    assert sources_of("::1-1") == ["::1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere", "'nowhere' is no address"),
        ("127.0.0.9-2", "'127.0.0.9-2' is no address"),
        ("127.0.0.2-x", "no range as"),
        ("127.0.0.0/40", "no network as"),
        ("127.0.0.0/8", "more than 65,536 addresses"),
        (",", "names no address"),
        ("192.0.2.1", "192.0.2.1 is no address of this machine"),
    ],
)
def test_source_addresses_that_are_none(text: str, said: str) -> None:
    with pytest.raises(Failure, match=said) as caught:
        sources_of(text)
    assert caught.value.status is Exit.USAGE


def test_the_family_of_the_sources_decides_how_a_server_is_reached() -> None:
    both: list[tuple[str, int] | str] = [("::1", 1), ("127.0.0.1", 1)]
    assert fitting(both, []) == both
    assert fitting(both, ["127.0.0.2"]) == [("127.0.0.1", 1)]
    assert fitting(both, ["::1"]) == [("::1", 1)]
    for addresses, sources in ((both[:1], ["127.0.0.2"]), (both, ["127.0.0.2", "::1"]), (["/a"], ["127.0.0.2"])):
        with pytest.raises(Failure):
            fitting(addresses, sources)  # type: ignore[arg-type]


def test_messages(tmp_path: Path) -> None:
    assert framed_message("raw", None, None) == (wireway.Raw(), bytes(range(97, 123)) * 3 + b"abcdefghijklmnopqrstuv")
    assert framed_message("fixed:7", None, None) == (wireway.FixedLength(7), b"abcdefg")
    assert framed_message("delimiter:6164", "5", None)[1] == b"bcefg"
    assert framed_message("mbap", "12", None)[1] == b"\0\1\0\0\0\6\1\3abcd"
    assert len(framed_message("length", "2KiB", None)[1]) == 2048
    assert framed_message("lines", None, r"a\x00\tb") == (wireway.Lines(), b"a\0\tb")
    (tmp_path / "message").write_bytes(b"from a file")
    assert framed_message("varint", None, f"@{tmp_path / 'message'}")[1] == b"from a file"
    # What a server refuses of a stranger, a client may ask for: the limits grow with the message.
    framing, content = framed_message("lines", "1MiB", None)
    assert isinstance(framing, wireway.Lines)
    assert framing.max_size >= len(content) == 1 << 20


@pytest.mark.parametrize(
    ("size", "text", "said"),
    [
        ("5", "abc", "contradict"),
        (None, "", "--message is empty"),
        ("0", None, "--size is 1 byte to 64 MiB"),
        ("1GiB", None, "--size is 1 byte to 64 MiB"),
        (None, "@/no/such/file", "No such file"),
    ],
)
def test_messages_that_are_none(size: str | None, text: str | None, said: str) -> None:
    with pytest.raises(Failure, match=said):
        framed_message("raw", size, text)


def test_requests() -> None:
    target = target_of("http://127.0.0.1:8080/a/b?c=d", None)
    assert (target.addresses, target.tls, target.http) == ([("127.0.0.1", 8080)], None, True)
    target, request = http_request(target, None, [], b"")
    assert target.request == "GET /a/b?c=d"
    assert request.startswith(b"GET /a/b?c=d HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")
    assert request.endswith(b"\r\n\r\n")
    _, request = http_request(target, None, ["X-A: 1", "host:example"], b"body")
    assert request.startswith(b"POST /a/b?c=d HTTP/1.1\r\n")
    assert request.endswith(b"X-A: 1\r\nhost: example\r\n\r\nbody")
    assert b"Content-Length: 4\r\n" in request
    assert b"Host:" not in request


def test_addresses() -> None:
    assert target_of("127.0.0.1:9", None).url == "tcp://127.0.0.1:9"
    assert target_of("tcp://[::1]:9", None).addresses == [("::1", 9)]
    assert target_of("unix:///run/a.sock", None).addresses == ["/run/a.sock"]
    assert target_of("http://[::1]/", None).addresses == [("::1", 80)]
    assert target_of("https://127.0.0.1", wireway.Tls()).addresses == [("127.0.0.1", 443)]


@pytest.mark.parametrize(
    ("method", "headers"), [("G T", []), (None, ["no colon"]), (None, ["A: b\r\nC: d"]), (None, [": x"])]
)
def test_requests_that_would_be_none(method: str | None, headers: list[str]) -> None:
    with pytest.raises(Failure):
        http_request(target_of("http://127.0.0.1:1/", None), method, headers, b"")
