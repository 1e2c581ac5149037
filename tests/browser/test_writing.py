"""Writing: drafts are kept room by room, Enter and Ctrl+Enter send, and nothing that was typed is lost."""

from __future__ import annotations

from collections.abc import Callable

import requests
from playwright.sync_api import Page, Route, expect

from tests.browser.steps import message, new_room, row, say, until
from tests.support.model_server import ModelServer, answer, end, held, text
from tests.support.server import Server

OpenPage = Callable[..., Page]


def test_each_room_keeps_its_own_draft(open_page: OpenPage) -> None:
    """Over switching, a reload and another tab; it goes when it is sent."""
    page = open_page()
    first, second = new_room(page), new_room(page)
    box = page.locator("#composer textarea")
    box.fill("For the second")
    row(page, first[-12:]).locator("a").click()
    expect(page.locator("#room")).to_have_attribute("data-room", first[-12:])
    expect(box).to_have_value("")
    box.fill("For the first\nin two lines")
    row(page, second[-12:]).locator("a").click()
    expect(box).to_have_value("For the second")
    page.reload()
    expect(box).to_have_value("For the second")
    page.go_back()
    expect(page.locator("#room")).to_have_attribute("data-room", first[-12:])
    expect(box).to_have_value("For the first\nin two lines")
    box.press("Enter")
    expect(message(page, 2, state="complete")).to_be_visible()
    row(page, second[-12:]).locator("a").click()
    expect(box).to_have_value("For the second")
    row(page, first[-12:]).locator("a").click()
    expect(message(page, 2)).to_be_visible()
    expect(box).to_have_value("")


def test_what_others_do_leaves_what_one_types(open_page: OpenPage, server: Server, model_server: ModelServer) -> None:
    """Answers, new names, settings and cleared messages come in; text, caret and focus stay."""
    page = open_page()
    path = new_room(page)
    box = page.locator("#composer textarea")
    page.keyboard.type("Half a sentence")
    page.keyboard.press("Home")
    reply = model_server.will(held(text("From elsewhere")))
    requests.post(f"{server.url}{path}/messages", {"text": "By curl"}, timeout=20)
    expect(message(page, 2)).to_contain_text("From elsewhere")
    requests.patch(f"{server.url}{path}", {"name": "Renamed", "temperature": "0.5"}, timeout=20)
    expect(page.locator("#header h1")).to_have_text("Renamed")
    reply.say(end())
    reply.hang_up()
    expect(message(page, 2, state="complete")).to_be_visible()
    requests.delete(f"{server.url}{path}/messages", timeout=20)
    expect(page.locator("#messages article")).to_have_count(0)
    expect(box).to_be_focused()
    page.keyboard.type("Now ")
    expect(box).to_have_value("Now Half a sentence")


def test_a_text_that_fails_while_one_is_elsewhere_waits_in_its_room(open_page: OpenPage, complaints: list[str]) -> None:
    """The request ends after one has gone to another room: the text is the draft of the room it was for."""
    page = open_page()
    first, second = new_room(page), new_room(page)
    held_up: list[Route] = []
    page.route("**/messages", lambda route: held_up.append(route))
    say(page, "Lost on the way")
    expect(page.locator("#composer textarea")).to_have_value("")
    # A socket that opens later takes the notice away.
    page.evaluate(
        "document.addEventListener('htmx:ws:after:connection', () => (document.body.dataset.reopened = 'yes'))"
    )
    row(page, first[-12:]).locator("a").click()
    expect(page.locator("body")).to_have_attribute("data-reopened", "yes")
    expect(page.locator("#room")).to_have_attribute("data-room", first[-12:])
    expect(page.locator("#composer textarea")).to_have_value("")
    held_up[0].abort()
    expect(page.locator("#unreachable")).to_be_visible()
    expect(page.locator("#composer textarea")).to_have_value("")
    row(page, second[-12:]).locator("a").click()
    expect(page.locator("#composer textarea")).to_have_value("Lost on the way")
    complaints.clear()


def test_ctrl_enter_sends_too_and_pasted_lines_stay(open_page: OpenPage) -> None:
    """Tabs, blank lines and code arrive as they were; code is shown as code."""
    page = open_page()
    new_room(page)
    words = "Why?\n\n```python\nif a:\n    b()\n```\nfirst\n  second"
    page.keyboard.insert_text(words)
    page.keyboard.press("Control+Enter")
    body = message(page, 1).locator(".message__body")
    expect(body.locator("pre")).to_have_text("if a:\n    b()\n", use_inner_text=False)
    expect(body.locator(".code__language")).to_have_text("python")
    expect(body).to_contain_text("first\n  second", use_inner_text=True)
    expect(message(page, 2, state="complete")).to_be_visible()


def test_sending_works_while_the_connection_is_down(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """All is well: nothing is said; after a second without a socket it is; and what is sent arrives by HTTP."""
    page = open_page()
    path = new_room(page)
    connection = page.locator("#connection")
    expect(connection).to_be_hidden()
    page.context.route_web_socket("**/live*", lambda socket: socket.close())
    page.reload()
    expect(connection).to_be_visible()
    expect(connection).to_have_text("Reconnecting…")
    model_server.will(answer("Heard you."))
    say(page, "Over HTTP")
    expect(message(page, 1)).to_contain_text("Over HTTP")
    until(lambda: 'data-state="complete"' in requests.get(f"{server.url}{path}/messages/2", timeout=20).text)
    page.reload()
    expect(message(page, 2, state="complete")).to_contain_text("Heard you.")


def test_a_text_whose_answer_was_lost_blocks_no_other(open_page: OpenPage, complaints: list[str]) -> None:
    """It was stored, but nobody said so: it comes back with its key; another text in its place has its own."""
    page = open_page()
    new_room(page)

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    page.route("**/messages", lose)
    say(page, "Hello")
    box = page.locator("#composer textarea")
    expect(box).to_have_value("Hello")
    expect(message(page, 2, state="complete")).to_be_visible()
    page.unroute("**/messages")
    say(page, "Something else")
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(box).to_have_value("")
    expect(page.locator("#error")).to_be_empty()
    complaints.clear()


def test_texts_that_fail_come_back_in_their_order_before_what_is_typed(
    open_page: OpenPage, complaints: list[str]
) -> None:
    """Three were sent, a fourth is being typed, and the server is away."""
    page = open_page()
    new_room(page)
    held_up: list[Route] = []
    page.route("**/messages", lambda route: held_up.append(route))
    for words in ("one", "two", "three"):
        say(page, words)
        expect(page.locator("#composer textarea")).to_have_value("")
    page.keyboard.type("four")
    for number in range(3):
        until(lambda number=number: bool(page.evaluate("1")) and len(held_up) > number)  # type: ignore[misc]
        held_up[number].abort()
    expect(page.locator("#composer textarea")).to_have_value("one\ntwo\nthree\nfour")
    complaints.clear()


def test_sending_in_one_tab_leaves_the_draft_of_another(open_page: OpenPage) -> None:
    """Two tabs on a room: what the one sends is not what the other has not sent."""
    one = open_page()
    path = new_room(one)
    other = open_page(path)
    one.bring_to_front()
    one.locator("#composer textarea").fill("A long draft")
    other.bring_to_front()
    say(other, "Quick")
    expect(message(other, 2, state="complete")).to_be_visible()
    expect(other.locator("#composer textarea")).to_have_value("")
    one.bring_to_front()
    one.reload()
    expect(one.locator("#composer textarea")).to_have_value("A long draft")
