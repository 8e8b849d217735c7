"""The chat's page in a real Chromium: what a person types others hear, and what others say is seen."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.browser import browsing


@pytest.fixture
def chat() -> Iterator[tuple[str, str, int]]:
    """The URL of the page, and host and port of the lines, of a server in a child."""
    command = [sys.executable, "-m", "wireway", "serve", "chat", "--port", "0", "--json-port", "0", "--web-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "stop it" in line:
            break
    url = re.search(r"http://\S+", said)
    lines = re.search(r"address +tcp://(\S+):(\d+)", said)
    assert url, said
    assert lines, said
    yield url[0], lines[1], int(lines[2])
    process.terminate()
    process.communicate(timeout=30)


def test_a_conversation(chat: tuple[str, str, int], tmp_path: Path) -> None:
    url, host, port = chat
    with browsing() as page, socket.create_connection((host, port), timeout=20) as nc, nc.makefile("rb") as lines:
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.get_by_role("status").get_by_text("connected").wait_for()
        page.get_by_label("You are").fill("ann")
        page.get_by_role("button", name="Rename").click()
        assert any(b"is now called ann" in line for line in lines)
        page.get_by_label("message").fill("hello <b>you</b>")
        page.get_by_role("button", name="Send").click()
        assert b"[lobby] ann: hello <b>you</b>\n" in lines
        page.get_by_text("ann: hello <b>you</b>").wait_for()  # as text, not as HTML
        nc.sendall(b"good day\n/msg ann only you\n")
        page.get_by_text("guest1: good day").wait_for()
        page.get_by_text("guest1 to ann: only you").wait_for()
        page.get_by_label("join a room").fill("den")
        page.get_by_label("join a room").press("Enter")
        page.get_by_role("button", name="den").wait_for()
        nc.sendall(b"/join den\n")
        page.get_by_text("guest1 came").wait_for()
        nc.sendall(b"/leave lobby\nin the den\n")
        page.get_by_text("guest1: in the den").wait_for()
        page.get_by_role("button", name="lobby").click()
        page.get_by_text("guest1 left").wait_for()
        page.get_by_label("message").fill("/msg nobody hi")
        page.get_by_label("message").press("Enter")
        page.get_by_text("nobody here is called nobody").wait_for()
        picture = tmp_path / "chat.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size > 5000
        assert errors == []


def test_it_comes_back(chat: tuple[str, str, int]) -> None:
    with browsing() as page:
        page.goto(chat[0])
        status = page.get_by_role("status")
        status.get_by_text("connected").wait_for()
        page.evaluate("socket.close()")
        status.get_by_text("connection lost").wait_for()
        page.wait_for_function(
            "socket.readyState === 1 && document.getElementById('state').textContent === 'connected'"
        )
