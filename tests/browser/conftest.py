"""A real browser on the real server; a page that reports an error or breaks the content policy fails its test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.support.server import Server
from tests.support.server_pool import ServerPool

WITHOUT = (
    # Playwright's own list, in whose place this one comes,
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "LensOverlay"),
    *("HttpsFirstBalancedModeAutoEnable", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning"),
    *("AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled"),
    "PreconnectToSearch",
    # two pages that every window loads for its address bar, which nobody sees, and a process in reserve.
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup", "SpareRendererForSitePerProcess"),
)
FLAGS = [
    "--no-sandbox",
    "--host-resolver-rules=MAP chat.test 127.0.0.1",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    f"--disable-features={','.join(WITHOUT)}",
]
EXPECTED = ("Failed to load resource", "WebSocket connection to", "htmx: htmx:ws:error")  # a 4xx, a restart

BREACH = "Content Security Policy"
TELL = f"(event) => console.info('{BREACH}: ' + event.violatedDirective + ' ' + event.blockedURI)"

expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, headless."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "chromium"), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the pages of the test had to complain of; a test that expects some empties it."""
    return []


@pytest.fixture(autouse=True)
def violations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What any page of any context did against the content policy; that fails the test, if it is not meant to."""
    found: list[str] = []
    make = Browser.new_context

    def new_context(self: Browser, **options: Any) -> BrowserContext:
        context = make(self, **options)
        context.on("console", lambda message: found.append(message.text) if BREACH in message.text else None)
        context.add_init_script(f"addEventListener('securitypolicyviolation', {TELL}, true)")
        return context

    monkeypatch.setattr(Browser, "new_context", new_context)
    yield found
    assert not found or request.node.get_closest_marker("breaks_policy")


@pytest.fixture
def context(browser: Browser, complaints: list[str]) -> Iterator[BrowserContext]:
    """A browser profile of the test's own."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    yield context
    context.close()
    assert not [words for words in complaints if not words.startswith(EXPECTED)]


@pytest.fixture
def open_page(context: BrowserContext, server: Server) -> Callable[..., Page]:
    """Opens a tab on a path and waits until it is live."""

    def open_page(path: str = "/", *, live: bool = True) -> Page:
        page = context.new_page()
        page.goto(server.url + path)
        if live:
            expect(page.locator("body")).to_have_attribute("data-live", "open")
        return page

    return open_page


@pytest.fixture
def offline_server(instance: Path, server_pool: ServerPool) -> Iterator[Server]:
    """The real server with no model configured, nor any where Ollama would be: nothing answers on the discard port."""
    server = Server(instance, environment={"OLLAMA_HOST": "127.0.0.1:9"}, server_pool=server_pool).start()
    yield server
    server.stop()
