"""Owns the real servers the tests talk to: finding each program, starting it on loopback, stopping it.

A missing program or package skips the test and names the one command that installs it; with WIREWAY_INTEROP_STRICT=1 it
fails instead. A server is ready when it says so in its own log: nothing here sleeps and tries again. The log is read to
its end, ready or not: a server whose log nobody reads stops at the next line it wants to write.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

INSTALL = "tests/interop/install.sh"
REQUIREMENTS = "pip install -r tests/interop/requirements.txt"


def need_package(name: str) -> Any:
    """Import a Python package, or skip (strict: fail) with how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        _missing(f"the Python package {name} is missing ({error}): run `{REQUIREMENTS}`")


def need_program(name: str, *folders: str) -> str:
    """Return the path of a program, or skip (strict: fail) with how to install it."""
    places = [os.environ.get("PATH", os.defpath), "/usr/sbin", *folders]
    path = shutil.which(name, path=os.pathsep.join(places))
    if path is None:
        _missing(f"{name} is not installed: run `{INSTALL}`")
    return path


def _missing(text: str) -> NoReturn:
    if os.environ.get("WIREWAY_INTEROP_STRICT") == "1":
        pytest.fail(text, pytrace=False)
    pytest.skip(text, allow_module_level=True)


def free_port() -> int:
    """Return a loopback port that was free a moment ago, for programs that cannot be told to choose one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Program:
    """A server process: its own directory, its log, and the line of it that says that it listens."""

    ready: str  # a part of that line

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="wireway-interop-"))
        self.process: subprocess.Popen[str] | None = None
        self.reader: threading.Thread | None = None

    def __enter__(self) -> Any:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self, on_line: Callable[[str], None] = lambda line: None) -> None:
        """Start the program and read its output until it is ready; `on_line` sees each line.

        Raises:
            RuntimeError: it ended before it was ready; the text is its log.
        """
        self.process = subprocess.Popen(
            self.command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            on_line(line)
            if self.ready in line:
                self.reader = threading.Thread(target=_read_to_the_end, args=(self.process.stdout,), daemon=True)
                self.reader.start()
                return
        self.process.stdout.close()
        raise RuntimeError(f"{self.command()[0]} ended with {self.process.wait()} before it was ready\n{''.join(seen)}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the program and wait for it; one that does not go in 10 seconds is killed with its children."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.join()


def _read_to_the_end(log: IO[str]) -> None:
    with log:
        for _ in log:
            pass


class Redis(Program):
    """Redis on a loopback port and on a Unix socket, without persistence."""

    ready = "Ready to accept connections"

    def __init__(self) -> None:
        self.program = need_program("redis-server")
        super().__init__()
        self.port = free_port()
        self.socket = str(self.directory / "redis.sock")

    def command(self) -> list[str]:
        return [
            *(self.program, "--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", self.socket),
            *("--dir", str(self.directory), "--save", "", "--appendonly", "no"),
        ]


class Nats(Program):
    """nats-server with JetStream, on a port of its choice that it keeps when it is started again."""

    ready = "Server is ready"

    def __init__(self, *options: str) -> None:
        self.program = need_program("nats-server")
        super().__init__()
        self.options = options
        self.port = -1

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        store = str(self.directory / "store")
        return [self.program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", store, *self.options]

    def start(self, on_line: Callable[[str], None] = lambda line: None) -> None:
        super().start(self._read_port)

    def _read_port(self, line: str) -> None:
        if "Listening for client connections on" in line:
            self.port = int(line.rsplit(":", 1)[1])


class Postgres(Program):
    """PostgreSQL with a fresh cluster, TLS on, and a role that may only come in with a client certificate."""

    ready = "database system is ready to accept connections"

    def __init__(self, certificates: Path) -> None:
        bins = sorted(
            map(str, Path("/usr/lib/postgresql").glob("*/bin")), key=lambda path: int(path.split("/")[4]), reverse=True
        )
        self.program = need_program("postgres", *bins)
        self.initdb = need_program("initdb", *bins)
        super().__init__()
        self.data = self.directory / "data"
        self.port = free_port()
        self.user = self._user()
        self.prefix = self._prefix()
        self.certificates = certificates

    @staticmethod
    def _user() -> pwd.struct_passwd:
        """PostgreSQL refuses to run as root: then it is `postgres`, which Debian's package makes, or `nobody`."""
        if os.geteuid() != 0:
            return pwd.getpwuid(os.geteuid())
        try:
            return pwd.getpwnam("postgres")
        except KeyError:
            return pwd.getpwnam("nobody")

    def _prefix(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        ids = [f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups"]
        return [need_program("setpriv"), *ids]

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "max_connections": "60",
            "ssl": "on",
            "ssl_cert_file": str(self.directory / "server.pem"),
            "ssl_key_file": str(self.directory / "server.key"),
            "ssl_ca_file": str(self.directory / "ca.pem"),
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [*self.prefix, self.program, "-D", str(self.data), "-p", str(self.port), *options]

    def start(self, on_line: Callable[[str], None] = lambda line: None) -> None:
        for name in ("server.pem", "server.key", "ca.pem"):
            shutil.copy(self.certificates / name, self.directory / name)
            (self.directory / name).chmod(0o600)
        for path in (self.directory, *self.directory.iterdir()):
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        init = [*self.prefix, self.initdb, "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*init, "--no-sync", "--locale=C"], check=True, stdout=subprocess.DEVNULL, cwd=self.directory)
        rules = "local all all trust\nhostssl all wireway 127.0.0.1/32 cert\nhost all postgres 127.0.0.1/32 trust\n"
        (self.data / "pg_hba.conf").write_text(rules)
        super().start(on_line)

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT is PostgreSQL's fast shutdown: it does not wait for clients."""
        super().stop(number)
