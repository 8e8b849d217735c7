"""Clients of the chat in C#, Go and Node, written from the page of its protocol alone, and the one on the page."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.chatting import serving
from support.tree import ROOT

from .servers import need_program

HERE = Path(__file__).parent / "chat"
PAGE = ROOT / "docs" / "reference" / "chat-protocol.md"


@pytest.fixture(scope="module")
def json_place() -> Iterator[tuple[str, int]]:
    with serving("--rate", "2000") as (_, _, programs):
        yield programs


@pytest.fixture(scope="module")
def page() -> dict[str, Callable[..., Any]]:
    """The functions of the page's own client."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(code[1], names)
    return names


def node(folder: Path) -> list[str]:
    return [need_program("node"), str(HERE / "client.mjs")]


def go(folder: Path) -> list[str]:
    # Without cgo: it is built sooner, and needs no C compiler.
    command = ["env", "CGO_ENABLED=0", need_program("go"), "build", "-o", str(folder / "client"), "client.go"]
    subprocess.run(command, cwd=HERE, check=True, timeout=300)
    return [str(folder / "client")]


def csharp(folder: Path) -> list[str]:
    compiler, mono, target = need_program("mcs"), need_program("mono"), str(folder / "Client.exe")
    command = [compiler, f"-out:{target}", "-r:System.Runtime.Serialization", "Client.cs"]
    subprocess.run(command, cwd=HERE, check=True, timeout=120)
    return [mono, target]


@pytest.mark.parametrize("client", [node, go, csharp])
def test_a_client_from_the_page(
    client: Callable[[Path], list[str]],
    json_place: tuple[str, int],
    page: dict[str, Callable[..., Any]],
    tmp_path: Path,
) -> None:
    command = client(tmp_path)
    hear, tell = page["hear"], page["tell"]
    room, nick, text = f"\U0001f6aa{client.__name__}", "Zo\u00eb\u738b", 'said "so" \\ \U0001f680'
    with socket.create_connection(json_place, timeout=30) as sock:
        assert hear(sock)["type"] == "welcome"
        tell(sock, type="nick", nick="host")
        tell(sock, type="join", room=room)
        tell(sock, type="say", room=room, text="before you came")
        process = subprocess.Popen(
            [*command, *map(str, json_place), nick, room, text], stdout=subprocess.PIPE, encoding="utf-8"
        )
        try:
            while (event := hear(sock))["type"] != "message" or event["nick"] == "host":
                assert event["type"] != "error", event
            assert (event["nick"], event["room"], event["text"]) == (nick, room, text)
            said = [text, *("\u4f60\u597d" * 100 + str(number) for number in range(200)), f"bye {nick}"]
            for each in said[1:-1]:
                tell(sock, type="tell", to=nick, text="in between")
                tell(sock, type="say", room=room, text=each)
            tell(sock, type="say", room=room, text=said[-1])
            heard, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0
        assert heard.splitlines() == [f"{nick}: {text}", *(f"host: {each}" for each in said[1:])]
