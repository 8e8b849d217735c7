"""The documentation site in a browser: drawings follow the colours, nothing comes from elsewhere, Chinese is found."""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect

from support.browser import browsing
from support.tree import ROOT


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """The site over HTTP: a search needs it."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def colour(page: Page, what: str, of: str) -> str:
    return str(page.eval_on_selector(what, f"element => getComputedStyle(element).{of}"))


def test_the_site(tmp_path: Path) -> None:
    """One build for all of it: a build takes some seconds."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with hosted(tmp_path) as site, browsing() as page:
        wrong: list[str] = []
        page.on("request", lambda request: wrong.append(request.url) if not request.url.startswith(site) else None)
        page.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))

        page.goto(f"{site}/index.html")
        expect(page.get_by_role("heading", name="Three scenarios")).to_be_visible()

        looks = set()
        browser = page.context.browser
        assert browser is not None
        for scheme in ("light", "dark"):
            other = browser.new_page(color_scheme=scheme)
            other.goto(f"{site}/explanation/back-ends/epoll.html")
            drawing = other.locator("svg.drawing")
            expect(drawing).to_be_visible()
            box = drawing.bounding_box()
            assert box is not None
            assert box["width"] > 500
            text = colour(other, "svg.drawing text", "fill")
            assert text != colour(other, "body", "backgroundColor")
            looks.add(text)
            other.close()
        assert len(looks) == 2, "the drawing does not follow the colours of the page"

        page.set_viewport_size({"width": 390, "height": 800})
        page.goto(f"{site}/explanation/back-ends.html")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, "on a phone the page is wider than the screen"
        page.set_viewport_size({"width": 1100, "height": 640})

        page.goto(f"{site}/explanation/half-packets.html")
        page.hover(".md-header .md-select button")
        page.click('.md-select__link[hreflang="zh"]')
        page.wait_for_url(f"{site}/zh/half-packets.html")
        assert page.evaluate("document.documentElement.lang") == "zh-Hans"
        page.fill("input[name=query]", "粘包")
        expect(page.locator(".md-search-result__item h1").first).to_contain_text("粘包")
        assert not wrong, wrong
