"""The chat's page in a real Chromium: what a person types others hear, and what others say is seen."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from support.browser import browsing
from support.chatting import serving


@pytest.fixture
def chat() -> Iterator[tuple[str, str, int]]:
    with serving() as (url, (host, port), _):
        yield url, host, port


def come(page: Page, url: str, nick: str) -> list[str]:
    """Open the page and take a name. The errors that the page will meet."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(url)
    page.get_by_role("status").get_by_text("connected").wait_for()
    page.get_by_label("You are").fill(nick)
    page.get_by_role("button", name="Rename").click()
    page.get_by_text(f"is now called {nick}").wait_for()
    return errors


def say(page: Page, text: str) -> None:
    page.get_by_label("message").fill(text)
    page.get_by_label("message").press("Enter")


def test_a_conversation(chat: tuple[str, str, int], tmp_path: Path) -> None:
    url, host, port = chat
    with browsing() as page, socket.create_connection((host, port), timeout=20) as nc, nc.makefile("rb") as lines:
        errors = come(page, url, "ann")
        assert any(b"is now called ann" in line for line in lines)
        page.get_by_label("message").fill("hello <b>you</b>")
        page.get_by_role("button", name="Send").click()
        assert b"[lobby] ann: hello <b>you</b>\n" in lines
        page.get_by_text("ann: hello <b>you</b>").wait_for()  # as text, not as HTML
        nc.sendall(b"good day\n")
        page.get_by_text("guest1: good day").wait_for()
        nc.sendall(b"/nick <img\n<img src=x onerror=alert(1)>\n")  # in a name and in a text
        page.get_by_text("<img: <img src=x onerror=alert(1)>").wait_for()
        assert page.locator("img").count() == 0
        nc.sendall(b"/nick guest1\n/away at lunch\n/away\n")
        page.get_by_text("guest1 is away: at lunch").wait_for()

        page.get_by_label("join a room").fill("den")
        page.get_by_label("join a room").press("Enter")
        page.get_by_role("button", name="den", exact=True).wait_for()
        assert page.locator("button[aria-current]").inner_text() == "den"
        assert page.evaluate("document.activeElement.id") == "text"  # one may go on typing
        nc.sendall(b"/join den\n")
        page.get_by_text("guest1 came").wait_for()
        expect(page.locator("#count")).to_have_text("2 people")
        nc.sendall(b"/leave lobby\nin the den\n")
        page.get_by_text("guest1: in the den").wait_for()
        page.get_by_role("button", name="lobby").click()
        page.get_by_text("guest1 left").wait_for()

        nc.sendall(b"one\ntwo\n/msg ANN only you\n")  # where ann does not look
        expect(page.get_by_role("navigation").get_by_role("listitem")).to_have_text(["lobby", "den2", "@guest11"])
        expect(page).to_have_title("(3) Wireway chat")
        page.get_by_text("guest1 wrote to you").wait_for()
        page.get_by_role("button", name="@guest1").click()
        page.get_by_text("guest1: only you").wait_for()
        expect(page).to_have_title("(2) Wireway chat")
        say(page, "and only you")
        assert b"[ann to guest1] and only you\n" in lines
        page.get_by_text("ann: and only you").wait_for()
        page.get_by_role("button", name="Leave").click()
        say(page, "/msg nobody hi")
        page.get_by_text("nobody here is called nobody").wait_for()
        say(page, "/help")
        page.get_by_text("/join ROOM").wait_for()
        picture = tmp_path / "chat.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size > 5000
        assert errors == []


def test_on_a_phone_and_with_keys_alone(chat: tuple[str, str, int]) -> None:
    """Long words break no layout; every part can be reached and is named for those who do not see it."""
    url, host, port = chat
    with browsing() as page, socket.create_connection((host, port), timeout=20) as nc:
        page.set_viewport_size({"width": 360, "height": 640})
        page.emulate_media(color_scheme="dark")
        errors = come(page, url, "W" * 24)
        say(page, "/join " + "M" * 32)
        nc.sendall(b"/join " + b"M" * 32 + b"\n" + b"x" * 1000 + b"\n")
        page.get_by_text("x" * 1000).wait_for()
        for width in (360, 1100):
            page.set_viewport_size({"width": width, "height": 640})
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate("document.documentElement.scrollHeight") == 640
        page.set_viewport_size({"width": 360, "height": 640})
        people = page.get_by_role("complementary", name="People")
        assert not people.is_visible()
        page.get_by_role("button", name="People").press("Enter")
        people.get_by_role("button", name="guest1").wait_for()
        page.keyboard.press("Escape")
        assert not people.is_visible()
        page.get_by_role("button", name="People").press("Enter")
        people.get_by_role("button", name="guest1").press("Enter")
        assert not people.is_visible()
        page.keyboard.type("hello")  # to guest1, and no mouse was needed
        page.keyboard.press("Enter")
        page.get_by_role("log", name="/guest1").get_by_text("hello").wait_for()
        unnamed = "[...document.querySelectorAll('input, nav, aside, .log')].filter((each) => !each.ariaLabel).length"
        assert page.evaluate(unnamed) == 0
        assert page.evaluate("document.documentElement.lang") == "en"
        assert errors == []


def test_it_comes_back() -> None:
    """The server ends and another begins: the same name, the same rooms, nothing twice."""
    with browsing() as page:
        with serving() as (url, _, _):
            come(page, url, "ann")
            say(page, "/join den")
            page.get_by_role("button", name="den", exact=True).wait_for()
            say(page, "before")
            page.get_by_role("log", name="den").get_by_text("ann: before").wait_for()
            page.get_by_role("button", name="lobby").click()
            page.get_by_role("button", name="Leave").click()
            expect(page.get_by_role("navigation").get_by_role("listitem")).to_have_text(["den"])
            page.evaluate("socket.close()")  # only the connection: the history is told again
            page.get_by_role("status").get_by_text("connection lost").wait_for()
            page.get_by_role("status").get_by_text("connected", exact=True).wait_for()
            page.wait_for_function("own === 'ann' && talks.get('den').people.has('ann')")
            assert page.get_by_text("ann: before").count() == 1
            assert page.locator("#name").inner_text() == "den"
        page.get_by_role("status").get_by_text("connection lost").wait_for()
        page.get_by_text("the server is going away").wait_for()
        say(page, "into the void")
        page.get_by_text("not connected: not sent").wait_for()
        assert page.get_by_label("message").input_value() == "into the void"
        web = ("--web-port", str(re.sub(r"\D+", " ", url).split()[-1]))
        with serving(*web) as (_, lines, _), socket.create_connection(lines, timeout=20) as nc:
            page.get_by_role("status").get_by_text("connected", exact=True).wait_for()
            page.wait_for_function("own === 'ann' && talks.get('den').people.has('ann')")
            expect(page.get_by_role("navigation").get_by_role("listitem")).to_have_text(["den"])  # lobby was left
            page.get_by_label("message").press("Enter")
            page.get_by_text("ann: into the void").wait_for()
            nc.sendall(b"/join den\nafter\n")
            page.get_by_role("log", name="den").get_by_text("guest1: after").wait_for()
            assert page.get_by_text("ann: before").count() == 1


def test_a_page_of_another_site_hears_nothing(chat: tuple[str, str, int]) -> None:
    url = chat[0].replace("http", "ws") + "chat"
    with browsing() as page:
        page.goto("data:text/html,<title>elsewhere</title>")
        outcome = page.evaluate(
            "(url) => new Promise((tell) => { const socket = new WebSocket(url);"
            " socket.onopen = () => tell('open'); socket.onerror = () => tell('refused'); })",
            url,
        )
        assert outcome == "refused"
