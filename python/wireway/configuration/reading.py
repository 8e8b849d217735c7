"""`Reader`: from the tables of a file to the dataclasses of `shape.py`, with every mistake and its place.

Owns what is said of unknown keys, wrong values and missing ones. One mistake hides no other: a wrong option has its
default while the rest is read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any

from wireway.configuration.describing import Option, options_of
from wireway.configuration.document import Document, Steps
from wireway.configuration.kinds import OFF
from wireway.configuration.mistakes import ConfigurationError, Mistake, guess, said
from wireway.configuration.shape import FRAMING, FRAMINGS, OPTIONS, Configuration, ListenerTable
from wireway.errors import ConfigError
from wireway.services import Service, find_service

__all__ = ["ReadConfiguration", "Reader", "load", "read_configuration"]

_NOT = object()
"""What a value is that could not be read."""


class ReadConfiguration:
    """A configuration, and what was read beside it: the services, the document."""

    def __init__(self, configuration: Configuration, services: tuple[Service, ...], document: Document) -> None:
        self.configuration = configuration
        self.services = services
        """The service of each listener."""
        self.document = document


def load(path: Path) -> ReadConfiguration:
    """Read a configuration file. Nothing is made or opened: `making.py` does.

    :raises ConfigurationError: with all its mistakes.
    :raises OSError: it can not be read.
    """
    return read_configuration(Document.read(path))


def read_configuration(document: Document) -> ReadConfiguration:
    """The configuration that a document has.

    :raises ConfigurationError: with all its mistakes.
    """
    reader = Reader(document)
    found = reader.all()
    if reader.mistakes or found is None:
        raise ConfigurationError(sorted(set(reader.mistakes)))
    return ReadConfiguration(found, tuple(reader.services), document)


class Reader:
    """Reads one document. `mistakes` has what is wrong, in the order in which it was found."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.mistakes: list[Mistake] = []
        self.services: list[Service] = []
        self._found: dict[str, Service] = {}  # looked for once: that reads the metadata of all packages

    def all(self) -> Configuration | None:
        """The whole file, or None."""
        values = dict(self._document.values)
        listeners = values.pop("listeners", _NOT)
        found = self._table(Configuration, values, ())
        if listeners is _NOT and any("listeners" in mistake.text for mistake in self.mistakes):
            return None  # the key is written wrong, and that was said
        tables = self._listeners(listeners)
        return None if found is None or self.mistakes else replace(found, listeners=tables)

    def _wrong(self, steps: Steps, text: str, *, at_key: bool = False) -> None:
        self.mistakes.append(self._document.mistake(steps, text, at_key=at_key))

    # --- listeners ------------------------------------------------------------------------------------

    def _listeners(self, given: Any) -> tuple[ListenerTable, ...]:
        if given is _NOT or given == []:
            self._wrong((), "there is no listener: write [[listeners]], below it address and service")
            return ()
        if isinstance(given, dict):
            self._wrong(
                ("listeners",), "listeners is one table, and must be an array of them: write [[listeners]]", at_key=True
            )
            return ()
        if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
            self._wrong(("listeners",), f"listeners is {said(given)}, it must be tables: write [[listeners]]")
            return ()
        found = [self._listener(table, ("listeners", number)) for number, table in enumerate(given)]
        self._unlike(found)
        return _named([each for each in found if each is not None])

    def _listener(self, table: dict[str, Any], steps: Steps) -> ListenerTable | None:
        service = self._service(table, steps)
        defaults: dict[str, Any] = {}
        values = dict(table)
        if service is not None:
            defaults |= service.defaults
            for name in sorted(service.without & values.keys()):
                del values[name]
                self._wrong((*steps, name), f"{name} means nothing to the service {table['service']}", at_key=True)
        own = values.pop("options", {})
        found: ListenerTable | None = self._table(ListenerTable, values, steps, defaults=defaults)
        options: Any = None
        if service is not None:
            options = self._options(service, own, (*steps, "options"), str(table["service"]))
        if found is None or service is None or options is None:
            return None
        found = replace(found, options=options)
        self._fits(found, service, steps)
        return found

    def _service(self, table: dict[str, Any], steps: Steps) -> Service | None:
        name = table.get("service")
        if not isinstance(name, str):
            return None
        try:
            service = self._found[name] = self._found.get(name) or find_service(name)
        except ConfigError as error:
            self._wrong((*steps, "service"), str(error))
            return None
        self.services.append(service)
        return service

    def _options(self, service: Service, given: Any, steps: Steps, name: str) -> Any:
        if not isinstance(given, dict):
            self._wrong(steps, f"options is {said(given)}, it must be a table of the options of {name}")
            return None
        try:
            return self._table(service.options, given, steps, of=f" of the service {name}")
        except TypeError as error:
            self._wrong((*steps[:-1], "service"), f"the service {name} has an option that no file can have: {error}")
            return None

    def _fits(self, found: ListenerTable, service: Service, steps: Steps) -> None:
        """What options of one listener have to do with each other."""
        secured = [address for address in found.address if address.startswith("tls://")]
        if secured and found.tls is None:
            self._wrong(
                (*steps, "address"), f"{secured[0]} needs a certificate: write [listeners.tls] with cert and key"
            )
        if found.tls is not None and not secured:
            self._wrong((*steps, "tls"), "tls is given, and no address begins with tls://", at_key=True)
        if service.alone and found.workers != 1:
            text = f"workers is {said(found.workers)}, the service {found.service} takes one only: {service.alone}"
            self._wrong((*steps, "workers"), text)

    def _unlike(self, found: list[ListenerTable | None]) -> None:
        """No two have a name or an address in common."""
        names: dict[str, int] = {}
        places: dict[str, int] = {}
        for number, each in enumerate(found):
            if each is None:
                continue
            for address in each.address:
                where = re.sub(r"^(tcp|tls)://", "", address)
                other = places.setdefault(where, number)
                if not address.endswith(":0") and other != number:
                    text = f"{address} is the address of listener {other + 1} already"
                    self._wrong(("listeners", number, "address"), text)
            other = names.setdefault(each.name, number) if each.name else number
            if other != number:
                text = f"name is {said(each.name)}, which is the name of listener {other + 1} already"
                self._wrong(("listeners", number, "name"), text)

    # --- tables ---------------------------------------------------------------------------------------

    def _table(
        self,
        shape: type,
        given: Mapping[str, Any],
        steps: Steps,
        *,
        default: Any = None,
        defaults: Mapping[str, Any] | None = None,
        of: str = "",
    ) -> Any:
        """The dataclass that a table has, or None. What it does not say is as in `default`, or in `defaults`."""
        options = options_of(shape)
        values: dict[str, Any] = dict(defaults or {})
        if type(default) is shape:
            values = {name: getattr(default, name) for name in options}
        for key, value in given.items():
            if key not in options:
                self._unknown(key, options, (*steps, key), of)
                continue
            found = self._option(options[key], value, (*steps, key), values.get(key, options[key].default))
            if found is not _NOT:
                values[key] = found
        good = True
        for name, option in options.items():
            if option.required and name not in values:
                good = False
                if name not in given:
                    where = _name(steps) if steps else "the file"
                    self._wrong(steps, f"{where} has no {name}{of}, which it must have", at_key=True)
        return self._made(shape, values, steps) if good else None

    def _option(self, option: Option, value: Any, steps: Steps, default: Any) -> Any:
        kind = option.kind
        if kind.name == FRAMING.name and isinstance(value, dict):
            return self._framing(value, steps)
        if kind.table is None or kind is OPTIONS:
            try:
                return kind.read(value, self._document.folder)
            except ConfigError as error:
                text = str(error)
                self._wrong(steps, text if text.startswith(option.name) else f"{option.name} {text}")
                return _NOT
        if kind.may_be_off and (value == OFF or value is False):
            return None
        if kind.many:
            return self._many(option, value, steps)
        if not isinstance(value, dict):
            off = f', or "{OFF}"' if kind.may_be_off else ""
            self._wrong(steps, f"{option.name} is {said(value)}, it must be a table{off}: write [{_dotted(steps)}]")
            return _NOT
        found = self._table(kind.table, value, steps, default=None if default is MISSING else default)
        return _NOT if found is None else found

    def _many(self, option: Option, value: Any, steps: Steps) -> Any:
        table = option.kind.table
        assert table is not None
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            text = f"{option.name} is {said(value)}, it must be tables: write [[{_dotted(steps)}]]"
            self._wrong(steps, text)
            return _NOT
        found = [self._table(table, each, (*steps, number)) for number, each in enumerate(value)]
        return tuple(each for each in found if each is not None)

    def _framing(self, value: dict[str, Any], steps: Steps) -> Any:
        kind = value.get("kind")
        if not isinstance(kind, str) or kind not in FRAMINGS:
            every = ", ".join(map(json.dumps, FRAMINGS))
            what = "has no kind" if kind is None else f"has the kind {said(kind)}"
            self._wrong((*steps, "kind"), f"framing {what}, it must be one of {every}{guess(kind, FRAMINGS)}")
            return _NOT
        rest = {key: each for key, each in value.items() if key != "kind"}
        found = self._table(FRAMINGS[kind], rest, steps, of=f" of the framing {kind}")
        return _NOT if found is None else found

    def _made(self, shape: type, values: dict[str, Any], steps: Steps) -> Any:
        """The dataclass itself, which refuses what it does: each option that is wrong is told, and left out."""
        told: set[str] = set()
        while True:
            try:
                return shape(**values)
            except ConfigError as error:
                name = error.option
                text = str(error).removeprefix(f"{shape.__name__}: ")
                if not (told and any(re.search(rf"\b{each}\b", text) for each in told)):
                    at = (*steps, name) if name in values else steps
                    self._wrong(at, re.sub(r"\bNone\b", f'"{OFF}"', text))
                if name not in values:
                    return None
                told.add(str(name))
                del values[str(name)]
                if options_of(shape)[str(name)].required:
                    return None

    def _unknown(self, key: str, options: Mapping[str, Option], steps: Steps, of: str) -> None:
        where = f" in [{_dotted(steps[:-1])}]" if len(steps) > 1 else ""
        near = guess(key, options)
        if not near or key.replace("-", "_") not in options:
            inside = [path for path in _paths(options) if path.rpartition(".")[2] == key.replace("-", "_")]
            near = f"; did you mean {json.dumps(inside[0])}?" if inside else near
        if not near:
            near = f"; there are {', '.join(options)}" if options else "; there are none"
        self._wrong(steps, f"unknown key {json.dumps(key, ensure_ascii=False)}{where}{of}{near}", at_key=True)


def _paths(options: Mapping[str, Option]) -> Iterator[str]:
    """All options in tables beneath, with dots."""
    for name, option in options.items():
        if option.kind.table is not None and not option.kind.many:
            inner = options_of(option.kind.table)
            yield from (f"{name}.{each}" for each in inner)
            yield from (f"{name}.{each}" for each in _paths(inner))


def _dotted(steps: Steps) -> str:
    """As the header of a table is written: numbers of arrays have no place in it."""
    return ".".join(step for step in steps if isinstance(step, str))


def _name(steps: Steps) -> str:
    """For people: `listener 2`, `tls of listener 2`."""
    if len(steps) >= 2 and steps[0] == "listeners" and isinstance(steps[1], int):
        rest = _dotted(steps[2:])
        return f"{rest} of listener {steps[1] + 1}" if rest else f"listener {steps[1] + 1}"
    return _dotted(steps)


def _named(listeners: list[ListenerTable]) -> tuple[ListenerTable, ...]:
    """Each with a name: its own, or that of its service, numbered from the second on."""
    taken = {each.name for each in listeners if each.name}
    found = []
    for each in listeners:
        name, number = each.name or each.service, 1
        while not each.name and name in taken:
            number += 1
            name = f"{each.service}-{number}"
        taken.add(name)
        found.append(replace(each, name=name))
    return tuple(found)
