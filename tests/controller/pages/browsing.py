"""What tests of pages do at a browser."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page

from tests.controller.running import Up

PAGES = ("/", "/submit", "/services/default/chat", "/plans/default/chat", "/cluster", "/power", "/events")
CHROMIUM = shutil.which("chromium")
BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)"),
]


def looking(up: Up, browser: Browser, theme: str) -> Iterator[Page]:
    context: BrowserContext = browser.new_context(viewport={"width": 1280, "height": 720}, base_url=up.address)
    context.add_cookies([{"name": "muster_theme", "value": theme, "url": up.address}])
    made = context.new_page()
    wrong: list[str] = []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    host = up.address.removeprefix("http://")
    made.on("request", lambda one: None if one.url.split("/")[2] == host else wrong.append(f"asked {one.url}"))
    yield made
    context.close()
    assert wrong == []


def until(true: Callable[[], object], seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.3)


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("MUSTER_SHOTS"):
        theme = "dark" if page.evaluate("document.cookie").find("=dark") >= 0 else "light"
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}-{theme}.png"))


def ready(page: Page) -> None:
    """Wait until the page is connected: what is pressed before is not heard."""
    page.wait_for_function("() => window.socket && window.socket.connected")
    page.wait_for_timeout(600)


def held(page: Page) -> Locator:
    """Tiles of GPUs that serve."""
    return page.locator(".m-tile:not(.free)")


def sound(page: Page) -> Locator:
    """What says that the service that is written can be applied."""
    return page.locator(".m-badge.m-good", has_text="valid")
