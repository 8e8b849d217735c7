"""What the ASGI extension `tls` (0.2) says of a connection.

Owns the numbers that IANA gave to versions and cipher suites. Knows no requests.
"""

from __future__ import annotations

import ssl
from typing import Any

from wireway.net.tls import TlsInfo

__all__ = ["tls_extension"]

_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_SUITES = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": 0xC02B,
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": 0xC02C,
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": 0xC02F,
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": 0xC030,
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA8,
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA9,
}


def tls_extension(info: TlsInfo) -> dict[str, Any]:
    """The entry of `scope["extensions"]`. Our own certificate is not told: it may change with each handshake."""
    client = info.peer_certificate
    return {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der) for der in info.certificates],
        "client_cert_name": None if client is None else client.subject,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(info.version),
        "cipher_suite": _SUITES.get(info.cipher),
    }
