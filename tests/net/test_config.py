"""Option groups: what is taken, what is refused and how it is said, and what the native half gets of it."""

from __future__ import annotations

import dataclasses
import pickle
import re
from typing import Any

import pytest

from wireway import ConfigError
from wireway.config import (
    LIMITS,
    Access,
    Ban,
    Buffers,
    Heartbeat,
    Keepalive,
    Limits,
    SocketOptions,
    Timeouts,
    native_options,
)

GROUPS: tuple[Any, ...] = (
    Timeouts(),
    Heartbeat(every=30, ping=b"ping"),
    Ban(),
    Limits(),
    Buffers(),
    Keepalive(),
    SocketOptions(),
    Access(),
)
DURATIONS = [(Timeouts, each.name) for each in dataclasses.fields(Timeouts)] + [(SocketOptions, "user_timeout")]
RATES = ("accept_rate", "message_rate", "byte_rate")
NO_DURATION = (0, -1, -0.5, float("nan"), float("inf"), "10", True, False, 1j)


def named(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("group", GROUPS, ids=named)
def test_a_group_is_a_value(group: Any) -> None:
    assert group == dataclasses.replace(group)
    assert hash(group) == hash(dataclasses.replace(group))
    assert pickle.loads(pickle.dumps(group)) == group
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(group, dataclasses.fields(group)[0].name, None)
    assert not hasattr(group, "__dict__")


@pytest.mark.parametrize("group", [group for group in GROUPS if not isinstance(group, Keepalive)], ids=named)
def test_a_group_takes_keywords_only(group: Any) -> None:
    with pytest.raises(TypeError, match="positional"):
        type(group)(1, 2, 3)


@pytest.mark.parametrize("value", NO_DURATION, ids=repr)
@pytest.mark.parametrize(("group", "name"), DURATIONS)
def test_a_duration_is_more_than_0_seconds(group: Any, name: str, value: object) -> None:
    text = f"{group.__name__}: {name} is {value!r}, it must be more than 0 seconds"
    with pytest.raises(ConfigError, match="^" + re.escape(text)):
        group(**{name: value})


@pytest.mark.parametrize("value", [None, 1, 0.001, 86400])
@pytest.mark.parametrize(("group", "name"), DURATIONS)
def test_durations_that_are_taken(group: Any, name: str, value: float | None) -> None:
    assert getattr(group(**{name: value}), name) == value


@pytest.mark.parametrize("value", NO_DURATION, ids=repr)
@pytest.mark.parametrize("name", RATES)
def test_a_rate_is_more_than_0(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^Limits: {name} is {re.escape(repr(value))}, it must be more than 0 a sec"):
        Limits(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("group", "options", "text"),
    [
        (Heartbeat, {"every": None}, "every is None, it must be more than 0 seconds"),
        (Heartbeat, {"every": 0}, "every is 0, it must be more than 0 seconds"),
        (Heartbeat, {"every": True}, "every is True, it must be more than 0 seconds"),
        (Heartbeat, {"timeout": -1}, "timeout is -1, it must be more than 0 seconds"),
        (Heartbeat, {"ping": b""}, "ping is b'', it must be the bytes of one message"),
        (Heartbeat, {"ping": "ping"}, "ping is 'ping', it must be the bytes of one message"),
        (Heartbeat, {"pong": b""}, "pong is b'', it must be the bytes of one message"),
        (Heartbeat, {"pong": 1}, "pong is 1, it must be the bytes of one message"),
        (Heartbeat, {"jitter": 1.1}, "jitter is 1.1, it must be a part of `every`, 0 to 1"),
        (Heartbeat, {"jitter": True}, "jitter is True, it must be a part of `every`, 0 to 1"),
        (Heartbeat, {"answers": [(b"a", b"b")]}, "it must map messages to answers, both bytes"),
        (Heartbeat, {"answers": {"a": b"b"}}, "it must map messages to answers, both bytes"),
        (Heartbeat, {"answers": {b"a": "b"}}, "it must map messages to answers, both bytes"),
        (Heartbeat, {"answers": {b"": b"b"}}, "it must map messages to answers, both bytes"),
        (Heartbeat, {"pong": b"o", "answers": {b"o": b"i"}}, "b'o' is the pong: two sides would answer each other"),
        (Ban, {"after": 0}, "after is 0, it must be at least 1 strikes"),
        (Ban, {"after": True}, "after is True, it must be at least 1 strikes"),
        (Ban, {"within": None}, "within is None, it must be more than 0 seconds"),
        (Ban, {"seconds": 0}, "seconds is 0, it must be more than 0 seconds"),
        (Limits, {"connections": 0}, "connections is 0, it must be at least 1 connections, or None"),
        (Limits, {"connections": True}, "connections is True, it must be at least 1 connections, or None"),
        (Limits, {"connections": 1.0}, "connections is 1.0, it must be at least 1 connections, or None"),
        (Limits, {"per_address": -1}, "per_address is -1, it must be at least 1"),
        (Limits, {"per_subnet": "9"}, "per_subnet is '9', it must be at least 1"),
        (Limits, {"subnet_v4": 33}, "subnet_v4 is 33, it must be 0 to 32 bits"),
        (Limits, {"subnet_v6": None}, "subnet_v6 is None, it must be 0 to 128 bits"),
        (Limits, {"accept_rate": 1, "accept_burst": 0.5}, "accept_burst is 0.5, it must be at least 1, or None"),
        (Limits, {"byte_burst": 10}, "byte_burst is 10, it means nothing without byte_rate"),
        (Limits, {"queued_bytes": 0}, "queued_bytes is 0, it must be at least 1 bytes"),
        (Limits, {"handlers": 0}, "handlers is 0, it must be at least 1 handlers"),
        (Limits, {"ban": True}, "ban is True, it must be a Ban, or None"),
        (Limits, {"dry_run": "connections"}, "dry_run is 'connections', it must be True, False, or a set of names"),
        (Limits, {"dry_run": {"everything"}}, "dry_run is {'everything'}, it must be True, False, or a set of names"),
        (Limits, {"dry_run": 1}, "dry_run is 1, it must be True, False, or a set of names"),
        (Buffers, {"low": -1}, "low is -1, it must be at least 0 bytes"),
        (Buffers, {"low": None}, "low is None, it must be at least 0 bytes"),
        (Buffers, {"high": "64k"}, "high is '64k', it must be at least 0 bytes"),
        (Buffers, {"high": 1.5}, "high is 1.5, it must be at least 0 bytes"),
        (Buffers, {"high": 10, "low": 11}, "low=11 is more than high=10: low, high, soft, hard rise"),
        (Buffers, {"soft": 1000}, "high=65,536 is more than soft=1,000: "),
        (Buffers, {"hard": 1000}, "high=65,536 is more than hard=1,000: "),
        (Buffers, {"soft": 1 << 21, "hard": 1 << 20}, "soft=2,097,152 is more than hard=1,048,576: "),
        (Buffers, {"soft_seconds": None}, "soft_seconds is None, it must be more than 0 seconds"),
        (Buffers, {"when_slow": "wait"}, "allowed are 'pause', 'drop-oldest', 'latest', 'close'"),
        (Buffers, {"when_slow": None}, "when_slow is None, allowed are 'pause', "),
        (Buffers, {"droppable": 0}, "droppable is 0, it must be at least 1 messages"),
        (Keepalive, {"idle": 0}, "idle is 0, it must be 1 to 32,767 seconds"),
        (Keepalive, {"interval": 1.5}, "interval is 1.5, it must be 1 to 32,767 seconds"),
        (Keepalive, {"count": 128}, "count is 128, it must be 1 to 127 probes"),
        (SocketOptions, {"backlog": 0}, "backlog is 0, it must be 1 to 2,147,483,647 connections"),
        (SocketOptions, {"backlog": "many"}, "backlog is 'many', it must be "),
        (SocketOptions, {"no_delay": 1}, "no_delay is 1, it must be True or False"),
        (SocketOptions, {"keepalive": True}, "keepalive is True, it must be a Keepalive, or None"),
        (SocketOptions, {"user_timeout": 1e9}, "the kernel takes at most 2,147,483 seconds"),
        (SocketOptions, {"defer_accept": 0.5}, "defer_accept is 0.5, it must be 1 to 65,535 seconds, or None"),
        (SocketOptions, {"fast_open": True}, "fast_open is True, it must be 1 to "),
        (SocketOptions, {"send_buffer": 0}, "send_buffer is 0, it must be 1 to "),
        (SocketOptions, {"receive_buffer": 1 << 30}, "it must be 1 to 1,073,741,823 bytes, or None"),
        (SocketOptions, {"dual_stack": "yes"}, "dual_stack is 'yes', it must be True or False"),
        (Access, {"allow": "10.0.0.0/8"}, "it must be a sequence of networks"),
        (Access, {"allow": ["10.0.0.1/8"]}, "allow is '10.0.0.1/8', it must be a network like '192.0.2.0/24': "),
        (Access, {"deny": ["example.com"]}, "deny is 'example.com', it must be a network"),
        (Access, {"proxies": ["10.0.0.0/8"]}, "they mean nothing with proxy_protocol='off'"),
        (Access, {"proxy_protocol": True}, "allowed are 'off', 'optional', 'required'"),
    ],
    ids=str,
)
def test_what_is_refused_is_named(group: Any, options: dict[str, Any], text: str) -> None:
    needed = {"every": 30, "ping": b"ping"} if group is Heartbeat else {}
    with pytest.raises(ConfigError) as caught:
        group(**{**needed, **options})
    assert str(caught.value).startswith(f"{group.__name__}: ")
    assert text in str(caught.value)


def test_what_was_given_may_change_afterwards() -> None:
    answers, names, networks = {b"ping": b"pong"}, {"ban"}, ["10.0.0.0/8"]
    heartbeat = Heartbeat(every=1, ping=b"x", answers=answers)
    limits, access = Limits(dry_run=names), Access(allow=networks)  # type: ignore[arg-type]
    answers.clear()
    names.clear()
    networks.clear()
    assert heartbeat.answers == {b"ping": b"pong"}
    assert limits.dry_run == {"ban"}
    assert access.allow == ("10.0.0.0/8",)


def test_networks_are_written_the_same_way() -> None:
    access = Access(allow=("192.0.2.7", "2001:DB8:0::/32"))
    assert access.allow == ("192.0.2.7/32", "2001:db8::/32")


# --- for the native half ---

KEYS = {
    *("connect", "first_message", "idle", "idle_read", "idle_write", "write_stall", "close_linger", "lifetime"),
    *("connections", "per_address", "per_subnet", "subnet_v4", "subnet_v6", "accept_rate", "accept_burst"),
    *("message_rate", "message_burst", "byte_rate", "byte_burst", "queued_bytes", "handlers", "dry_run"),
    *("ban_after", "ban_within", "ban_seconds"),
    *("low", "high", "soft", "soft_seconds", "hard", "when_slow", "droppable"),
    *("every", "ping", "pong", "timeout", "jitter", "answers"),
    *("allow", "deny", "proxy_protocol", "proxies"),
}


def test_every_key_is_always_there() -> None:
    assert set(native_options()) == KEYS
    assert set(native_options(heartbeat=Heartbeat(every=1, ping=b"x"), limits=Limits(ban=Ban()))) == KEYS
    table = str(native_options.__doc__)
    assert not [key for key in KEYS if not re.search(rf"\b{key}\b", table)], "the docstring names each"


def test_no_option_of_a_group_is_forgotten() -> None:
    names = [
        each.name for group in (Timeouts, Limits, Buffers, Heartbeat, Access) for each in dataclasses.fields(group)
    ]
    assert len(names) == len(set(names)), "two groups have an option of one name: prefix it"
    assert set(names) - KEYS == {"ban"}


def test_durations_and_rates_are_floats() -> None:
    options = native_options(
        Timeouts(idle=5, lifetime=None), Limits(byte_rate=10, ban=Ban(after=2, within=3, seconds=4)), Buffers()
    )
    assert [type(options[name]) for name in ("idle", "byte_rate", "ban_within", "soft_seconds")] == [float] * 4
    assert (options["ban_after"], options["ban_within"], options["ban_seconds"]) == (2, 3.0, 4.0)
    assert options["lifetime"] is None
    assert [type(options[name]) for name in ("low", "high", "subnet_v4")] == [int] * 3


@pytest.mark.parametrize(
    ("rate", "burst", "expected"), [(None, None, None), (5, None, 5.0), (0.2, None, 1.0), (5, 9, 9.0)]
)
def test_a_burst_is_the_rate_unless_told(rate: float | None, burst: float | None, expected: float | None) -> None:
    assert native_options(limits=Limits(message_rate=rate, message_burst=burst))["message_burst"] == expected


def test_a_heartbeats_timeout_is_its_interval_unless_told() -> None:
    assert native_options(heartbeat=Heartbeat(every=30, ping=b"x"))["timeout"] == 30.0
    assert native_options(heartbeat=Heartbeat(every=30, ping=b"x", timeout=5))["timeout"] == 5.0
    assert native_options()["every"] is None


@pytest.mark.parametrize(("given", "expected"), [(False, frozenset()), (True, LIMITS), ({"ban"}, frozenset({"ban"}))])
def test_a_dry_run_is_a_set_of_names(given: Any, expected: frozenset[str]) -> None:
    assert native_options(limits=Limits(dry_run=given))["dry_run"] == expected
