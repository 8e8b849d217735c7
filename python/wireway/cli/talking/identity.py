"""Owns what the options of `wireway connect` for TLS mean together, for either side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wireway
from wireway.cli.failing import Exit, Failure

__all__ = ["tls_of"]


def tls_of(
    url: str,
    listen: bool,
    ca: Path | None,
    insecure: bool,
    cert: Path | None,
    key: Path | None,
    server_name: str | None,
    alpn: Sequence[str],
) -> wireway.Tls | None:
    """The `Tls` of the connection; None without TLS.

    :raises Failure: an option does not fit the address or the side, or a file can not be read.
    """
    files = {"--ca": ca, "--cert": cert, "--key": key}
    given = [
        name
        for name, value in {
            **files,
            "--insecure": insecure,
            "--server-name": server_name,
            "--alpn": alpn,
        }.items()
        if value
    ]
    if not url.lower().startswith("tls://"):
        if given:
            raise Failure(f"{given[0]} is for TLS: write tls://, or wss://, at the front of the address", Exit.USAGE)
        return None
    contents = {name: None if file is None else _read(name, file) for name, file in files.items()}
    if key is not None and cert is None:
        raise Failure("--key is of no use without --cert: give the certificate too", Exit.USAGE)
    both: dict[str, Any] = {"cert": contents["--cert"], "key": contents["--key"], "alpn": tuple(alpn)}
    if not listen:
        tls = wireway.Tls(**both, ca=contents["--ca"], verify=not insecure, server_name=server_name)
        _check(tls.make_client, files)
        return tls
    if cert is None:
        raise Failure("to listen on tls:// takes a certificate: give --cert, and --key", Exit.USAGE)
    if insecure or server_name:
        wrong = "--insecure" if insecure else "--server-name"
        raise Failure(f"{wrong} is for the side that connects: leave it out", Exit.USAGE)
    who: dict[str, Any] = {"client_ca": contents["--ca"], "client_auth": "required"} if ca is not None else {}
    tls = wireway.Tls(**{**both, **who, "key": both["key"] or both["cert"]}, reload="off")
    _check(tls.make_server, files)
    return tls


def _read(option: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise Failure(f"{option} {file} is not there: give a file with PEM in it", Exit.MISSING) from None
    except PermissionError:
        raise Failure(f"{option} {file}: you may not read it", Exit.PERMISSION) from None
    except OSError as error:
        raise Failure(f"{option} {file}: {error.strerror}", Exit.USAGE) from None


def _check(make: Any, files: dict[str, Path | None]) -> None:
    """What is wrong in a file is told with the option and the file, before anything is opened."""
    try:
        make()
    except wireway.ConfigError as error:
        text = str(error).removeprefix("Tls: ")
        field = text.partition(":")[0]
        option = {"ca": "--ca", "client_ca": "--ca", "cert": "--cert", "key": "--key"}.get(field)
        named = f"{option} {files[option]}" if option is not None and files[option] is not None else field
        raise Failure(f"{named}:{text.partition(':')[2]}", Exit.USAGE) from None
