"""Owns certificates for tests: an authority, what it issued, and a stranger. Made once in a run of the tests."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    cert: bytes
    key: bytes

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Files of both."""
        cert, key = directory / f"{name}.pem", directory / f"{name}.key"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        return cert, key


class Authority:
    """Issues certificates."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, *names: str, common_name: str | None = None, age: float = 0.0, life: float = 86400.0) -> Pair:
        """A certificate for these names, begun `age` seconds ago, valid for `life` seconds from then."""
        begun = datetime.now(UTC) - timedelta(seconds=age)
        until = begun + timedelta(seconds=life)
        leaf = self._ca.issue_cert(*names, common_name=common_name, not_before=begun, not_after=until)
        return Pair(b"".join(blob.bytes() for blob in leaf.cert_chain_pems), leaf.private_key_pem.bytes())

    def trust(self) -> ssl.SSLContext:
        """OpenSSL's side of a client that trusts it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pem.decode())
        return context


@cache
def authority() -> Authority:
    """Whom the tests trust."""
    return Authority()


@cache
def stranger() -> Authority:
    """Whom nobody trusts."""
    return Authority()


@cache
def localhost() -> Pair:
    """A certificate for localhost and 127.0.0.1."""
    return authority().issue("localhost", "127.0.0.1", "::1")
