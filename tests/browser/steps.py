"""What a person does on the page."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

DEADLINE = 30.0


def new_room(page: Page) -> str:
    """Press New; returns the room's path when the room is open and live."""
    before = page.url
    page.get_by_role("button", name="New", exact=True).click()
    expect(page).not_to_have_url(before)
    expect(page.locator("#room")).to_have_attribute("data-room", room_id(page))  # the address changes first
    expect(page.locator("#messages article")).to_have_count(0)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    return "/rooms/" + page.url.rsplit("/", 1)[-1]


def room_id(page: Page) -> str:
    return page.url.rsplit("/", 1)[-1]


def until(so: Callable[[], bool]) -> None:
    """Look again and again: for what `expect` has no words for."""
    deadline = time.monotonic() + DEADLINE
    while not so():
        assert time.monotonic() < deadline, "it never came to be so"


def reload_until(page: Page, wanted: Locator) -> None:
    """Load the page again until this is there: without JavaScript it changes by nothing else."""

    def there() -> bool:
        page.reload()
        return wanted.count() > 0

    until(there)


def settled(page: Page) -> None:
    """Wait until every request has its answer: one that a reload or a restart cuts off is an error on the page."""
    expect(page.locator(".htmx-request")).to_have_count(0)


def scroll(page: Page, to: str) -> None:
    """Move the list to its "start" or "end" by hand; again, if what came in that instant took it away from there."""
    move = """(list, to) => new Promise((done) => {
        const goal = () => (to === "start" ? 0 : list.scrollHeight - list.clientHeight);
        list.scrollTop = goal();
        // By then the page has heard of it.
        requestAnimationFrame(() => requestAnimationFrame(() => done(Math.abs(list.scrollTop - goal()) < 2)));
    })"""
    until(lambda: page.locator("#scroller").evaluate(move, to))


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


def room_rows(page: Page) -> Locator:
    """The rooms in the list, without its headings."""
    return page.locator("#rooms > .row")


def agree(page: Page) -> str:
    """Say yes to the question before something goes; returns the question."""
    dialog = page.locator("#confirm")
    expect(dialog).to_be_visible()
    question = dialog.locator("p").first.inner_text()
    dialog.locator("[value=yes]").click()
    expect(dialog).to_be_hidden()
    return question
