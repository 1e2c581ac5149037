"""Notices: each request that does not reach the server says what failed, until the server is back."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.steps import (
    OpenPage,
    ask,
    composer,
    confirm,
    create_room,
    message,
    messages,
    new_room,
    row,
    send,
    wait_for_route,
)
from tests.support.model_server import ModelServer, Reply, held, text
from tests.support.server import Server

BAD_GATEWAY = "<html><head><title>502</title></head><body><h1>Bad Gateway</h1></body></html>"


def in_menu(name: str, *, confirmed: bool = False) -> Callable[[Page], None]:
    def press(page: Page) -> None:
        page.get_by_label("Room actions").click()
        page.locator("#header").get_by_role("button", name=name).click()
        if confirmed:
            confirm(page)

    return press


def set_temperature(page: Page) -> None:
    page.locator(".settings > summary").click()
    page.locator("#setting-temperature").fill("0.5")
    page.locator(".settings__form").get_by_role("button", name="Save").click()


def on_the_last_question(name: str) -> Callable[[Page], None]:
    return lambda page: page.locator("#messages .message--user").last.get_by_role("link", name=name, exact=True).click()


ACTIONS: dict[str, Callable[[Page], None]] = {
    "Your message wasn’t sent.": lambda page: send(page, "Hello"),
    "No new answer was started.": lambda page: page.get_by_role("button", name="Retry").click(),
    "The answer wasn’t continued.": lambda page: page.get_by_role("button", name="Continue").click(),
    "The message wasn’t opened for editing.": on_the_last_question("Edit"),
    "The message wasn’t copied.": on_the_last_question("Copy"),
    "The room wasn’t pinned or unpinned.": in_menu("Pin"),
    "The messages weren’t cleared.": in_menu("Clear messages", confirmed=True),
    "The room wasn’t deleted.": in_menu("Delete room", confirmed=True),
    "The settings weren’t saved.": set_temperature,
    "No room was created.": lambda page: page.locator("#new-room").click(),
    "The room wasn’t opened.": lambda page: page.locator(".row:not([aria-current]) a").first.click(),
    "The list of rooms wasn’t updated.": lambda page: page.locator("#filter").press_sequentially("x"),
    "Earlier messages weren’t loaded.": lambda page: page.locator(".messages__earlier a").click(),
}


def test_notice_of_each_action_says_what_failed_and_can_be_dismissed(
    open_page: OpenPage, server: Server, model_server: ModelServer, page_errors: list[str]
) -> None:
    """One at a time, at its own place: it covers neither the conversation nor the composer. A failed text stays."""
    create_room(server, "Elsewhere")
    path = create_room(server, questions=26)
    model_server.will(Reply(text("Half")))
    ask(server, path, "Broken off")
    page = open_page(path)
    page.route(re.compile(r"/(rooms|models|palette)\b"), lambda route: route.abort())
    notice = page.locator("#unreachable")
    for sentence, act in ACTIONS.items():
        act(page)
        expect(notice.locator("span")).to_have_text(f"Can’t reach the server. {sentence}")
        above, box, below = (page.locator(place).bounding_box() for place in ("#scroller", "#unreachable", "#composer"))
        assert above and box and below
        assert above["y"] + above["height"] <= box["y"] + 1 and box["y"] + box["height"] <= below["y"] + 1
        assert page.locator("[role=alert]:visible").count() == 1
        notice.get_by_role("button", name="Dismiss").click()
        expect(notice).to_be_hidden()
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
    expect(composer(page)).to_have_value("Hello")
    page_errors.clear()


def test_failed_background_request_keeps_the_notice_of_an_action(
    open_page: OpenPage, server: Server, page_errors: list[str]
) -> None:
    page = open_page(create_room(server))
    held: list[Route] = []
    page.route("**/models?*", lambda route: held.append(route))
    page.route("**/rooms/*", lambda route: route.abort())
    page.locator(".picker > summary").click()
    set_temperature(page)
    notice = page.locator("#unreachable span")
    expect(notice).to_have_text("Can’t reach the server. The settings weren’t saved.")
    wait_for_route(page, held)
    with page.expect_event("requestfailed"):
        held.pop().abort()
    expect(page.locator(".htmx-request")).to_have_count(0)
    expect(notice).to_have_text("Can’t reach the server. The settings weren’t saved.")
    page_errors.clear()


def test_notice_disappears_when_the_server_is_back(
    open_page: OpenPage, server: Server, model_server: ModelServer, page_errors: list[str]
) -> None:
    page = open_page()
    new_room(page)
    model_server.will(held(text("On and on")))
    send(page, "Go on")
    expect(message(page, 2, state="streaming")).to_contain_text("On and on")
    server.stop(signal.SIGKILL)  # after SIGTERM the tab would still be told that the answer has ended
    expect(page.locator("body")).to_have_attribute("data-live", "closed")
    page.get_by_role("button", name="Stop").click(force=True)
    notice = page.locator("#unreachable")
    expect(notice.locator("span")).to_have_text("Can’t reach the server. The answer wasn’t stopped.")
    expect(page.locator("#connection")).to_be_hidden()
    server.start()
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    expect(notice).to_be_hidden()
    page_errors.clear()


def test_error_page_of_a_proxy_is_replaced_by_our_notice(open_page: OpenPage, page_errors: list[str]) -> None:
    """Typed text stays, in the composer and in dialogs, which show the notice themselves; success removes it."""
    page = open_page()
    path = new_room(page)
    send(page, "A questoin")
    expect(message(page, 2, state="complete")).to_be_visible()
    message(page, 1).get_by_role("link", name="Edit").click()
    edit, notice = page.locator("#editing"), page.locator("#unreachable")
    edit.get_by_role("textbox").fill("A question")
    page.route(
        re.compile("/rooms"), lambda route: route.fulfill(status=502, content_type="text/html", body=BAD_GATEWAY)
    )
    edit.get_by_role("button", name="Ask again").click()
    expect(edit.get_by_role("alert")).to_have_text("Can’t reach the server. Your edit wasn’t saved.")
    expect(notice).to_be_hidden()
    edit.get_by_role("link", name="Cancel").click()
    send(page, "Do not lose me")
    expect(notice).to_contain_text("Your message wasn’t sent.")
    expect(composer(page)).to_have_value("Do not lose me")
    page.locator("#new-room").click()
    expect(notice).to_contain_text("No room was created.")
    page.locator("#header h1").dblclick()
    page.keyboard.type("Renamed")
    page.keyboard.press("Enter")
    expect(page.locator("#rename").get_by_role("alert")).to_contain_text("The room wasn’t renamed.")
    expect(page.locator("#rename input")).to_have_value("Renamed")
    assert "Bad Gateway" not in page.content()
    page.unroute_all()
    page.keyboard.press("Enter")
    expect(page.locator("#rename")).to_be_hidden()
    expect(row(page, path)).to_contain_text("Renamed")
    expect(notice).to_be_hidden()
    composer(page).press("Enter")
    expect(message(page, 4, state="complete")).to_be_visible()
    page_errors.clear()


@pytest.mark.parametrize("length", [252_027, 4_500_027], ids=["over 200,000 characters", "over 4 MB"])
def test_text_that_is_too_long_is_rejected_and_stays_whole(open_page: OpenPage, length: int) -> None:
    page = open_page()
    new_room(page)
    words = ("x" * 999 + "\n") * (length // 1000) + "x" * (length % 1000 - 3) + "end"
    # Chromium takes a minute to lay out so much text, so the box is hidden.
    send_hidden = """(box, text) => {
        box.style.display = "none";
        box.value = text;
        box.dispatchEvent(new InputEvent("input", { bubbles: true }));
        box.form.requestSubmit();
    }"""
    composer(page).evaluate(send_hidden, words)
    expect(page.locator("#error p")).to_contain_text("252,027" if length < 1_000_000 else ".")
    assert composer(page).evaluate("box => [box.value.length, box.value.slice(-3)]") == [length, "end"]
    expect(messages(page)).to_have_count(0)
    expect(page.locator("#unreachable")).to_be_hidden()
