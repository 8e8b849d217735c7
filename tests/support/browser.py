"""Owns the browser of the tests: the system's Chromium, without a window."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

__all__ = ["browsing"]


@contextmanager
def browsing() -> Iterator[Page]:
    """A page. Without Chromium the test is skipped by name, or fails where nothing may be skipped."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        text = "there is no Chromium: apt-get install chromium, or tests/interop/install.sh"
        if os.environ.get("WIREWAY_INTEROP_STRICT") == "1":
            pytest.fail(text)
        pytest.skip(text)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page(viewport={"width": 1100, "height": 640})
            page.set_default_timeout(20_000)
            yield page
        finally:
            browser.close()
