"""What is told of configurations: the effective one, every option, the schema for editors."""

from __future__ import annotations

import json
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from wireway.config import Limits, Timeouts
from wireway.configuration import ReadConfiguration, entries, schema
from wireway.configuration.document import Document
from wireway.configuration.reading import read_configuration
from wireway.configuration.showing import HIDDEN, as_tables, as_toml

ECHO = '[[listeners]]\naddress = "tcp://127.0.0.1:9000"\nservice = "echo"\n'
FULL = """
drain_timeout = "1m30s"
[log]
style = "json"
[metrics]
address = "tcp://127.0.0.1:9100"
[[listeners]]
name = "one"
address = ["tls://127.0.0.1:9000", "unix:///run/one.sock"]
service = "echo"
framing = { kind = "length", width = 2, offset = 2 }
workers = 3
heartbeat = { every = 20, ping = "hex:00", answers = { "a" = "b" } }
limits = { ban = { after = 3 }, dry_run = ["ban"], byte_rate = 1000000, byte_burst = 1.5 }
timeouts = { idle = 0.25, lifetime = 7 }
[listeners.tls]
cert = "cert.pem"
key_password = "secret"
certificates = [{ cert = "other.pem" }]
[[listeners]]
address = "tcp://127.0.0.1:8000"
service = "web"
options = { target = "./public", keep_alive = "off" }
[[listeners]]
address = "tcp://127.0.0.1:9001"
service = "chat"
"""
EXAMPLE = files("wireway.configuration").joinpath("example.toml").read_text()


def read(text: str) -> ReadConfiguration:
    return read_configuration(Document.of(text.encode(), "x.toml", Path("/folder")))


@pytest.fixture(scope="module")
def validator() -> Any:
    made = schema()
    jsonschema.Draft7Validator.check_schema(made)
    return jsonschema.Draft7Validator(made)


@pytest.mark.parametrize("text", [ECHO, FULL, EXAMPLE], ids=["least", "full", "example"])
def test_what_is_shown_is_the_same_when_it_is_read_again(text: str) -> None:
    found = read(text)
    shown = as_toml(found)
    again = read(shown)
    assert as_toml(again) == shown
    if HIDDEN not in shown:
        assert again.configuration == found.configuration
    assert json.loads(json.dumps(as_tables(found))) == tomllib.loads(shown)


def test_passwords_are_hidden() -> None:
    assert "secret" not in as_toml(read(FULL))
    assert f'key_password = "{HIDDEN}"' in as_toml(read(FULL))


@pytest.mark.parametrize("text", [ECHO, FULL, EXAMPLE, as_toml(read(FULL)), as_toml(read(ECHO))])
def test_the_schema_takes_what_is_right(text: str, validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(tomllib.loads(text))] == []


@pytest.mark.parametrize(
    "line",
    [
        "limits.conections = 1",
        'timeouts.idle = "10 sec"',
        'timeouts.idle = "64KiB"',
        'buffers.high = "64K"',
        'framing = "lenght:4"',
        "workers = 0",
        'service = "eco"',
        "options.x = 1",
        'buffers.when_slow = "never"',
        'limits.connections = "5"',
        "heartbeat.every = 1",
    ],
)
def test_the_schema_refuses_what_is_wrong(line: str, validator: Any) -> None:
    text = ECHO if not line.startswith("service") else ECHO.replace('service = "echo"\n', "")
    assert list(validator.iter_errors(tomllib.loads(f"{text}{line}\n")))


@pytest.mark.parametrize("more", ["workers = 2", 'framing = "raw"', "heartbeat = { every = 1, ping = 'x' }"])
def test_the_schema_knows_what_a_service_has_no_use_for(more: str, validator: Any) -> None:
    chat = ECHO.replace("echo", "chat")
    assert not list(validator.iter_errors(tomllib.loads(chat)))
    if more.startswith("heartbeat"):
        chat = ECHO.replace("echo", "web") + 'options.target = "."\n'
    assert list(validator.iter_errors(tomllib.loads(f"{chat}{more}\n")))


def test_every_option_is_listed_with_what_is_said_of_it() -> None:
    found = {(each.key, each.service, each.framing): each for each in entries()}
    assert len(found) == len(entries())
    for each in found.values():
        assert each.doc, f"{each.key} has no text"
        assert "\n" not in each.doc
        assert each.kind
    idle = found["listeners[].timeouts.idle", "", ""]
    assert (idle.kind, idle.unit, idle.default, idle.may_be_off) == ("duration", "seconds", '"off"', True)
    assert "code `idle-timeout`" in idle.doc
    assert found["listeners[].buffers.high", "", ""].default == '"64KiB"'
    assert found["listeners[].address", "", ""].required
    assert found["log.style", "", ""].choices == ("human", "json")
    assert found["listeners[].options.target", "web", ""].required
    assert found["listeners[].framing.width", "", "length"].default == "4"
    assert found["listeners[].tls", "", ""].is_table
    assert found["listeners[].tls", "", ""].default == '"off"'


def test_every_option_of_a_group_is_in_the_file() -> None:
    keys = {each.key for each in entries()}
    for group, name in ((Timeouts, "timeouts"), (Limits, "limits")):
        for option in group.__dataclass_fields__:
            assert (f"listeners[].{name}.{option}" in keys) == (option != "connect")
