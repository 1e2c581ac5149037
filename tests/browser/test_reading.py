"""Reading: the end is followed, a place is kept, links lead to messages, and what is new is told."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.steps import message, new_room, row, say, scroll, until
from tests.support.model_server import ModelServer, end, held, text
from tests.support.server import Server

OpenPage = Callable[..., Page]

# What is said to a screen reader, by the way that new browsers have, or by an element for the others.
LISTEN = """way => {
    const heard = [];
    if (way === "notify") document.ariaNotify = (words) => heard.push(words);
    else document.ariaNotify = undefined;
    const announcer = document.getElementById("announcer");
    new MutationObserver(() => announcer.textContent && heard.push(announcer.textContent))
        .observe(announcer, { childList: true });
    return heard;
}"""


def fill(server: Server, path: str, questions: int, words: str = "Question {}.") -> None:
    """Say many things in a room, and wait for the last answer."""
    for n in range(1, questions + 1):
        wait = {"Prefer": "wait=60"} if n == questions else {}
        requests.post(f"{server.url}{path}/messages", {"text": words.format(n)}, headers=wait, timeout=90)


def room_of(server: Server, name: str = "Long", questions: int = 0) -> str:
    path = requests.post(f"{server.url}/rooms", {"name": name}, timeout=20).headers["Location"]
    fill(server, path, questions)
    return str(path)


def top_of(page: Page, number: int) -> float:
    """How far below the window's edge a message begins."""
    top = "element => element.getBoundingClientRect().top"
    return float(message(page, number).evaluate(top) - page.locator("#scroller").evaluate(top))


def read_on_from(page: Page, number: int) -> bool:
    """Move the list to a message; whether it is there some frames later, when what came in before is done moving."""
    move = """async (article) => {
        article.scrollIntoView();
        for (let frame = 0; frame < 8; frame++) await new Promise(requestAnimationFrame);
    }"""
    message(page, number).evaluate(move)
    return abs(top_of(page, number)) < 40


def test_what_came_meanwhile_is_counted_and_one_press_away(open_page: OpenPage, server: Server) -> None:
    """Who reads back is told how many messages are new below; the button leads there and goes."""
    path = room_of(server, questions=20)
    page = open_page(path)
    newer = page.locator("#newer")
    expect(newer).to_be_hidden()
    scroll(page, "start")
    expect(newer).to_have_text("↓")
    requests.post(f"{server.url}{path}/messages", {"text": "New"}, timeout=20)
    expect(newer).to_have_text("2 new ↓")
    newer.click()
    expect(message(page, 42)).to_be_in_viewport()
    expect(newer).to_be_hidden()
    expect(page.locator("#composer textarea")).to_be_focused()


def test_earlier_messages_come_by_themselves_and_move_nothing(open_page: OpenPage, server: Server) -> None:
    """At the top of the list the fifty before are fetched; what one was reading stays under the eye."""
    page = open_page(room_of(server, questions=60))
    expect(page.locator("#messages article")).to_have_count(50)
    page.locator("#scroller").evaluate("list => list.scrollTop = 0")
    expect(page.locator("#messages article")).to_have_count(100)
    assert abs(top_of(page, 71) - 50) < 90
    page.locator("#scroller").evaluate("list => list.scrollTop = 0")
    expect(page.locator("#messages article")).to_have_count(120)
    expect(page.locator("#messages > .messages__earlier")).to_have_count(0)


def test_a_place_is_kept_when_one_goes_to_another_room_and_back(open_page: OpenPage, server: Server) -> None:
    """Even among messages that had to be fetched; a room that was at its end is there again."""
    other = room_of(server, "Other", 12)
    path = room_of(server, questions=60)
    page = open_page(path)
    page.locator("#scroller").evaluate("list => list.scrollTop = 0")
    expect(page.locator("#messages article")).to_have_count(100)
    until(lambda: read_on_from(page, 41))
    row(page, other[-12:]).locator("a").click()
    expect(page.locator("#room")).to_have_attribute("data-room", other[-12:])
    expect(message(page, 24)).to_be_in_viewport()
    row(page, path[-12:]).locator("a").click()
    expect(page.locator("#messages article")).to_have_count(100)
    until(lambda: abs(top_of(page, 41)) < 60)
    page.go_back()
    expect(page.locator("#room")).to_have_attribute("data-room", other[-12:])
    expect(message(page, 24)).to_be_in_viewport()


@pytest.mark.parametrize("number", [2, 119])
def test_a_link_leads_to_its_message_and_marks_it(open_page: OpenPage, server: Server, number: int) -> None:
    """One that is loaded, and one far up that is not."""
    page = open_page(f"{room_of(server, questions=60)}#message-{number}", live=False)
    expect(message(page, number)).to_be_in_viewport()
    expect(page.locator(".message:target")).to_have_id(f"message-{number}")
    header = page.locator("#header").bounding_box()
    assert header and header["y"] == 0, "the page itself was scrolled"


def test_the_time_names_the_date_on_hover(open_page: OpenPage, server: Server) -> None:
    """2:03 PM on the page, the whole date in its title, and a link to the message."""
    page = open_page(room_of(server, questions=1))
    time = message(page, 1).locator("time")
    words = time.inner_text()
    assert re.fullmatch(r"\d?\d:\d\d\s[AP]M", words)
    title = time.get_attribute("title") or ""
    assert title.endswith(words) and title.count(",") == 2 and "20" in title


def test_an_answer_that_ended_elsewhere_is_marked_until_it_is_read(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """While it is made the row pulses; then there is a dot, which goes when the room is opened, and stays gone."""
    path, here = room_of(server), room_of(server, "Here")
    page = open_page(here)
    unread = row(page, path[-12:]).locator(".row__unread")
    expect(unread).to_be_hidden()
    reply = model_server.will(held(text("Slowly")))
    requests.post(f"{server.url}{path}/messages", {"text": "Go"}, timeout=20)
    expect(row(page, path[-12:]).locator(".row__answering")).to_be_visible()
    expect(unread).to_be_hidden()
    reply.say(end())
    reply.hang_up()
    expect(unread).to_be_visible()
    expect(row(page, path[-12:]).locator("a")).to_have_accessible_name("Long new answer 2 messages Slowly")
    page.reload()
    expect(unread).to_be_visible()
    row(page, path[-12:]).locator("a").click()
    expect(message(page, 2)).to_be_visible()
    expect(unread).to_be_hidden()
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    expect(unread).to_be_hidden()
    row(page, here[-12:]).locator("a").click()
    expect(page.locator("#header h1")).to_have_text("Here")
    expect(page.locator(".row__unread:visible")).to_have_count(0)


def test_the_title_of_a_hidden_tab_is_marked_when_its_answer_ended(
    open_page: OpenPage, model_server: ModelServer, context: BrowserContext
) -> None:
    """And the mark goes when one looks."""
    page = open_page()
    new_room(page)
    reply = model_server.will(held(text("Wait")))
    say(page, "Hello")
    expect(message(page, 2)).to_contain_text("Wait")
    # A headless browser never hides a tab; so the page is told what a browser with a screen would tell it.
    hide = """hidden => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(hide, True)
    reply.say(end())
    reply.hang_up()
    expect(page).to_have_title("● Hello · Overseer")
    page.evaluate(hide, False)
    expect(page).to_have_title("Hello · Overseer")


@pytest.mark.parametrize("way", ["notify", "element"])
def test_a_screen_reader_hears_an_answer_once_when_it_has_ended(
    open_page: OpenPage, model_server: ModelServer, way: str
) -> None:
    """The log is silent while words come; then its text is told, or the reason that there is none."""
    page = open_page()
    new_room(page)
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")
    heard = page.evaluate_handle(LISTEN, way)
    reply = model_server.will(held(text("One word")))
    say(page, "Hello")
    expect(message(page, 2)).to_contain_text("One word")
    assert heard.json_value() == []
    reply.say(text(" and another."), end())
    reply.hang_up()
    expect(message(page, 2, state="complete")).to_be_visible()
    until(lambda: [words.strip() for words in heard.json_value()] == ["stand-in: One word and another."])
    expect(page.locator("#announcer")).to_be_empty()
    model_server.close()
    say(page, "And now?")
    expect(message(page, 4, state="failed")).to_be_visible()
    until(lambda: len(heard.json_value()) == 2)
    assert "Retry" in heard.json_value()[1]
