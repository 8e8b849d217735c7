"""Services of other packages: found by entry points, run by the command and by files. Broken ones break nothing."""

# ruff: noqa: E501  (each case is one line)

from __future__ import annotations

import asyncio
import importlib
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import wireway
from support.distributions import install
from support.tree import ROOT
from wireway.configuration import ConfigurationError, entries, schema
from wireway.configuration.document import Document
from wireway.configuration.making import make_servers
from wireway.configuration.reading import read_configuration
from wireway.services import BrokenServiceError, find_service, find_services
from wireway.services.finding import BUILT_IN

QUOTES = '''
"""A service that answers each line with a quote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import wireway
from wireway.services import Listener, Service
from wireway.units import Bytes, Seconds


@dataclass(frozen=True, kw_only=True)
class Options:
    """What can be chosen."""

    text: str = "festina lente"
    """What is answered. It may be long."""
    case: Literal["lower", "upper"] = "lower"
    """How it is written."""
    times: int = 1
    """How often."""
    loud: bool = False
    """With a mark behind."""
    every: Seconds = 30.0
    """Not used."""
    most: Bytes | None = None
    """Not used."""
    names: tuple[str, ...] = ()
    """Not used."""
    file: Path | None = None
    """Not used."""

    def __post_init__(self) -> None:
        if self.times < 1:
            raise wireway.ConfigError(f"times is {self.times}, it must be at least 1", option="times")


def make(listener: Listener, options: Options) -> wireway.Server:
    server = listener.server()
    text = options.text.upper() if options.case == "upper" else options.text
    answer = (text * options.times + ("!" if options.loud else "")).encode()

    @server.on_message
    def say(conn: wireway.Connection, message: bytes) -> None:
        conn.send_nowait(answer)

    return server


service = Service(
    summary="Answer each line with a quote.",
    make=make,
    options=Options,
    port=0,
    defaults={"framing": wireway.Lines(), "timeouts": wireway.Timeouts(idle=60)},
)
'''
FILE = '[[listeners]]\naddress = "tcp://127.0.0.1:0"\nservice = "quotes"\n'


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(tmp_path, "wireway-quotes", {"quotes_of_others": QUOTES}, {"quotes": "quotes_of_others:service"})
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path  # type: ignore[misc]
    sys.modules.pop("quotes_of_others", None)


def read(text: str) -> object:
    return read_configuration(Document.of(text.encode(), "x.toml", Path()))


def test_our_own_are_found_with_and_without_metadata() -> None:
    assert list(find_services())[: len(BUILT_IN)] == ["echo", "chat", "web"]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["wireway.services"]
    assert declared == BUILT_IN


def test_one_of_another_package_runs_from_a_file(site: Path) -> None:
    text = f'{FILE}options = {{ text = "Ab", case = "upper", times = 2, every = "2m", most = "1MiB", names = ["a"] }}\n'
    found = read(text)
    options = found.configuration.listeners[0].options  # type: ignore[attr-defined]
    assert (options.every, options.most, options.names) == (120, 1 << 20, ("a",))
    [server] = make_servers(found, 0)  # type: ignore[arg-type]

    async def talk() -> bytes:
        async with server:
            host, _, port = server.addresses[0].removeprefix("tcp://").rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"x\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return answer

    assert wireway.run(talk()) == b"ABAB\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("tezt = 1", 'x.toml:4:13: unknown key "tezt" in [listeners.options] of the service quotes; did you mean "text"?'),
        ("times = 0", "x.toml:4:21: times is 0, it must be at least 1"),
        ('every = "5MiB"', "x.toml:4:21: every '5MiB' is no time"),
        ('case = "uper"', 'x.toml:4:20: case is "uper", it must be one of "lower", "upper"; did you mean "upper"?'),
    ],
)  # fmt: skip
def test_its_options_are_checked_as_any(site: Path, options: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(expected)}"):
        read(f"{FILE}options = {{ {options} }}\n")


def test_its_defaults_are_those_of_its_listener(site: Path) -> None:
    [listener] = read(FILE).configuration.listeners  # type: ignore[attr-defined]
    assert (listener.framing, listener.timeouts.idle) == (wireway.Lines(), 60)


def test_it_is_in_the_schema_and_in_the_list(site: Path) -> None:
    listener = schema()["properties"]["listeners"]["items"]
    assert listener["properties"]["service"]["enum"][-1] == "quotes"
    assert "case" in listener["allOf"][-1]["then"]["properties"]["options"]["properties"]
    [found] = [each for each in entries() if each.service == "quotes" and each.key.endswith(".every")]
    assert (found.kind, found.default, found.doc) == ("duration", '"30s"', "Not used.")


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("import nothing_like_it", "broken_of_others:service", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("service = (", "broken_of_others:service", "SyntaxError: '(' was never closed"),
        ("raise SystemExit(3)", "broken_of_others:service", "SystemExit: 3"),
        ("", "broken_of_others:service", "AttributeError: module 'broken_of_others' has no attribute 'service'"),
        ("service = print", "broken_of_others:service", "is a builtin_function_or_method, not a wireway.services.Service"),
    ],
)  # fmt: skip
def test_a_broken_one_is_one_line_that_names_the_package(site: Path, text: str, target: str, expected: str) -> None:
    install(site, "wireway-broken", {"broken_of_others": text}, {"broken": target}, "2.5")
    importlib.invalidate_caches()
    try:
        with pytest.raises(BrokenServiceError) as caught:
            find_service("broken")
    finally:
        sys.modules.pop("broken_of_others", None)
    assert str(caught.value).startswith("the service 'broken' of the package wireway-broken 2.5 can not be loaded: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert find_service("quotes").summary == "Answer each line with a quote."


def test_nobody_takes_our_names(site: Path) -> None:
    install(site, "wireway-thief", {}, {"echo": "os:path"})
    assert find_services()["echo"].package == ""


def command(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(site), "COLUMNS": "200"}
    done = [sys.executable, "-m", "wireway", *words]
    return subprocess.run(done, capture_output=True, text=True, timeout=60, env=environment)


def test_the_command_has_it_and_a_broken_one_hides_nothing(site: Path) -> None:
    install(site, "wireway-broken", {"broken_of_others": "import nothing_like_it"}, {"broken": "broken_of_others:x"})
    listed = command(site, "serve", "--help")
    assert listed.returncode == 0
    assert re.search(r"quotes +Answer each line with a quote\.", listed.stdout)
    assert "Traceback" not in listed.stdout + listed.stderr
    broken = command(site, "serve", "broken", "--port", "1")
    assert broken.returncode == 3
    assert broken.stderr == (
        "Error: the service 'broken' of the package wireway-broken 1.0 can not be loaded: "
        "ModuleNotFoundError: No module named 'nothing_like_it'\n"
    )
    own = command(site, "serve", "quotes", "--help").stdout
    for words in ("--case <lower|upper>", "--every TIME", "--loud", "--no-loud", "--framing NAME", "default: 30s"):
        assert words in own
    wrong = command(site, "serve", "quotes", "--times", "0")
    assert (wrong.returncode, wrong.stderr) == (2, "Error: --times is 0, it must be at least 1\n")
    wrong = command(site, "serve", "quotes", "--every", "5MiB")
    assert wrong.returncode == 2
    assert "'5MiB' is no time" in wrong.stderr


def test_the_command_runs_it(site: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(site)}
    words = ["serve", "quotes", "--text", "Ab", "--times", "2", "--case", "upper", "--loud", "--names", "a"]
    line = [sys.executable, "-m", "wireway", *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        said = ""
        for each in process.stdout:
            said += each
            if "stop it" in each:
                break
        found = re.search(r"tcp://127\.0\.0\.1:\d+", said)
        assert found, said
        assert "wireway 0" in said
        assert "quotes, lines framing" in said
        words = ["connect", found[0], "--framing", "lines", "--send", "x", "--expect", "ABAB!"]
        assert command(site, *words).returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
