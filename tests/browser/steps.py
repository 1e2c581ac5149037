"""User actions on the page, and set-up by HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, Route, expect

from overseer.storage.instance_lock import room_file
from tests.support import rooms
from tests.support.seed_data import insert_messages
from tests.support.server import Server
from tests.support.waiting import until

OpenPage = Callable[..., Page]


def create_room(server: Server, name: str = "", *, questions: int = 0) -> str:
    """Create a room by HTTP and ask a number of questions in it. Return its path, which ends in its id (12 digits)."""
    path = f"/rooms/{rooms.new_room(server, name)}"
    for number in range(1, questions + 1):
        ask(server, path, f"Question {number}.", wait=number == questions)
    return path


def ask(server: Server, path: str, text: str, *, wait: bool = True) -> None:
    """Send a message by HTTP, and wait for the end of its answer."""
    rooms.ask(server, path[-12:], text, wait=wait)


def seed_messages(instance: Path, path: str, count: int, *, tall: bool = False) -> None:
    """Write messages into the file of a room while the server is down. Answers vary in height if `tall`."""

    def text(number: int) -> str:
        return f"Message {number}.\n\n" + "Another paragraph.\n\n" * (number % 23 if tall else 0)

    insert_messages(room_file(instance, path[-12:]), range(1, count + 1), text)


def new_room(page: Page) -> str:
    """Press New, and wait until the room is open and connected. Return its path."""
    before = page.url
    page.locator("input[name=reuse]").evaluate("input => { input.value = ''; }")  # also if the open room is empty
    page.locator("#new-room").click()
    expect(page).not_to_have_url(before)
    path = "/rooms/" + page.url[-12:]
    expect_open(page, path)  # the address changes first
    expect(page.locator("#messages article")).to_have_count(0)
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    return path


def act_on_room(page: Page, path: str, action: str) -> None:
    """Choose an action in the menu of a room's row."""
    row(page, path).hover()
    row(page, path).locator(".row__more").click()
    page.locator("#row-menu").get_by_role("button", name=action).click()


def open_room(page: Page, path: str) -> None:
    """Click a room in the list."""
    row(page, path).locator("a").click()
    expect_open(page, path)


def expect_open(page: Page, path: str) -> None:
    expect(page.locator("#room")).to_have_attribute("data-room", path[-12:])


def send(page: Page, text: str) -> None:
    """Type a message and press Enter."""
    composer(page).fill(text)
    composer(page).press("Enter")


def composer(page: Page) -> Locator:
    return page.locator("#composer textarea")


def message(page: Page, number: int, *, state: str | None = None) -> Locator:
    """A message, in a state if one is given."""
    return page.locator(f"#message-{number}" + (f"[data-state={state}]" if state else ""))


def messages(page: Page) -> Locator:
    return page.locator("#messages article")


def row(page: Page, path: str) -> Locator:
    """The row of a room in the list."""
    return page.locator(f"#room-{path[-12:]}")


def room_rows(page: Page) -> Locator:
    """All rows of the list, without its headings."""
    return page.locator("#rooms > .row")


def confirm(page: Page) -> str:
    """Accept the confirmation dialog. Return its question."""
    dialog = page.locator("#confirm")
    expect(dialog).to_be_visible()
    question = dialog.locator("p").first.inner_text()
    dialog.locator("[value=yes]").click()
    expect(dialog).to_be_hidden()
    return question


def scroll_to(page: Page, place: str) -> None:
    """Scroll the list to its "start" or "end"; again, if content that arrives moves it away."""
    move = """(list, place) => new Promise((done) => {
        const goal = () => (place === "start" ? 0 : list.scrollHeight - list.clientHeight);
        list.scrollTop = goal();
        // Two frames later the page has handled the scroll event.
        requestAnimationFrame(() => requestAnimationFrame(() => done(Math.abs(list.scrollTop - goal()) < 2)));
    })"""
    until(lambda: bool(page.locator("#scroller").evaluate(move, place)))


def wait_for_requests(page: Page) -> None:
    """Wait until no request is pending: one that a reload or a restart aborts is an error on the page."""
    expect(page.locator(".htmx-request")).to_have_count(0)


def wait_for_route(page: Page, routes: list[Route]) -> None:
    """Wait until a request was routed. Playwright calls the handler of a route only during a call of its own."""
    until(lambda: bool(page.evaluate("true") and routes))


def intercept(page: Page, pattern: str, *, after: int = 0) -> list[Route]:
    """Hold back the requests that match a pattern, except the first ones. Return the list to which they are added."""
    intercepted: list[Route] = []
    seen = itertools.count()

    def handle(route: Route) -> None:
        if next(seen) < after:
            route.continue_()
        else:
            intercepted.append(route)

    page.route(pattern, handle)
    return intercepted


def wait_for_routes(page: Page, routes: list[Route], count: int) -> None:
    """Wait until the page has made this many intercepted requests."""
    until(lambda: bool(page.evaluate("true")) and len(routes) >= count)  # evaluate lets Playwright handle events


def reload_until(page: Page, wanted: Locator) -> None:
    """Reload the page until an element exists: without JavaScript the page changes in no other way."""

    def exists() -> bool:
        page.reload()
        return wanted.count() > 0

    until(exists)
