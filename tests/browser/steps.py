"""What a person does on the page."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect


def new_room(page: Page) -> str:
    """Press New; returns the room's path when the room is open and live."""
    before = page.url
    page.get_by_role("button", name="New", exact=True).click()
    expect(page).not_to_have_url(before)
    expect(page.locator("#messages article")).to_have_count(0)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    return "/rooms/" + page.url.rsplit("/", 1)[-1]


def room_id(page: Page) -> str:
    return page.url.rsplit("/", 1)[-1]


def say(page: Page, words: str) -> None:
    """Type and press Enter."""
    box = page.get_by_role("textbox", name="Message")
    box.fill(words)
    box.press("Enter")


def message(page: Page, number: int, *, state: str | None = None) -> Locator:
    """A message, in a state if one is named."""
    return page.locator(f"#message-{number}" + (f"[data-state={state}]" if state else ""))


def row(page: Page, room: str) -> Locator:
    return page.locator(f"#room-{room}")
