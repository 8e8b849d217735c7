"""What people do wrong, over all commands: one line on stderr that says what to do, the status, no traceback.

Most of it runs in this process, which is quick; what is about streams, locales and users needs processes of its own.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from support.certificates import Authority
from wireway.cli.command import app
from wireway.cli.failing import UNREAD, Exit

LIMIT = 60


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, by its words."""
    children = getattr(command, "commands", None)
    if children is None:
        yield words
        return
    for name, child in children.items():
        yield from leaves(child, (*words, name))


COMMANDS = sorted(leaves(get_command(app)))


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.fixture(scope="module")
def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture(autouse=True)
def nobody_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run a command here: its status, and what it said on stderr."""
    with pytest.raises(SystemExit) as ended:
        app(list(words), prog_name="wireway")
    said = capfd.readouterr()
    assert "Traceback" not in said.err + said.out
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.err


def one_line(error: str) -> bool:
    return error.startswith("Error: ") and error.count("\n") == 1 and len(error) > 25


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_option_that_no_command_has(command: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    status, error = run(capfd, *command, "--no-such-option")
    assert (status, one_line(error)) == (2, True), error
    assert f"see `wireway {' '.join(command)} --help`" in error


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_words_too_many(command: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    status, error = run(capfd, *command, *"123456")
    assert (status, one_line(error)) == (2, True), error


MISTAKES: list[tuple[str, int, str]] = [
    ("nosuch", 2, "No such command 'nosuch'"),
    ("serve nosuch", 2, "see `wireway serve --help`"),
    # addresses
    ("serve echo --port {taken}", 6, "taken by another program"),
    ("serve echo --port {taken} --workers 2", 6, "taken by another program"),
    ("serve chat --port {taken}", 6, "taken by another program"),
    ("serve chat --port 0 --json-port {taken} --web-port 0", 6, "taken by another program"),
    ("serve web {tmp} --port {taken}", 6, "taken by another program"),
    ("serve echo --port 65536", 2, "--port"),
    ("serve echo --port ten", 2, "--port"),
    ("serve echo --host nosuch.invalid --port 0", 2, "nosuch.invalid"),
    ("serve echo --host 203.0.113.5 --port 0", 2, "not an address of this machine"),
    ("serve echo --unix {tmp}/nosuch/x.sock", 4, "nosuch"),
    ("serve echo --unix {tmp}", 6, "not a socket"),
    ("serve echo --backend nosuch --port 0", 2, "there are: auto"),
    ("serve echo --workers 0 --port 0", 2, "--workers"),
    ("serve echo --framing nosuch --port 0", 2, "'nosuch'"),
    ("serve echo --log nosuch --port 0", 2, "--log"),
    # metrics
    ("serve echo --port 0 --metrics {taken}", 6, "taken by another program"),
    ("serve echo --port 0 --workers 2 --metrics tcp://127.0.0.1:{taken}", 6, "taken by another program"),
    ("serve web {tmp} --port 0 --metrics 127.0.0.1:{taken}", 6, "taken by another program"),
    ("serve echo --port 0 --metrics nonsense", 2, "tcp://127.0.0.1:9000"),
    ("serve echo --port 0 --metrics tcp://127.0.0.1:x", 2, "0 to 65535"),
    ("serve echo --port 0 --metrics tls://127.0.0.1:0", 2, "without TLS"),
    # files and applications
    ("serve web {tmp}/nosuch", 4, "is not there"),
    ("serve web {file}/below", 4, "is not there"),
    ("serve web {file}", 2, "is not a folder"),
    ("serve web nosuch:app", 2, "no module 'nosuch'"),
    ("serve web os:nosuch", 2, "no 'nosuch'"),
    ("serve web nosuch", 2, "module:app"),
    ("serve web {tmp} --cert {tmp}/nosuch.pem", 4, "is not there"),
    ("serve web {tmp} --cert {file}", 2, "PEM"),
    ("serve web {tmp} --key {file}", 2, "--cert"),
    ("serve web {tmp} --cert {tmp}", 2, "irectory"),
    # configuration
    ("serve --config {tmp}/nosuch.toml", 4, "is not there"),
    ("serve --config {tmp}", 2, "is a folder"),
    ("serve --config {file}", 3, "file.txt:1:"),
    ("config check {file}", 3, "file.txt:1:"),
    ("config check {tmp}/nosuch.toml", 4, "is not there"),
    ("config show {file}", 3, "file.txt:1:"),
    ("config nosuch", 2, "see `wireway config --help`"),
    # clients
    ("connect tcp://127.0.0.1:{closed}", 7, "efused"),
    ("connect nonsense", 2, "tcp://127.0.0.1:9000"),
    ("connect ftp://127.0.0.1:1", 2, "scheme"),
    ("connect unix://{tmp}/nosuch", 7, "nosuch"),
    ("connect tcp://127.0.0.1:{taken} --framing nosuch", 2, "framing"),
    ("connect tcp://127.0.0.1:{taken} --expect /[/", 2, "regular expression"),
    ("connect --listen tcp://127.0.0.1:{taken}", 6, "taken by another program"),
    ("bench tcp://127.0.0.1:{closed} --duration 100ms", 7, "refused"),
    ("bench nonsense", 2, "tcp://127.0.0.1:9000"),
    ("bench tcp://nosuch.invalid:1", 2, "nosuch.invalid"),
    ("bench tcp://127.0.0.1:{taken} --duration 1x", 2, "--duration"),
    ("bench tcp://127.0.0.1:{taken} --csv {tmp}/nosuch/a.csv", 4, "nosuch"),
    ("bench tcp://127.0.0.1:{taken} --csv {tmp}", 2, "folder"),
    ("bench tcp://127.0.0.1:{taken} --plot {tmp}/a.gif", 2, ".png"),
    ("bench tcp://127.0.0.1:{taken} --plot {tmp}/nosuch/a.png", 4, "nosuch"),
    # those that ask a server
    ("top", 9, "wireway serve"),
    ("top --once", 9, "wireway serve"),
    ("ls", 9, "wireway serve"),
    ("ls --sort nosuch", 2, "there is no column"),
    ("ls --pid 1", 9, "process 1"),
    ("ls --socket {file}", 9, "wireway serve"),
    ("kick 5", 9, "wireway serve"),
    ("kick five", 2, "ID"),
    ("closed", 9, "wireway serve"),
    ("trace 127.0.0.1:1", 9, "wireway serve"),
    ("closed --last 0", 2, "--last"),
    ("doctor --for 0", 2, "--for"),
    ("doctor --for many", 2, "--for"),
]


@pytest.mark.parametrize(("words", "status", "says"), MISTAKES, ids=[words for words, _, _ in MISTAKES])
def test_a_mistake(
    words: str, status: int, says: str, taken: int, closed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.txt"
    file.write_text("no certificate\n")
    filled = [word.format(taken=taken, closed=closed, tmp=tmp_path, file=file) for word in words.split()]
    found, error = run(capfd, *filled)
    assert (found, one_line(error)) == (status, True), error
    assert says in error


def test_a_key_that_is_another_certificates(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    authority = Authority()
    (tmp_path / "cert.pem").write_bytes(authority.issue("a.example").cert)
    (tmp_path / "key.pem").write_bytes(authority.issue("b.example").key)
    words = ["serve", "web", str(tmp_path), "--port", "0", "--cert", str(tmp_path / "cert.pem")]
    status, error = run(capfd, *words, "--key", str(tmp_path / "key.pem"))
    assert (status, one_line(error)) == (2, True)
    assert "key.pem" in error
    assert "does not belong to the certificate" in error


# --- in processes of their own ----------------------------------------------------------------------------------------


def process(words: str, shell: str = "{}", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command below a shell, which arranges its streams."""
    line = shell.format(f"{sys.executable} -m wireway {words}")
    more = {"env": {**os.environ, **options.pop("env", {})}, "stdin": subprocess.DEVNULL, **options}
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, errors="replace", timeout=LIMIT, check=False, **more
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


@pytest.mark.parametrize("words", ["doctor", "serve echo --port 0", "--help"])
def test_nobody_reads_what_it_prints(words: str) -> None:
    done = process(words, "set -o pipefail; {} | true")
    assert done.returncode in (0, UNREAD) if words == "--help" else done.returncode == UNREAD
    assert done.stderr == ""


@pytest.mark.parametrize("words", ["doctor --json", "serve echo --port 0", "--help"])
def test_a_disk_that_is_full(words: str) -> None:
    done = process(words, "{} >/dev/full")
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


@pytest.mark.parametrize(
    ("words", "shell", "status"),
    [
        ("top", "{} <&-", Exit.NO_SERVER),
        ("kick 1", "{} <&-", Exit.NO_SERVER),
        ("doctor --for 1", "{} >&-", None),
        ("doctor --for 1", "{} <&- >&- 2>&-", None),
        ("ls", "{} 2>&-", Exit.NO_SERVER),
    ],
)
def test_streams_that_are_closed(words: str, shell: str, status: int | None) -> None:
    done = process(words, shell)
    assert done.returncode in (0, 1) if status is None else done.returncode == status
    assert done.stderr.count("\n") == (0 if "2>&-" in shell or status is None else 1)


POOR = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("words", ["doctor", "serve web ./größe", "connect größe", "doctor --json"])
def test_a_locale_that_has_few_letters(words: str) -> None:
    done = process(words, env={**POOR, "COLUMNS": "20"})
    assert done.returncode in (0, 1) if "doctor" in words else one_line(done.stderr)


@pytest.mark.parametrize("columns", ["1", "20", "x", "0"])
def test_a_terminal_that_is_tiny(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert process("doctor --for 10", env={"COLUMNS": columns}).stderr == ""


@pytest.mark.parametrize("home", ["/nosuch", "/proc", ""])
def test_no_home(home: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        words = f"connect tcp://127.0.0.1:{sock.getsockname()[1]} --timeout 1 --expect never"
        done = process(words, "env -u HOME -u XDG_STATE_HOME {}" if not home else "{}", env={"HOME": home})
    assert (done.returncode, one_line(done.stderr)) == (1, True), done.stderr


NOBODY = """
import contextlib, io, os, sys
from wireway.cli.command import app
taken, *words = sys.argv[1:]
# All that is imported late is imported now: the interpreter itself may be where only root can look.
lines = ("serve echo --port {}", "serve web . --port {}", "ls", "serve echo --port 0 --metrics {}")
for line in (line.format(taken) for line in lines):
    with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        app(line.split(), prog_name="wireway")
os.setgroups([]); os.setgid(65534); os.setuid(65534)
app(words, prog_name="wireway")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("serve echo --port 80", "from 1024 up"),
        ("serve echo --port 0 --metrics 99", "from 1024 up"),
        ("serve web {tmp}/locked --port 0", "locked"),
        ("serve web . --port 0 --cert {tmp}/secret.pem", "may not be read"),
        ("serve echo --unix {tmp}/x.sock", "ermission denied"),
        ("ls", "ermission denied"),
    ],
)
def test_what_this_user_may_not(words: str, says: str, tmp_path: Path, taken: int) -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if "1024" in says and low < 1024:
        pytest.skip("this kernel lets everybody bind every port")
    (tmp_path / "locked").mkdir(mode=0o700)
    (tmp_path / "secret.pem").touch(mode=0o600)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder.stat().st_mode & 0o777 == 0o700:
            folder.chmod(0o755)  # what pytest has made for itself
    done = subprocess.run(
        [sys.executable, "-c", NOBODY, str(taken), *words.format(tmp=tmp_path).split()],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd="/",
    )
    assert (done.returncode, one_line(done.stderr)) == (Exit.PERMISSION, True), done.stderr
    assert says in done.stderr
