"""Which services there are: wireway's own, and those of other packages, by entry points.

Owns the group's name, and what is said of a service that can not be loaded. Imports a service when it is asked for.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from wireway.errors import ConfigError
from wireway.services.contract import Service

__all__ = ["BUILT_IN", "GROUP", "BrokenServiceError", "FoundService", "find_service", "find_services"]

GROUP = "wireway.services"
"""The group of entry points."""
BUILT_IN = {
    "echo": "wireway.services.echo:service",
    "chat": "wireway.services.chat.offer:service",
    "web": "wireway.services.web:service",
}
"""Wireway's own, which are there even where its metadata is not, and whose names nobody else can take."""


class BrokenServiceError(ConfigError):
    """A service is installed, and can not be loaded. The text names its package."""


@dataclass(frozen=True, slots=True)
class FoundService:
    """A service by name. It is not loaded yet."""

    name: str
    package: str
    """The distribution that has it, with its version; empty for wireway's own."""
    entry: EntryPoint

    def load(self) -> Service:
        """Import it.

        :raises BrokenServiceError: that fails, or what is found is no `Service`.
        """
        try:
            found = self.entry.load()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise BrokenServiceError(f"{self._who()} can not be loaded: {what}") from error
        if not isinstance(found, Service):
            what = f"{self.entry.value} is a {type(found).__name__}, not a wireway.services.Service"
            raise BrokenServiceError(f"{self._who()} can not be loaded: {what}")
        return found

    def _who(self) -> str:
        return f"the service {self.name!r}" + (f" of the package {self.package}" if self.package else "")


def find_services() -> dict[str, FoundService]:
    """All that are installed, by name: wireway's own first."""
    found = {name: FoundService(name, "", EntryPoint(name, value, GROUP)) for name, value in BUILT_IN.items()}
    others = {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in BUILT_IN}
    for name, entry in sorted(others.items()):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.module
        found[name] = FoundService(name, package, entry)
    return found


def find_service(name: str) -> Service:
    """The service of that name, loaded.

    :raises ConfigError: there is none; the text names the nearest.
    :raises BrokenServiceError: it can not be loaded.
    """
    found = find_services()
    if name not in found:
        near = difflib.get_close_matches(name, found, 1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"there is no service {name!r}, there are {', '.join(found)}{guess}", option="service")
    return found[name].load()
