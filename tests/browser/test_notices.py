"""Notices: each request that does not reach the server says what it failed to do, until the server is back."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
import requests
from playwright.sync_api import Page, Route, expect

from overseer.domain.text import MAX_TEXT_CHARS
from tests.browser.steps import agree, message, new_room, row, say
from tests.support.model_server import ModelServer, Reply, held, text
from tests.support.server import Server

OpenPage = Callable[..., Page]


def in_menu(name: str) -> Callable[[Page], None]:
    def press(page: Page) -> None:
        page.get_by_label("Room actions").click()
        page.get_by_role("button", name=name).click()

    return press


def agreed(name: str) -> Callable[[Page], None]:
    def press(page: Page) -> None:
        in_menu(name)(page)
        agree(page)

    return press


def rename(page: Page) -> None:
    page.get_by_label("Room actions").click()
    page.get_by_role("textbox", name="Room name").fill("Another")
    page.get_by_role("textbox", name="Room name").press("Enter")


def set_temperature(page: Page) -> None:
    page.locator(".settings > summary").click()
    page.locator("#setting-temperature").fill("0.5")
    page.locator(".settings__form").get_by_role("button", name="Save").click()


def of_the_last_question(name: str) -> Callable[[Page], None]:
    return lambda page: page.locator("#messages .message--user").last.get_by_role("link", name=name, exact=True).click()


ACTIONS: dict[str, Callable[[Page], None]] = {
    "Your message wasn’t sent.": lambda page: say(page, "Hello"),
    "No new answer was started.": lambda page: page.get_by_role("button", name="Retry").click(),
    "The answer wasn’t continued.": lambda page: page.get_by_role("button", name="Continue").click(),
    "The message wasn’t opened for editing.": of_the_last_question("Edit"),
    "The message wasn’t copied.": of_the_last_question("Copy"),
    "The room wasn’t renamed.": rename,
    "The room wasn’t pinned or unpinned.": in_menu("Pin"),
    "The messages weren’t cleared.": agreed("Clear messages"),
    "The room wasn’t deleted.": agreed("Delete room"),
    "The settings weren’t saved.": set_temperature,
    "No room was created.": lambda page: page.get_by_role("button", name="New", exact=True).click(),
    "The room wasn’t opened.": lambda page: page.locator(".row:not([aria-current]) a").first.click(),
    "The list of rooms wasn’t updated.": lambda page: page.locator("#filter").press_sequentially("x"),
    "Earlier messages weren’t loaded.": lambda page: page.locator(".messages__earlier a").click(),
}


def test_notice_of_each_action_says_what_failed_and_can_be_dismissed(
    open_page: OpenPage, server: Server, model_server: ModelServer, complaints: list[str]
) -> None:
    """One at a time, in its own place: it covers neither the conversation nor the composer."""
    requests.post(f"{server.url}/rooms", {"name": "Elsewhere"}, timeout=20)
    page = open_page()
    path = new_room(page)
    for _ in range(26):
        requests.post(f"{server.url}{path}/messages", {"text": "."}, headers={"Prefer": "wait=20"}, timeout=30)
    model_server.will(Reply(text("Half")))
    say(page, "Broken off")
    expect(page.locator("[data-state=interrupted]")).to_be_visible()
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    page.route(re.compile(r"/(rooms|models|palette)\b"), lambda route: route.abort())
    notice = page.locator("#unreachable")
    for what, act in ACTIONS.items():
        act(page)
        expect(notice.locator("span")).to_have_text(f"Can’t reach the server. {what}")
        expect(notice.get_by_role("button", name="Dismiss")).to_be_visible()
        above, box, below = (page.locator(place).bounding_box() for place in ("#scroller", "#unreachable", "#composer"))
        assert above and box and below
        assert above["y"] + above["height"] <= box["y"] + 1 and box["y"] + box["height"] <= below["y"] + 1
        assert page.locator("[role=alert]:visible").count() == 1
        notice.get_by_role("button", name="Dismiss").click()
        expect(notice).to_be_hidden()
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        page.locator("#composer textarea").fill("")
    complaints.clear()


def test_notice_of_a_failed_stop_goes_when_the_server_is_back(
    open_page: OpenPage, server: Server, model_server: ModelServer, complaints: list[str]
) -> None:
    """Nothing else has to be done for that."""
    page = open_page()
    new_room(page)
    model_server.will(held(text("On and on")))
    say(page, "Go on")
    expect(message(page, 2, state="streaming")).to_contain_text("On and on")
    server.stop(signal.SIGKILL)  # a server that is asked to end would tell the tab that the answer ended
    expect(page.locator("body")).to_have_attribute("data-live", "closed")
    page.get_by_role("button", name="Stop").click(force=True)
    notice = page.locator("#unreachable")
    expect(notice.locator("span")).to_have_text("Can’t reach the server. The answer wasn’t stopped.")
    expect(page.locator("#connection")).to_be_hidden()
    server.start()
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    expect(notice).to_be_hidden()
    complaints.clear()


@pytest.mark.parametrize("status", [502, 504])
def test_notice_of_a_proxy_that_cannot_reach_the_server_goes_with_a_later_success(
    open_page: OpenPage, complaints: list[str], status: int
) -> None:
    """In a dialog it is beside what was typed there."""
    page = open_page()
    path = new_room(page)
    say(page, "A questoin")
    expect(message(page, 2, state="complete")).to_be_visible()
    message(page, 1).get_by_role("link", name="Edit").click()
    edit = page.locator("#edit")
    edit.get_by_role("textbox").fill("A question")

    def bad_gateway(route: Route) -> None:
        route.fulfill(status=status, content_type="text/html", body="<h1>Bad Gateway</h1>")

    page.route("**/rooms/**", bad_gateway)
    edit.get_by_role("button", name="Ask again").click()
    expect(edit.get_by_role("alert")).to_have_text("Can’t reach the server. Your edit wasn’t saved.")
    expect(page.locator("#unreachable")).to_be_hidden()
    edit.get_by_role("link", name="Cancel").click()
    page.locator("#header h1").dblclick()
    page.keyboard.type("Renamed")
    page.keyboard.press("Enter")
    alert = page.locator("#rename").get_by_role("alert")
    expect(alert).to_have_text("Can’t reach the server. The room wasn’t renamed.")
    expect(page.locator("#rename input")).to_have_value("Renamed")
    page.unroute_all()
    page.keyboard.press("Enter")
    expect(page.locator("#rename")).to_be_hidden()
    expect(row(page, path.rsplit("/", 1)[-1])).to_contain_text("Renamed")
    expect(page.get_by_text("Bad Gateway")).to_have_count(0)
    complaints.clear()


@pytest.mark.parametrize("length", [MAX_TEXT_CHARS + 52_027, 4_500_027], ids=["over 200,000 characters", "over 4 MB"])
def test_pasted_text_that_is_too_long_is_refused_whole_and_stays(open_page: OpenPage, length: int) -> None:
    """Nothing is cut, nothing is sent, and what is too long is said."""
    page = open_page()
    new_room(page)
    words = ("x" * 999 + "\n") * (length // 1000) + "x" * (length % 1000 - 3) + "end"
    box = page.locator("#composer textarea")
    if length < 1_000_000:
        page.keyboard.insert_text(words)
    else:  # which takes Chromium minutes
        set_value = "(box, text) => { box.value = text; box.dispatchEvent(new InputEvent('input', { bubbles: true })) }"
        box.evaluate(set_value, words)
    page.keyboard.press("Enter")
    expect(page.locator("#error")).to_contain_text("252,027" if length < 4_000_000 else "more than can be sent")
    assert box.evaluate("box => [box.value.length, box.value.slice(-3)]") == [length, "end"]
    expect(page.locator("#messages article")).to_have_count(0)
    expect(page.locator("#unreachable")).to_be_hidden()
