"""Whatever stands in a file: it is read, or every mistake is told with its place. Nothing else happens."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from wireway.configuration import ConfigurationError
from wireway.configuration.document import Document
from wireway.configuration.reading import read_configuration
from wireway.configuration.showing import as_tables, as_toml

FULL = """
backend = "epoll"
drain_timeout = "10s"
log = { style = "json", level = "info" }
metrics.address = "tcp://127.0.0.1:9100"
control = { enabled = true, path = "x.sock" }
[[listeners]]
name = "one"
address = ["tls://127.0.0.1:9000", "unix://one.sock"]
service = "echo"
framing = { kind = "length", width = 2, max_size = "1MiB", includes_header = true }
workers = 2
heartbeat = { every = "20s", ping = "hex:00", pong = "x", answers = { "a" = "b" } }
[listeners.limits]
connections = 1
byte_rate = "1MiB"
byte_burst = 7
message_rate = 1.5
ban = { after = 3, within = "1m" }
dry_run = ["ban"]
[listeners.timeouts]
idle = "off"
lifetime = 7
[listeners.socket]
keepalive = { idle = "1m", count = 3 }
no_delay = false
send_buffer = "64KiB"
[listeners.access]
allow = ["192.0.2.0/24"]
proxy_protocol = "off"
[listeners.tls]
cert = "cert.pem"
certificates = [{ cert = "other.pem" }]
alpn = ["x"]
[[listeners]]
address = "tcp://127.0.0.1:8000"
service = "web"
options = { target = "./public", keep_alive = "off", forwarded_allow = ["unix"] }
[[listeners]]
address = "tcp://127.0.0.1:9001"
service = "chat"
options = { json_port = 1, room = "x" }
"""
WORDS = (
    "",
    "off",
    "10s",
    "64KiB",
    "hex:",
    "hex:00",
    "length:4",
    "tcp://127.0.0.1:1",
    "tls://x:1",
    "unix://y",
    "auto",
    "é\n",
)
SCALARS = st.one_of(
    *(st.sampled_from(WORDS), st.text(max_size=5), st.booleans(), st.floats(), st.integers(-(2**63), 2**63 - 1)),
    st.sampled_from((datetime.date(2026, 1, 1), datetime.time(1, 2), datetime.datetime(2026, 1, 1, 1, 1))),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    st.dictionaries(st.sampled_from(("idle", "kind", "every", "x y", "é", "target", "0")), SCALARS, max_size=2),
    st.lists(st.dictionaries(st.sampled_from(("cert", "address", "x")), SCALARS, max_size=2), min_size=1, max_size=2),
)


def places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [before] if before else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, each in items for place in places(each, (*before, key))]


DOCUMENT = Document.of(FULL.encode(), "x.toml", Path("/f")).values
PLACES = places(DOCUMENT)


def replaced(changes: list[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    whole = copy.deepcopy(DOCUMENT)
    for place, value in changes:
        at: Any = whole
        try:
            for step in place[:-1]:
                at = at[step]
            at[place[-1]] = value
        except (LookupError, TypeError):  # an earlier change took its place
            continue
    return whole


def told(error: ConfigurationError, text: str) -> None:
    """Each mistake is a line, and is in the text."""
    assert error.mistakes
    for mistake in error.mistakes:
        assert 1 <= mistake.line <= text.count("\n") + 1
        assert mistake.column >= 1
        assert mistake.text
        assert "\n" not in str(mistake)


def test_it_is_right_as_it_stands() -> None:
    read_configuration(Document.of(FULL.encode(), "x.toml", Path("/f")))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_values_that_are_others(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    text = tomli_w.dumps(replaced(changes))
    try:
        found = read_configuration(Document.of(text.encode(), "x.toml", Path("/f")))
    except ConfigurationError as error:
        told(error, text)
        return
    again = read_configuration(Document.of(as_toml(found).encode(), "x.toml", Path("/f")))
    assert as_tables(again) == as_tables(found)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda data: data.decode("latin-1"))))
def test_texts_that_are_no_configuration(text: str) -> None:
    try:
        read_configuration(Document.of(text.encode("utf-8", "surrogateescape"), "x.toml", Path("/f")))
    except ConfigurationError as error:
        told(error, text)
