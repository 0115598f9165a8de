"""A headless Chromium for the tests of pages, without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    *("--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
LOOKS = {
    f"{width}-{scheme}": (width, height, scheme)
    for width, height in ((1280, 900), (400, 850))
    for scheme in ("light", "dark")
}
"""Laptop and phone, light and dark."""
PATIENCE = 100_000
"""Milliseconds: on a busy machine a page and its charts take their time."""


class Page:
    """One page in one browser, with what it said to the console and what it asked the network.

    Args:
        page: Playwright's page.
        path: The file.
    """

    def __init__(self, page: Any, path: Path) -> None:
        self.page, self.path = page, path
        self.errors: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))
        page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        page.goto(path.resolve().as_uri())

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _asked(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:", "about:")):
            self.errors.append(f"asked the network for {url}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def look(self) -> None:
        """Fails where a part sticks out sideways, at any size and in any colours.

        With ``MINESWEEP_SCREENSHOTS=<folder>`` each look is kept there as a picture.
        """
        for name, (width, height, scheme) in LOOKS.items():
            self.page.set_viewport_size({"width": width, "height": height})
            self.page.emulate_media(color_scheme=scheme)
            inside = "document.documentElement.scrollWidth <= window.innerWidth"
            self.page.wait_for_function(inside)
            if folder := os.environ.get("MINESWEEP_SCREENSHOTS"):
                self.page.wait_for_timeout(1000)
                self.page.screenshot(path=f"{folder}/{self.path.stem}-{name}.png", full_page=True)
        self.page.set_viewport_size({"width": 1280, "height": 900})


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The browser; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs Chromium or Chrome")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path,
            args=FLAGS,
            chromium_sandbox=os.geteuid() != 0,  # root may not use it
            timeout=PATIENCE,
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Any]:
    """``open_page(path)``; after the test, fails on any console error."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened: list[Page] = []

    def start(path: Path) -> Page:
        opened.append(Page(context.new_page(), path))
        return opened[-1]

    yield start
    context.close()
    assert [error for page in opened for error in page.errors] == []
