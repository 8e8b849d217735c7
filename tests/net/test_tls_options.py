"""What `Tls` refuses, in words; and certificates that are read again while the server runs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from support.certificates import Pair, authority, localhost
from support.peers import until
from wireway import ConfigError, Connection, LengthPrefix, Server, Tls, WirewayError, connect


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"client_auth": "sometimes"}, "client_auth is 'sometimes', allowed are 'none', 'optional', 'required'"),
        ({"min_version": "1.1"}, "min_version is '1.1'"),
        ({"reload": True}, "reload is True"),
        ({"handshake_timeout": 0}, "handshake_timeout is 0"),
        ({"handshake_timeout": True}, "handshake_timeout is True"),
        ({"alpn": "h2"}, "alpn is 'h2', it is a sequence"),
        ({"alpn": ["x" * 256]}, "alpn"),
        ({"cert": 3}, "cert is int, it must be a path to a PEM file"),
        ({"key_password": 3}, "key_password: a password is text or bytes"),
        ({"certificates": ["a.pem"]}, "each is (cert, key)"),
        ({"server_name": ""}, "server_name is ''"),
        ({"verify": None}, "verify is None"),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Tls(**options)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("address", "tls", "text"),
    [
        ("tls://127.0.0.1:0", None, "needs tls=wireway.Tls("),
        ("tcp://127.0.0.1:0", Tls(cert="a.pem"), "no address begins with tls://"),
        ("tls://127.0.0.1:0", Tls(), "a server needs cert"),
        ("tls://127.0.0.1:0", Tls(cert="a.pem", ca="b.pem"), "ca is for clients"),
        ("tls://127.0.0.1:0", Tls(cert="a.pem", verify=False), "verify is for clients"),
        ("tls://127.0.0.1:0", "a.pem", "it must be a wireway.Tls"),
    ],
)
def test_servers_that_can_not_be(address: str, tls: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Server(address, tls=tls)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("address", "tls", "text"),
    [
        ("tcp://127.0.0.1:1", Tls(), "does not begin with tls://"),
        ("tls://127.0.0.1:1", Tls(client_auth="required"), "are for servers"),
        ("tls://127.0.0.1:1", Tls(key="a.key"), "key is given without cert"),
        ("tls://127.0.0.1:1", Tls(ca="/nowhere/ca.pem"), "ca: /nowhere/ca.pem: No such file or directory"),
        ("tls://127.0.0.1:1", Tls(ca=b"nothing"), "ca"),
    ],
)
def test_clients_that_can_not_be(address: str, tls: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(address, tls=tls)
    assert text in str(caught.value)


def test_files_that_do_not_fit(run: Run, tmp_path: Path) -> None:
    other = authority().issue("other.example")
    cert, key = localhost().write(tmp_path, "server")

    async def main(tls: Tls, text: str) -> None:
        server = Server("tls://127.0.0.1:0", framing=LengthPrefix(4), tls=tls)
        server.on_message(lambda _conn, _message: None)
        with pytest.raises(ConfigError) as caught:
            await server.start()
        assert text in str(caught.value)
        assert server.addresses == []

    run(main, Tls(cert=cert, key=tmp_path / "none.key"), f"key: {tmp_path}/none.key: No such file or directory")
    run(main, Tls(cert=cert, key=other.key), "key")
    run(main, Tls(cert=key, key=key), "certificate")
    run(main, Tls(cert=cert, key=cert), "key")


def test_an_encrypted_key(run: Run, tmp_path: Path) -> None:
    cert, key = localhost().write(tmp_path, "server")
    sealed = tmp_path / "sealed.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(key), "-out", str(sealed), "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)

    async def main(password: str) -> None:
        tls = Tls(cert=cert, key=sealed, key_password=password)
        server = Server("tls://127.0.0.1:0", framing=LengthPrefix(4), tls=tls)
        server.on_message(lambda conn, message: conn.send_nowait(message) and None)
        own = Tls(ca=authority().pem)
        async with server, connect(server.addresses[0], framing=LengthPrefix(4), tls=own) as client:
            assert await client.request(b"x") == b"x"

    run(main, "secret")
    with pytest.raises(ConfigError, match="password"):
        run(main, "guess")


# --- renewed certificates -------------------------------------------------------------------------------------------


async def serial(url: str) -> str:
    async with connect(url, framing=LengthPrefix(4), tls=Tls(ca=authority().pem)) as client:
        assert client.connection is not None
        assert client.connection.tls is not None
        certificate = client.connection.tls.peer_certificate
        assert certificate is not None
        return certificate.serial


def serving(tls: Tls) -> Server:
    server = Server("tls://127.0.0.1:0", framing=LengthPrefix(4), tls=tls)

    @server.on_message
    def echo(conn: Connection, message: bytes) -> None:
        conn.send_nowait(message)

    return server


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("backend", ["io_uring"])
def test_watched_files_are_read_again(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also half written ones: they are reported once, change nothing, and are read again when they are whole."""

    async def main() -> None:
        cert, key = localhost().write(tmp_path, "server")
        server = serving(Tls(cert=cert, key=key))
        async with server:
            url = server.addresses[0]
            own = Tls(ca=authority().pem)
            async with connect(url, framing=LengthPrefix(4), tls=own) as old:
                before = await serial(url)
                renewed = authority().issue("127.0.0.1")
                key.write_bytes(renewed.key)
                cert.write_bytes(renewed.cert[: len(renewed.cert) // 2])
                await until(lambda: errors(caplog))
                assert await serial(url) == before
                await asyncio.sleep(2.5)  # two looks more, which have nothing new to say
                assert len(errors(caplog)) == 1
                assert "the certificates from before stay in use" in errors(caplog)[0]
                cert.write_bytes(renewed.cert)
                while await serial(url) == before:  # noqa: ASYNC110 - each look is a handshake
                    await asyncio.sleep(0.1)
                assert await old.request(b"still there") == b"still there"
                assert len(errors(caplog)) == 1

    with caplog.at_level(logging.INFO, logger="wireway.tls"):
        run(main, limit=60.0)


def test_files_are_read_again_on_sighup(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        cert, key = localhost().write(tmp_path, "server")
        before = signal.getsignal(signal.SIGHUP)
        async with serving(Tls(cert=cert, key=key, reload="signal")) as server:
            first = await serial(server.addresses[0])
            authority().issue("127.0.0.1").write(tmp_path, "server")
            os.kill(os.getpid(), signal.SIGHUP)
            while await serial(server.addresses[0]) == first:  # noqa: ASYNC110 - each look is a handshake
                await asyncio.sleep(0.01)
            second = await serial(server.addresses[0])
            key.write_bytes(b"")
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: len(errors(caplog)) == 1)
            assert await serial(server.addresses[0]) == second
        assert signal.getsignal(signal.SIGHUP) is before

    run(main)


def test_files_are_read_again_when_told(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        cert, key = localhost().write(tmp_path, "server")
        server = serving(Tls(cert=cert, key=key, reload="off"))
        with pytest.raises(WirewayError, match="does not run"):
            server.reload_tls()
        async with server:
            url = server.addresses[0]
            before = await serial(url)
            renewed: Pair = authority().issue("127.0.0.1")
            renewed.write(tmp_path, "server")
            assert await serial(url) == before
            server.reload_tls()
            assert (after := await serial(url)) != before
            cert.write_bytes(b"")
            with pytest.raises(ConfigError):
                server.reload_tls()
            assert await serial(url) == after

    run(main)
