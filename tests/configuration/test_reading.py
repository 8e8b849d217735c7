"""From a file to options: what is read, and what is said of every mistake."""

# ruff: noqa: E501  (each case is one line: what is written, and what is said)

from __future__ import annotations

from pathlib import Path

import pytest

import wireway
from wireway.configuration import ConfigurationError, ReadConfiguration
from wireway.configuration.document import Document
from wireway.configuration.reading import read_configuration

ECHO = '[[listeners]]\naddress = "tcp://127.0.0.1:9000"\nservice = "echo"\n'
FOLDER = Path("/some/folder")


def read(text: str) -> ReadConfiguration:
    return read_configuration(Document.of(text.encode(), "x.toml", FOLDER))


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    return str(caught.value).splitlines()


def mistake(text: str) -> str:
    found = mistakes(text)
    assert len(found) == 1, found
    return found[0]


def test_a_listener_and_every_default() -> None:
    found = read(ECHO).configuration
    [listener] = found.listeners
    assert (listener.name, listener.address, listener.workers) == ("echo", ("tcp://127.0.0.1:9000",), 1)
    assert (listener.framing, listener.timeouts, listener.limits) == (
        wireway.Raw(),
        wireway.Timeouts(),
        wireway.Limits(),
    )
    assert (found.backend, found.drain_timeout, found.log.style, found.metrics.address) == ("auto", 10, "human", None)


def test_units_and_off_and_every_way_to_write_a_table() -> None:
    [listener] = read(
        ECHO
        + """
name = "one"
framing = "length:2:le"
workers = "auto"
timeouts = { idle = "2m", write_stall = 1.5, close_linger = "off" }
limits.byte_rate = "1MiB"
limits.ban = {}
limits.dry_run = ["connections"]
socket.keepalive = "off"
socket.user_timeout = false
stalls = "off"
[listeners.buffers]
low = 10
high = "64 KiB"
[listeners.heartbeat]
every = "30s"
ping = "ping"
pong = "hex:00ff"
answers = { "hex:01" = "ok" }
[listeners.access]
allow = ["192.0.2.0/24"]
"""
    ).configuration.listeners
    assert (listener.name, listener.workers) == ("one", "auto")
    assert listener.framing == wireway.LengthPrefix(2, byteorder="little")
    assert listener.timeouts == wireway.Timeouts(idle=120, write_stall=1.5, close_linger=None)
    assert listener.limits == wireway.Limits(byte_rate=1 << 20, ban=wireway.Ban(), dry_run=frozenset({"connections"}))
    assert listener.socket == wireway.SocketOptions(keepalive=None, user_timeout=None)
    assert listener.buffers == wireway.Buffers(low=10, high=65536)
    assert listener.heartbeat == wireway.Heartbeat(every=30, ping=b"ping", pong=b"\0\xff", answers={b"\1": b"ok"})
    assert listener.access == wireway.Access(allow=("192.0.2.0/24",))
    assert listener.stalls is None


def test_a_framing_as_a_table_says_what_its_name_can_not() -> None:
    text = ECHO + 'framing = { kind = "length", width = 2, offset = 4, includes_header = true, max_size = "64KiB" }\n'
    [listener] = read(text).configuration.listeners
    assert listener.framing == wireway.LengthPrefix(2, offset=4, includes_header=True, max_size=65536)


def test_paths_are_relative_to_the_file() -> None:
    text = '[[listeners]]\naddress = ["unix://here.sock", "tls://127.0.0.1:1"]\nservice = "echo"\n'
    [listener] = read(f'{text}[listeners.tls]\ncert = "certs/one.pem"\nkey = "/etc/key.pem"\n').configuration.listeners
    assert listener.address[0] == "unix:///some/folder/here.sock"
    assert listener.tls is not None
    assert (listener.tls.cert, listener.tls.key) == (FOLDER / "certs/one.pem", Path("/etc/key.pem"))


def test_services_have_options_and_defaults_of_their_own() -> None:
    text = '[[listeners]]\naddress = "tcp://127.0.0.1:8000"\nservice = "web"\n'
    text += 'options = { target = ".", max_age = "1h", body_size = "1MiB" }\ntimeouts = { idle = "5s" }\n'
    [listener] = read(text).configuration.listeners
    assert (listener.options.target, listener.options.max_age, listener.options.body_size) == (".", 3600, 1 << 20)
    assert listener.timeouts == wireway.Timeouts(close_linger=2, write_stall=60, idle=5)


def test_names_are_made_where_there_are_none() -> None:
    second = ECHO.replace("9000", "9001")
    assert [each.name for each in read(ECHO + second).configuration.listeners] == ["echo", "echo-2"]
    named = second + 'name = "echo"\n'
    assert [each.name for each in read(ECHO + named).configuration.listeners] == ["echo-2", "echo"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("limits = { conections = 1 }", '4:12: unknown key "conections" in [listeners.limits]; did you mean "connections"?'),
        ("idle = 5", '4:1: unknown key "idle" in [listeners]; did you mean "timeouts.idle"?'),
        ('colour = "red"', '4:1: unknown key "colour" in [listeners]; there are address, service, name,'),
        ('timeouts.idle = "10 sec"', "4:17: idle '10 sec' is no time: write a number of seconds, or 500ms, 30s,"),
        ('timeouts.idle = "64KiB"', "4:17: idle '64KiB' is no time: write a number of seconds, or 500ms, 30s,"),
        ("timeouts.idle = true", "4:17: idle is true, it must be a duration: 30s, 500ms, 2m, or a number of seconds"),
        ("timeouts.idle = -1", '4:17: idle is -1, it must be more than 0 seconds, or "off" for no limit'),
        ('timeouts = "5s"', '4:12: timeouts is "5s", it must be a table: write [listeners.timeouts]'),
        ("timeouts.connect = 5", '4:10: unknown key "connect" in [listeners.timeouts]'),
        ('buffers.high = "64K"', "4:16: high '64K' is no size: write a number of bytes, or 500B, 64KiB,"),
        ('buffers.high = "0.3B"', "4:16: high '0.3B' is no whole number of bytes"),
        ("buffers.low = 70000", "4:15: low=70,000 is more than high=65,536: low, high, soft, hard rise"),
        ('buffers.when_slow = "paus"', '4:21: when_slow is "paus", it must be one of "pause", "drop-oldest", "latest", "close"; did you mean "pause"?'),
        ('limits.connections = "5"', '4:22: connections is "5", it must be a whole number'),
        ("limits.connections = 1.5", "4:22: connections is 1.5, it must be a whole number"),
        ("limits.message_burst = 5", "4:24: message_burst is 5.0, it means nothing without message_rate"),
        ("socket.keepalive.idle = 1.5", "4:25: idle is 1.5, it must be whole seconds"),
        ("socket.no_delay = 1", "4:19: no_delay is 1, it must be true or false"),
        ('access.allow = "192.0.2.0/24"', '4:16: allow is "192.0.2.0/24", it must be a list of texts: ["one", "two"]'),
        ('access.allow = ["nowhere"]', "4:16: allow is 'nowhere', it must be a network like '192.0.2.0/24'"),
        ('heartbeat = { every = "5s" }', "4:1: heartbeat of listener 1 has no ping, which it must have"),
        ('heartbeat = { every = "5s", ping = "hex:0" }', '4:36: ping is "hex:0", which is no hex'),
        ("workers = 0", '4:11: workers is 0, it must be a number of processes from 1 up, or "auto" for one on each core'),
        ('framing = "lenght:4"', "4:11: framing 'lenght:4'"),
        ('framing = { kind = "lenght" }', '4:20: framing has the kind "lenght", it must be one of'),
        ('framing = { kind = "length", wdith = 2 }', '4:30: unknown key "wdith" in [listeners.framing] of the framing length; did you mean "width"?'),
        ('framing = { kind = "length", width = 5 }', "4:38: width is 5, allowed are 1, 2, 3, 4 and 8 bytes"),
        ('tls.cert = "x.pem"', "4:1: tls is given, and no address begins with tls://"),
        ("options.x = 1", '4:9: unknown key "x" in [listeners.options] of the service echo; there are none'),
        ('name = ""', '4:8: name is "", it must be a text, in quotes'),
    ],
)  # fmt: skip
def test_what_is_said_of_one_mistake(line: str, expected: str) -> None:
    assert mistake(f"{ECHO}{line}\n").startswith(f"x.toml:{expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: there is no listener: write [[listeners]], below it address and service"),
        ("[[listener]]\n", '1:3: unknown key "listener"; did you mean "listeners"?'),
        ('[listeners]\nservice = "echo"\n', "1:2: listeners is one table, and must be an array of them: write [[listeners]]"),
        (f'backend = "kqueue"\n{ECHO}', '1:11: backend is "kqueue", it must be one of "auto",'),
        (f'{ECHO}[loging]\nlevel = "info"\n', '4:2: unknown key "loging"; did you mean "log"?'),
        (f'[metrics]\naddress = "127.0.0.1:9100"\n{ECHO}', "2:11: address '127.0.0.1:9100': the scheme must be tcp, tls or unix"),
        ('[[listeners]]\nservice = "echo"\n', "1:1: listener 1 has no address, which it must have"),
        ('[[listeners]]\naddress = "tcp://127.0.0.1:1"\n', "1:1: listener 1 has no service, which it must have"),
        ('[[listeners]]\naddress = "tpc://127.0.0.1:1"\nservice = "echo"', "2:11: address 'tpc://127.0.0.1:1': the scheme must be"),
        ('[[listeners]]\naddress = "tcp://127.0.0.1:1"\nservice = "eco"', "3:11: there is no service 'eco', there are echo, chat, web"),
        ('[[listeners]]\naddress = "tls://127.0.0.1:1"\nservice = "echo"', "2:11: tls://127.0.0.1:1 needs a certificate"),
        ('[[listeners]]\naddress = "tcp://127.0.0.1:1"\nservice = "web"', "1:1: options of listener 1 has no target of the service web"),
        ('[[listeners]]\naddress = "tcp://127.0.0.1:1"\nservice = "chat"\nworkers = 2', "4:11: workers is 2, the service chat takes one only: rooms"),
        ('[[listeners]]\naddress = "tcp://127.0.0.1:1"\nservice = "chat"\nframing = "raw"', "4:1: framing means nothing to the service chat"),
        (f"{ECHO}{ECHO}", "5:11: tcp://127.0.0.1:9000 is the address of listener 1 already"),
        (f'{ECHO}name = "a"\n{ECHO.replace("9000", "1")}name = "a"\n', '8:8: name is "a", which is the name of listener 1 already'),
    ],
)  # fmt: skip
def test_what_is_said_of_a_file(text: str, expected: str) -> None:
    assert mistake(text).startswith(f"x.toml:{expected}")


def test_all_mistakes_are_told_in_the_order_of_the_file() -> None:
    found = mistakes(
        f"""drain_timeout = "long"
{ECHO}limits = {{ conections = 1, per_address = 0, message_rate = -1, message_burst = 2 }}
timeouts = {{ idle = 0, idle_read = 0 }}
[[listeners]]
adress = "tcp://127.0.0.1:1"
service = "web"
"""
    )
    assert [each.split(": ")[0].removeprefix("x.toml:") for each in found] == [
        *("1:17", "5:12", "5:42", "5:60", "6:21", "6:36", "7:1", "7:1", "8:1")
    ]
    assert not any("message_burst" in each for each in found)  # right, but for the rate
