"""From a `Service` to the command `wireway serve NAME`: its options, and those that every listener has.

Owns how options of a service are written on a command line. Knows no service.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import wireway
from wireway.cli import serving
from wireway.cli.failing import Exit, Failure, for_people
from wireway.configuration.describing import Option, options_of
from wireway.configuration.kinds import OFF
from wireway.framing.names import FRAMING_NAMES, framing_name, framing_of
from wireway.services import FoundService, Listener, Service
from wireway.services.finding import BrokenServiceError

__all__ = ["command_of"]

Framing = Annotated[str, typer.Option(help=f"How the stream is cut into messages: {FRAMING_NAMES}.", metavar="NAME")]
_METAVARS = {"duration": "TIME", "size": "SIZE", "size a second": "SIZE", "file": "FILE", "whole number": "N"}


def command_of(found: FoundService) -> typer.Typer:
    """The command of a service, as an app that has it alone.

    :raises BrokenServiceError: it can not be loaded.
    """
    service = found.load()
    try:
        own = options_of(service.options)
    except TypeError as error:
        package = f" of the package {found.package}" if found.package else ""
        raise BrokenServiceError(f"the service {found.name!r}{package} can not be loaded: {error}") from error

    def run(**given: Any) -> None:
        _run(found.name, service, own, given)

    parameters = [*_arguments(own), *_common(service), *_options(own)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command(found.name, help=service.summary)(run)
    return app


# --- what can be written ------------------------------------------------------------------------------------------


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _common(service: Service) -> list[inspect.Parameter]:
    """Those of every listener, as far as they mean something to the service."""
    found = [
        _parameter("host", serving.Host, "127.0.0.1"),
        _parameter("port", serving.Port, service.port),
        _parameter("unix", serving.Unix, None),
    ]
    if "framing" not in service.without:
        own = service.defaults.get("framing")
        found.append(_parameter("framing", Framing, "raw" if own is None else framing_name(own)))
    if "tls" not in service.without:
        found += [_parameter("cert", serving.Cert, None), _parameter("key", serving.Key, None)]
    if not service.alone:
        found.append(_parameter("workers", serving.Workers, "1"))
    return [
        *found,
        _parameter("backend", serving.Backend, "auto"),
        _parameter("log", serving.Log, serving.LogStyle.HUMAN),
        _parameter("metrics", serving.Metrics, None),
        _parameter("reload", serving.Reload, False),
    ]


def _arguments(own: Mapping[str, Option]) -> list[inspect.Parameter]:
    return [
        _parameter(option.name, Annotated[str, typer.Argument(help=option.summary, parser=_reader(option))])
        for option in own.values()
        if option.metadata.get("argument")
    ]


def _options(own: Mapping[str, Option]) -> list[inspect.Parameter]:
    return [_option(option) for option in own.values() if not option.metadata.get("argument")]


def _option(option: Option) -> inspect.Parameter:
    kind = option.kind
    default: Any = inspect.Parameter.empty if option.required else option.default
    help_text = f"{option.summary}." if option.summary else ""
    flag = f"--{option.name.replace('_', '-')}"
    if kind.name == "true or false" and not kind.may_be_off:
        return _parameter(
            option.name, Annotated[bool, typer.Option(f"{flag}/--no-{flag[2:]}", help=help_text)], default
        )
    if kind.choices and not kind.may_be_off:
        choices: Any = StrEnum(option.name, {each: each for each in kind.choices})  # type: ignore[misc]
        chosen = default if option.required else choices(default)
        return _parameter(option.name, Annotated[choices, typer.Option(flag, help=help_text)], chosen)
    if kind.name == "list of text" and not kind.may_be_off:
        many = Annotated[list[str], typer.Option(flag, help=f"{help_text} May be repeated.")]
        return _parameter(option.name, many, default if option.required else list(default))
    metavar = _METAVARS.get(kind.name, "TEXT")
    annotation = Annotated[str, typer.Option(flag, help=help_text, metavar=metavar, parser=_reader(option))]
    return _parameter(option.name, annotation, default if option.required else kind.show(default))


def _reader(option: Option) -> Callable[[str], Any]:
    """What reads the text of an option, as it would be read in a file."""

    def read(text: str) -> Any:
        value: Any = text
        if option.kind.name in ("whole number", "number") and text != OFF:
            try:
                value = json.loads(text)
            except ValueError:
                value = text
        try:
            return option.kind.read(value, Path.cwd())
        except wireway.ConfigError as error:
            raise typer.BadParameter(str(error)) from None

    return read


# --- what is done -------------------------------------------------------------------------------------------------


def _run(name: str, service: Service, own: Mapping[str, Option], given: dict[str, Any]) -> None:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if key in own}
    values = {key: value.value if isinstance(value, StrEnum) else value for key, value in values.items()}
    named, usual = given.get("framing"), service.defaults.get("framing")
    with for_people():
        # What its name does not tell, only the service's own framing has.
        framing = None if named is None else usual if usual and framing_name(usual) == named else framing_of(named)
        options = _made(service, values)
        cert, key = given.get("cert"), given.get("key")
        address = serving.address(given["host"], given["port"], given["unix"], cert)
        defaults = {key: value for key, value in service.defaults.items() if key != "framing"}
        listener = Listener(
            addresses=(address,),
            name=name,
            framing=framing,
            tls=serving.tls_of(cert, key),
            **defaults,
        )
        watched = [] if service.watched is None else list(service.watched(listener, options))
    running = serving.Running(
        what=name if framing is None else f"{name}, {named} framing",
        backend=given["backend"],
        workers=given.get("workers", "1"),
        log=given["log"],
        metrics=given["metrics"],
        reload=given["reload"],
        watched=[Path.cwd(), *watched],
    )
    running.begin()
    with for_people():
        made = service.make(listener, options)
    servers = [made] if isinstance(made, wireway.Server) else list(made)
    try_it = service.try_it

    running.serve(
        servers[0],
        "" if try_it is None else lambda place: try_it(listener, place),
        others=lambda: servers[1:],
    )


def _made(service: Service, values: dict[str, Any]) -> Any:
    try:
        return service.options(**values)
    except wireway.ConfigError as error:
        text = str(error).removeprefix(f"{service.options.__name__}: ")
        if error.option:
            text = text.replace(error.option, f"--{error.option.replace('_', '-')}", 1)
        raise Failure(text, Exit.USAGE) from None
