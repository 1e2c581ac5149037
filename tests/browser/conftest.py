"""A real browser on the real server. A page that reports an error or violates its content policy fails its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.chromium import chromium
from tests.support.server import Server, StartServer

DISABLED_FEATURES = (
    # Playwright's own list, which the flag below replaces.
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "LensOverlay"),
    *("HttpsFirstBalancedModeAutoEnable", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning"),
    *("AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled"),
    "PreconnectToSearch",
    # Two hidden pages that each window loads for its address bar, and a spare renderer process.
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup", "SpareRendererForSitePerProcess"),
)
EXPECTED_ERRORS = ("Failed to load resource", "WebSocket connection to", "htmx: htmx:ws:error")  # a 4xx, a restart
VIOLATION = "Content Security Policy"
REPORT_VIOLATION = f"(event) => console.info('{VIOLATION}: ' + event.violatedDirective + ' ' + event.blockedURI)"

expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    names = "--host-resolver-rules=MAP chat.test 127.0.0.1"
    with chromium(names, f"--disable-features={','.join(DISABLED_FEATURES)}") as browser:
        yield browser


@pytest.fixture
def page_errors() -> list[str]:
    """The errors that the pages of the test reported. A test that causes some clears the list."""
    return []


@pytest.fixture(autouse=True)
def policy_violations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The violations of the content policy by any page. They fail the test unless it has the marker for them."""
    found: list[str] = []
    original = Browser.new_context

    def new_context(self: Browser, **options: Any) -> BrowserContext:
        context = original(self, **options)
        context.on("console", lambda message: found.append(message.text) if VIOLATION in message.text else None)
        context.add_init_script(f"addEventListener('securitypolicyviolation', {REPORT_VIOLATION}, true)")
        return context

    monkeypatch.setattr(Browser, "new_context", new_context)
    yield found
    assert not found or request.node.get_closest_marker("breaks_policy")


@pytest.fixture
def context(browser: Browser, page_errors: list[str], start_server: StartServer) -> Iterator[BrowserContext]:
    """A browser profile for one test. It is closed before the servers are ended."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.on("console", lambda message: page_errors.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: page_errors.append(str(error.error)))
    yield context
    context.close()
    assert not [error for error in page_errors if not error.startswith(EXPECTED_ERRORS)]


@pytest.fixture
def open_page(context: BrowserContext, server: Server) -> Callable[..., Page]:
    """Opens a tab on a path and waits until it is connected."""

    def open_page(path: str = "/", *, live: bool = True) -> Page:
        page = context.new_page()
        page.goto(server.url + path)
        if live:
            expect(page.locator("body")).to_have_attribute("data-live", "open")
        return page

    return open_page


@pytest.fixture
def offline_server(start_server: StartServer) -> Server:
    """A server with no model configured, and no Ollama: its address is the discard port."""
    return start_server(OPENAI_BASE_URL="", OLLAMA_HOST="127.0.0.1:9")
