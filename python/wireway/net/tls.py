"""`Tls`: how a server or a client secures its connections, and `TlsInfo`: what a connection agreed on.

Owns the options, the reading of PEM files, and what a peer's certificate says. The protocol is native (rustls, see
docs/decisions/0012-rustls.md); files that change are `renewing.py`'s. Knows no socket and no loop.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from wireway._native import TlsClient, TlsServer, read_certificate
from wireway.errors import ConfigError
from wireway.units import Seconds

__all__ = ["Certificate", "Extension", "Pem", "Tls", "TlsInfo"]

Pem = str | os.PathLike[str] | bytes
"""A path to a PEM file, or what stands in one."""
Password = str | bytes | None
Pair = tuple[Pem, Pem] | tuple[Pem, Pem, Password]
_Identity = tuple[bytes, bytes, bytes | None]

_MANY = 255
"""The most bytes of a protocol's name: RFC 7301, 3.1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tls:
    """TLS for `Server` and `connect`, whose addresses are then ``tls://host:port``. TLS 1.2 and 1.3.

    A server needs `cert` and `key`. A client needs nothing: it trusts whom the system trusts, and checks the server's
    name. Files are read when a server starts or a client is made; what is wrong in them is a `ConfigError` there.

    :raises ConfigError: an option is wrong.
    """

    cert: Pem | None = None
    """Our own certificate, behind it those of its issuers: a path to a PEM file, or its bytes. A client's is shown
    to servers that ask."""
    key: Pem | None = None
    """Its key: PKCS#8, PKCS#1 or SEC1, plain or encrypted. None: it stands in the file of `cert`."""
    key_password: Password = None
    """What an encrypted key was encrypted with (PBES2: PBKDF2 or scrypt; and OpenSSL's old DEK-Info)."""
    certificates: Sequence[Pair] = ()
    """More of a server's: ``(cert, key)`` or ``(cert, key, password)``. A client gets the one for the name that it asks
    for (SNI, RFC 6066), and the first of all if none is."""
    ca: Pem | None = None
    """A client's: who may have issued the server's certificate, or that very certificate. None: whom the system
    trusts."""
    client_ca: Pem | None = None
    """A server's: who may have issued certificates of clients."""
    client_auth: Literal["none", "optional", "required"] = "none"
    """Whether a server asks clients for a certificate. One that is shown is always checked."""
    server_name: str | None = None
    """A client's: the name that the server's certificate must be for; the host of the address unless told."""
    verify: bool = True
    """A client's: check the server's certificate. Danger: without it anybody on the way can read and change all."""
    alpn: Sequence[str] = ()
    """Application protocols, the most wanted first (RFC 7301). A peer that offers only others is refused."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version. 1.3 shuts out clients from before about 2019."""
    reload: Literal["watch", "signal", "off"] = "watch"
    """When a server reads its files again: ``watch`` looks once a second whether they changed, ``signal`` waits for
    SIGHUP (of a server in the main thread), ``off`` for `Server.reload_tls`. Files that can not be used, half written
    ones among them, are reported once and change nothing. Connections that are open go on as they are."""
    handshake_timeout: Seconds = 10.0
    """Seconds from accepting, or connecting, to the end of the handshake; code ``tls-handshake-timeout``."""

    def __post_init__(self) -> None:
        """Check what can be checked without reading a file."""
        for name in ("cert", "key", "ca", "client_ca"):
            _check_pem(name, getattr(self, name))
        _check_password("key_password", self.key_password)
        object.__setattr__(self, "certificates", tuple(self.certificates))
        for pair in self.certificates:
            if not isinstance(pair, tuple) or len(pair) not in (2, 3):
                raise _wrong("certificates", pair, "each is (cert, key) or (cert, key, password)")
            _check_pem("certificates", pair[0])
            _check_pem("certificates", pair[1])
            _check_password("certificates", pair[2] if len(pair) == 3 else None)
        for name, allowed in (
            ("client_auth", ("none", "optional", "required")),
            ("min_version", ("1.2", "1.3")),
            ("reload", ("watch", "signal", "off")),
        ):
            if getattr(self, name) not in allowed:
                raise _wrong(name, getattr(self, name), f"allowed are {', '.join(map(repr, allowed))}")
        if not isinstance(self.verify, bool):
            raise _wrong("verify", self.verify, "it must be True or False")
        if self.server_name is not None and not (isinstance(self.server_name, str) and self.server_name):
            raise _wrong("server_name", self.server_name, "it must be a host name, or None")
        names = (self.alpn,) if isinstance(self.alpn, str) else tuple(self.alpn)
        fit = [isinstance(name, str) and 0 < len(_bytes(name)) <= _MANY for name in names]
        if isinstance(self.alpn, str) or not all(fit):
            raise _wrong("alpn", self.alpn, 'it is a sequence of names, such as ("h2", "http/1.1")')
        object.__setattr__(self, "alpn", names)
        seconds = self.handshake_timeout
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
            raise _wrong("handshake_timeout", seconds, "it must be more than 0 seconds")

    # --- for servers ----------------------------------------------------------------------------------

    def check_server(self) -> None:
        """:raises ConfigError: it is not one for a server."""
        if self.cert is None:
            raise ConfigError("Tls: a server needs cert, and key unless that stands in the same file")
        for name, value, plain in (
            ("ca", self.ca, None),
            ("server_name", self.server_name, None),
            ("verify", self.verify, True),
        ):
            if value != plain:
                raise ConfigError(f"Tls: {name} is for clients; a server has client_ca and client_auth")

    def make_server(self) -> TlsServer:
        """Read the files. They are small; encrypted keys take up to a second, in which the GIL is free.

        :raises ConfigError: one of them can not be read or used.
        """
        pairs: list[Pair] = [(self.cert or b"", self.key or self.cert or b"", self.key_password), *self.certificates]
        return TlsServer(
            [_identity(pair) for pair in pairs],
            None if self.client_ca is None else _read("client_ca", self.client_ca),
            self.client_auth,
            [_bytes(name) for name in self.alpn],
            self.min_version,
        )

    def files(self) -> list[Path]:
        """Those that a server reads."""
        given: list[Pem | None] = [self.cert, self.key, self.client_ca]
        for pair in self.certificates:
            given += pair[:2]
        return [Path(each) for each in given if each is not None and not isinstance(each, bytes)]

    # --- for clients ----------------------------------------------------------------------------------

    def make_client(self) -> TlsClient:
        """Read the files of a client.

        :raises ConfigError: one of them can not be read or used, or an option is for servers.
        """
        if self.client_ca is not None or self.client_auth != "none" or self.certificates:
            raise ConfigError("Tls: client_ca, client_auth and certificates are for servers; a client has ca and cert")
        own = None
        if self.cert is not None:
            own = _identity((self.cert, self.key or self.cert, self.key_password))
        elif self.key is not None:
            raise ConfigError("Tls: key is given without cert")
        ca = None if self.ca is None else _read("ca", self.ca)
        return TlsClient(ca, own, [_bytes(name) for name in self.alpn], self.min_version, self.verify)


def _bytes(text: str) -> bytes:
    return text.encode()


def _wrong(name: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"Tls: {name} is {value!r}, {allowed}", option=name)


def _check_pem(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str | bytes | os.PathLike):
        raise ConfigError(f"Tls: {name} is {type(value).__name__}, it must be a path to a PEM file, or its bytes")


def _check_password(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str | bytes):
        raise ConfigError(f"Tls: {name}: a password is text or bytes, not {type(value).__name__}")


def _identity(pair: Pair) -> _Identity:
    password = pair[2] if len(pair) == 3 else None
    return (
        _read("cert", pair[0]),
        _read("key", pair[1]),
        password.encode() if isinstance(password, str) else password,
    )


def _read(name: str, given: Pem) -> bytes:
    if isinstance(given, bytes):
        return given
    try:
        return Path(given).read_bytes()
    except OSError as error:
        raise ConfigError(f"Tls: {name}: {os.fspath(given)}: {error.strerror}") from error


# --- what was agreed ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """What one connection agreed on: `conn.tls`, which is None without TLS. Immutable; any thread."""

    version: str
    """``TLSv1.2`` or ``TLSv1.3``."""
    cipher: str
    """As IANA writes it, ``TLS_AES_256_GCM_SHA384``."""
    alpn: str | None
    """The application protocol, if one was agreed on."""
    server_name: str | None
    """The name that the client asked for (SNI); of a client: what it asked for."""
    resumed: bool
    """Whether an earlier session was resumed, without a new exchange of certificates."""
    certificates: tuple[bytes, ...]
    """The peer's, DER, its own first. Empty where it showed none."""

    @classmethod
    def of(
        cls,
        version: str,
        cipher: str,
        alpn: bytes | None,
        server_name: str | None,
        resumed: bool,
        certificates: Sequence[bytes],
    ) -> TlsInfo:
        """From what the native half gives."""
        name = None if alpn is None else alpn.decode("utf-8", "replace")
        return cls(version, cipher, name, server_name, resumed, tuple(certificates))

    @property
    def peer_certificate(self) -> Certificate | None:
        """The peer's certificate, which was checked; None if it showed none. Read anew at each call.

        A client without `Tls.verify` has one that nobody checked.
        """
        return Certificate.parse(self.certificates[0]) if self.certificates else None


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension of a certificate as it stands: RFC 5280, 4.2."""

    oid: str
    """Dotted, ``2.5.29.17``."""
    critical: bool
    """Whether who does not understand it must refuse the certificate."""
    value: bytes
    """DER."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate, read (RFC 5280). Immutable; any thread."""

    der: bytes
    """The certificate itself."""
    subject: str
    """Whom it names, as RFC 4514 writes it: ``CN=device-7,O=Example``."""
    subject_parts: tuple[tuple[str, str], ...]
    """The parts of that name in the certificate's order: type (``CN``, ``O``, or an OID) and value."""
    issuer: str
    """Who issued it."""
    issuer_parts: tuple[tuple[str, str], ...]
    """The parts of that name."""
    serial: str
    """Hexadecimal, lower case."""
    not_before: datetime
    """Valid from, UTC."""
    not_after: datetime
    """Valid until, UTC."""
    san: tuple[str, ...]
    """Its other names: ``DNS:example.com``, ``IP:192.0.2.1``, ``URI:spiffe://…``, ``email:…``."""
    extensions: tuple[Extension, ...]
    """All of them, as they stand."""
    fingerprint_sha256: str
    """SHA-256 of `der`, hexadecimal, lower case."""

    @classmethod
    def parse(cls, der: bytes) -> Certificate:
        """Read DER.

        :raises ValueError: it is not a certificate.
        """
        found: dict[str, Any] = read_certificate(der)
        return cls(
            der=der,
            subject=found["subject"],
            subject_parts=tuple(found["subject_parts"]),
            issuer=found["issuer"],
            issuer_parts=tuple(found["issuer_parts"]),
            serial=found["serial"],
            not_before=datetime.fromtimestamp(found["not_before"], UTC),
            not_after=datetime.fromtimestamp(found["not_after"], UTC),
            san=tuple(found["san"]),
            extensions=tuple(Extension(*each) for each in found["extensions"]),
            fingerprint_sha256=found["fingerprint_sha256"],
        )

    @property
    def common_name(self) -> str | None:
        """The last ``CN`` of the subject: what devices are usually named by. Hosts are named in `san`."""
        names = [value for kind, value in self.subject_parts if kind == "CN"]
        return names[-1] if names else None
