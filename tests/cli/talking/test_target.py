"""The address of `wireway connect`."""

from __future__ import annotations

import pytest

from wireway.cli.failing import Exit, Failure
from wireway.cli.talking.target import target_of


@pytest.mark.parametrize(
    ("url", "beneath"),
    [
        ("127.0.0.1:9000", "tcp://127.0.0.1:9000"),
        ("tls://host:1", "tls://host:1"),
        ("unix:///run/s", "unix:///run/s"),
        ("ws://host", "tcp://host:80"),
        ("WSS://host/p?q=1", "tls://host:443"),
        ("ws://[::1]:8080/x", "tcp://[::1]:8080"),
        ("ws://:8080/", "tcp://:8080"),
    ],
)
def test_what_is_beneath(url: str, beneath: str) -> None:
    found, web = target_of(url, [], [], None)
    assert found == beneath
    assert (web is not None) == url.lower().startswith("ws")
    if web is not None:
        assert web.url == url


def test_what_a_web_socket_takes() -> None:
    _, web = target_of("ws://host/", ["Cookie: a=b", "X-Empty:"], ["chat"], 99)
    assert web is not None
    assert web.headers == (("Cookie", "a=b"), ("X-Empty", ""))
    assert (web.subprotocols, web.max_size) == (("chat",), 99)


@pytest.mark.parametrize(
    ("url", "headers", "names", "said"),
    [
        ("http://x:81/a", [], [], "write ws://x:81/a for a WebSocket, or tcp://x:81 to speak HTTP by hand"),
        ("https://[::1]/", [], [], "or tls://[::1]:443"),
        ("foo://x:1", [], [], "the scheme must be tcp, tls, unix, ws or wss"),
        ("ws://", [], [], "give a host"),
        ("ws://h:99999/", [], [], "give a host"),
        ("ws://h/#a", [], [], "no #"),
        ("tcp://h:1", ["A: b"], [], "--header is for WebSockets"),
        ("h:1", [], ["chat"], "--subprotocol is for WebSockets"),
        ("ws://h", ["no colon"], [], "write 'Name: value'"),
        ("ws://h", ["A: b\r\nC: d"], [], "write 'Name: value'"),
        ("ws://h", [], ["a b"], "no token"),
    ],
)
def test_what_is_none(url: str, headers: list[str], names: list[str], said: str) -> None:
    with pytest.raises(Failure) as raised:
        target_of(url, headers, names, None)
    assert said in str(raised.value)
    assert raised.value.status is Exit.USAGE
