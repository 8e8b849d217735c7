"""What is said when a server has started: what runs where, on which back end, within which limits.

Owns the words, for people and for programs. Knows no service: what a command knows more it hands over.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import typer

import wireway
from wireway.cli import logs
from wireway.framing.names import framing_name
from wireway.net.descriptors import budget
from wireway.net.runnable import Runnable
from wireway.units import duration_text, size_text

__all__ = ["Listens", "announce", "stopped"]

_SIZES = ("low", "high", "soft", "hard", "queued_bytes", "byte_rate", "byte_burst")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listens:
    """One listener of the start."""

    what: str
    """Which service, in a few words."""
    server: wireway.Server
    workers: int | str = 1
    more: Mapping[str, str] = field(default_factory=dict)
    """Further lines, by what they are about: other addresses, a line to try it."""


def announce(title: str, listeners: Sequence[Listens], more: Mapping[str, str]) -> None:
    """Say it: lines on stdout, or an event in the log if that is for programs.

    :param more: lines about the whole process.
    """
    first = listeners[0].server
    found = budget(first.backend)
    if logs.is_json():
        logs.event(
            "started",
            event="started",
            version=wireway.__version__,
            what=title,
            backend=first.backend,
            backend_reason=first.backend_reason,
            listeners=[_event(each) for each in listeners],
            descriptors={"usable": found.usable, "in_use": found.in_use, "room": found.room},
            **more,
        )
        return
    whole = {
        "back end": f"{first.backend} ({first.backend_reason})",
        "descriptors": f"limit {found.usable:,}, in use {found.in_use:,}: "
        f"room for about {found.room:,} connections ({found.remedy})",
        **more,
        "stop it": "Ctrl-C",
    }
    typer.echo(f"wireway {wireway.__version__}: {title}")
    single = len(listeners) == 1
    for each in listeners:
        if not single:
            typer.echo(f"  {each.what}")
        for name, text in _lines(each).items():
            typer.echo(f"  {name:<12} {text}" if single else f"    {name:<12} {text}")
    if not single:
        typer.echo("  all of it")
    for name, text in whole.items():
        typer.echo(f"  {name:<12} {text}" if single or name == "stop it" else f"    {name:<12} {text}")
    sys.stdout.flush()


def stopped() -> None:
    """Say that it has ended in order."""
    if logs.is_json():
        logs.event("stopped", event="stopped")
    else:
        typer.echo("stopped")


def _lines(each: Listens) -> dict[str, str]:
    groups = Runnable(each.server).groups()
    limits = _limits(groups)
    tls = groups["tls"]
    return {
        "address": ", ".join(each.server.addresses),
        **({} if tls is None else {"TLS": _tls(tls)}),
        **({} if each.workers == 1 else {"workers": str(each.workers)}),
        "limits": ", ".join(f"{name} {text}" for name, text in limits.items()) or "none but the descriptors",
        **each.more,
    }


def _event(each: Listens) -> dict[str, Any]:
    groups = Runnable(each.server).groups()
    return {
        "what": each.what,
        "addresses": each.server.addresses,
        "framing": framing_name(groups["framing"]),
        "tls": groups["tls"] is not None,
        "workers": each.workers,
        "limits": _limits(groups),
    }


def _tls(tls: wireway.Tls) -> str:
    clients = "" if tls.client_auth == "none" else f", certificates of clients {tls.client_auth}"
    return f"{tls.min_version} or newer, {', '.join(dict.fromkeys(map(str, tls.files())))}{clients}"


def _limits(groups: Mapping[str, Any]) -> dict[str, str]:
    """The bounds that hold, by the names that they have in a file."""
    found = {}
    if (largest := getattr(groups["framing"], "max_size", None)) is not None:
        found["max_size"] = size_text(largest)
    for each in fields(groups["limits"]):
        value = getattr(groups["limits"], each.name)
        if value is not None and each.name not in ("subnet_v4", "subnet_v6", "dry_run"):
            found[each.name] = size_text(value) if each.name in _SIZES else _text(value)
    for each in fields(groups["timeouts"]):
        value = getattr(groups["timeouts"], each.name)
        if value is not None and not each.metadata.get("client"):
            found[each.name] = duration_text(value)
    found["high"] = size_text(groups["buffers"].high)
    for name in ("soft", "hard"):
        if (value := getattr(groups["buffers"], name)) is not None:
            found[name] = size_text(value)
    return found


def _text(value: Any) -> str:
    if isinstance(value, wireway.Ban):
        return f"after {value.after} strikes for {duration_text(value.seconds)}"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
