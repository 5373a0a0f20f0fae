"""A headless Chromium that notes what a page does wrong."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WAIT = 120_000
"""Milliseconds after which a page counts as stuck; machines that share their cores are slow."""
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


class Visit:
    """A page that is open, and what was wrong with it so far.

    Attributes:
        page: playwright's page.
        errors: messages of the console's errors, and of exceptions that nothing caught.
        requests: addresses that were asked for and are no files.
    """

    def __init__(self, page: Any) -> None:
        self.page, self.errors, self.requests = page, [], []
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda request: self.errors.append(f"not loaded: {request.url}"))
        page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:", "about:")):
            self.requests.append(request.url)

    def open(self, path: Path, fragment: str = "") -> Any:
        """Open a file, and return the page once its figures are drawn."""
        self.page.goto(f"{path.absolute().as_uri()}{fragment}")
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('.mechmem-plot')].every(place => place.querySelector('.main-svg'))"
        )
        return self.page

    def sideways(self) -> float:
        """Return by how many pixels the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@contextlib.contextmanager
def chromium(**options: Any) -> Iterator[Visit]:
    """Open a page in Chromium; `options` are those of its context, such as `viewport` or `java_script_enabled`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_context(**options).new_page()
            page.set_default_timeout(WAIT)
            yield Visit(page)
        finally:
            browser.close()
