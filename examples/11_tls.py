"""TLS: devices that prove who they are, and a certificate that is renewed while they stay.

Shows `Tls` of a server and of a client, `conn.tls`, and how a client hears that it is refused.
Try it: python examples/11_tls.py, which makes its certificates with the openssl command in a folder of its own.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path

import wireway

FOLDER = Path(tempfile.mkdtemp(prefix="wireway-tls-"))


def make(name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key. In earnest an authority signs it."""
    cert, key = FOLDER / f"{name}.pem", FOLDER / f"{name}.key"
    what = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1", "-keyout", key, "-out", cert)
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-addext", "basicConstraints=CA:FALSE")
    subprocess.run(("openssl", "req", "-x509", *kind, *what), check=True, capture_output=True)
    return cert, key


(cert, key), (device_cert, device_key) = make("localhost"), make("device-7")
tls = wireway.Tls(cert=cert, key=key, client_ca=device_cert, client_auth="required", reload="off")
server = wireway.Server("tls://127.0.0.1:9443", framing=wireway.LengthPrefix(4), tls=tls)


@server.on_connect
def greet(conn: wireway.Connection) -> None:
    """The handshake is done: the peer is who it says."""
    conn.user = conn.tls and conn.tls.peer_certificate and conn.tls.peer_certificate.common_name


@server.on_message
async def answer(conn: wireway.Connection, message: bytes) -> None:
    """Says whom it speaks with."""
    await conn.send(f"{conn.user} over {conn.tls and conn.tls.version}: ".encode() + message)


async def main() -> list[str]:
    """A device, the same after the server's certificate was renewed, and somebody without a certificate."""
    own = wireway.Tls(ca=cert, cert=device_cert, key=device_key)
    async with server, wireway.connect(server.addresses[0], framing=wireway.LengthPrefix(4), tls=own) as device:
        print(await device.request(b"it is 21 degrees"))
        make("localhost")
        server.reload_tls()
        print(await device.request(b"and I am still here"))
        with contextlib.suppress(wireway.ConnectionClosedError, wireway.TlsError):
            await wireway.request_once(server.addresses[0], b"hello", tls=wireway.Tls(ca=cert))
    return [reason.why for reason in server.closed.filter(code="tls-no-certificate")]


if __name__ == "__main__":
    print(wireway.run(main()))
