"""The browser of the tests and the benchmark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserType, sync_playwright

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """Run headless Chromium with further flags."""
    with sync_playwright() as playwright, launch(playwright.chromium, *flags) as browser:
        yield browser


def launch(browser_type: BrowserType, *flags: str, **options: Any) -> Browser:
    """Launch headless Chromium with further flags and options of Playwright."""
    executable = os.environ.get("CHROMIUM", "chromium")
    return browser_type.launch(executable_path=executable, args=[*FLAGS, *flags], **options)
