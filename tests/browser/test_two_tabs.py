"""Two tabs on one room, and what happens to it under them."""

from __future__ import annotations

import re
from collections.abc import Callable

import requests
from playwright.sync_api import Page, Route, expect

from tests.browser.steps import message, new_room, room_id, row, say, settled
from tests.support.model_server import ModelServer, end, held, reasoning, text
from tests.support.server import Server

OpenPage = Callable[..., Page]


def test_a_second_tab_sees_the_question_and_the_answer_grow(open_page: OpenPage, model_server: ModelServer) -> None:
    """Every word is in both tabs, reasoning too, and nothing is there twice."""
    one = open_page()
    two = open_page(new_room(one))
    reply = model_server.will(held(reasoning("Hm, a greeting")))
    say(one, "Hello from the first tab")
    for page in (one, two):
        expect(message(page, 1)).to_contain_text("Hello from the first tab")
        expect(message(page, 2, state="streaming").locator(".part--reasoning")).to_contain_text("Hm, a greeting")
    reply.say(text("First "))
    for page in (one, two):
        expect(message(page, 2)).to_contain_text("First")
    reply.say(text("and second.\n\nA new paragraph"))
    for page in (one, two):
        expect(message(page, 2)).to_contain_text("First and second.")
        expect(message(page, 2)).to_contain_text("A new paragraph")
        expect(message(page, 2)).to_have_attribute("aria-busy", "true")
    reply.say(end())
    reply.hang_up()
    for page in (one, two):
        expect(message(page, 2, state="complete")).not_to_have_attribute("aria-busy", "true")
        expect(page.locator("#messages article")).to_have_count(2)
        expect(row(page, room_id(one))).to_have_attribute("data-messages", "2")


def test_stop_from_the_second_tab_stops_it_in_both(open_page: OpenPage, model_server: ModelServer) -> None:
    """The model's connection is closed, what was said is kept, and sending right after works."""
    one = open_page()
    two = open_page(new_room(one))
    reply = model_server.will(held(text("I would go on for")))
    say(one, "Talk")
    expect(message(two, 2)).to_contain_text("I would go on for")
    two.get_by_role("button", name="Stop").click()
    for page in (one, two):
        expect(message(page, 2, state="stopped")).to_contain_text("I would go on for")
    assert reply.closed.wait(20)
    say(two, "And now?")
    for page in (one, two):
        expect(message(page, 4, state="complete")).to_contain_text("All right.")


def test_retry_answers_again(open_page: OpenPage, model_server: ModelServer) -> None:
    """A failed answer says why, and Retry asks again; only the newest can be asked for again."""
    page = open_page()
    new_room(page)
    model_server.will(held(text("Half of"))).hang_up()
    say(page, "Tell me")
    expect(message(page, 2, state="interrupted")).to_contain_text("Half of")
    page.get_by_role("button", name="Retry").click()
    expect(message(page, 2, state="complete").locator(".message__body")).to_have_text("All right.")
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)


def test_a_room_deleted_under_a_tab_says_so_there(open_page: OpenPage, server: Server) -> None:
    """The tab stays where it is, says what happened and keeps the draft; its list of rooms goes on living."""
    one = open_page()
    path = new_room(one)
    two = open_page(path)
    two.get_by_role("textbox", name="Message").fill("Not yet sent")
    requests.delete(server.url + path)
    for page in (one, two):
        expect(page.locator("#messages")).to_contain_text("This room was deleted")
        expect(page.locator(f"[data-room='{path.rsplit('/', 1)[-1]}'].row")).to_have_count(0)
    expect(two.get_by_role("textbox", name="Message")).to_have_value("Not yet sent")
    expect(two.locator("body")).to_have_attribute("data-live", "open")
    other = requests.post(f"{server.url}/rooms", {"name": "Another"}).headers["Location"].rsplit("/", 1)[-1]
    expect(row(two, other)).to_contain_text("Another")


def test_a_reload_in_mid_answer_shows_it_from_its_beginning(open_page: OpenPage, model_server: ModelServer) -> None:
    """And it goes on growing."""
    page = open_page()
    new_room(page)
    reply = model_server.will(held(text("The very beginning.\n\n"), text("Then more")))
    say(page, "Tell me")
    expect(message(page, 2)).to_contain_text("Then more")
    settled(page)
    page.reload()
    expect(message(page, 2, state="streaming")).to_contain_text("The very beginning.")
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    reply.say(text(" and the rest"), end())
    reply.hang_up()
    expect(message(page, 2, state="complete").locator("p")).to_have_text(
        ["The very beginning.", "Then more and the rest"]
    )


def test_a_restart_under_both_tabs_leaves_them_right(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """They reconnect by themselves, show the interrupted answer once, and see what comes next."""
    one = open_page()
    two = open_page(new_room(one))
    model_server.will(held(text("Cut off in")))
    say(one, "Go")
    expect(message(two, 2)).to_contain_text("Cut off in")
    settled(one)
    server.restart()
    for page in (one, two):
        expect(message(page, 2, state="interrupted")).to_contain_text("Cut off in")
        expect(page.locator("body")).to_have_attribute("data-live", "open")
        expect(page.locator("#messages article")).to_have_count(2)
    say(two, "Once more")
    expect(message(one, 4, state="complete")).to_contain_text("All right.")


def test_every_tab_anywhere_sees_the_list_change(open_page: OpenPage, server: Server) -> None:
    """A new room, a new name, an answer, an end: the list in a tab that stands elsewhere follows, newest on top."""
    one = open_page()
    first = new_room(one).rsplit("/", 1)[-1]
    other = requests.post(f"{server.url}/rooms", {"name": "Elsewhere"}).headers["Location"].rsplit("/", 1)[-1]
    rows = one.locator("#rooms > [data-room]")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("Elsewhere")
    requests.patch(f"{server.url}/rooms/{other}", {"name": "Renamed"})
    expect(row(one, other)).to_contain_text("Renamed")
    requests.post(f"{server.url}/rooms/{first}/messages", {"text": "Up"})
    expect(rows.first).to_have_attribute("data-room", first)
    expect(row(one, first)).to_have_attribute("data-messages", "2")
    requests.delete(f"{server.url}/rooms/{other}")
    expect(row(one, other)).to_have_count(0)


def test_back_and_forward_keep_one_socket_and_the_right_room(open_page: OpenPage, model_server: ModelServer) -> None:
    """However one came to a room, it is live."""
    page = open_page()
    first = new_room(page)
    new_room(page)
    page.go_back()
    expect(page).to_have_url(re.compile(first))
    expect(page.locator("#room")).to_have_attribute("data-room", first.rsplit("/", 1)[-1])
    expect(page.locator("body")).to_have_attribute("data-live", "open")
    say(page, "Am I heard?")
    expect(message(page, 2, state="complete")).to_contain_text("All right.")
    page.go_forward()
    expect(page.locator("#messages article")).to_have_count(0)
    page.go_back()
    expect(message(page, 2, state="complete")).to_contain_text("All right.")


def test_a_late_answer_to_the_form_brings_back_nothing_that_was_cleared(open_page: OpenPage, server: Server) -> None:
    """The network held it up while somebody cleared the room: the list stays right, and goes on."""
    page = open_page()
    path = new_room(page)

    def held_up(route: Route) -> None:
        response = route.fetch()
        requests.delete(f"{server.url}{path}/messages")
        expect(page.locator("#messages article")).to_have_count(0)
        route.fulfill(response=response)

    page.route("**/messages", held_up)
    with page.expect_response("**/messages"):
        say(page, "Cleared away")
    page.unroute("**/messages")
    requests.post(f"{server.url}{path}/messages", {"text": "After it"})
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(page.locator("#messages article")).to_have_count(2)


def two_tabs_on_a_draft(open_page: OpenPage, words: str) -> tuple[Page, Page, str]:
    """Type in a first tab, then open a second on the same room: it has the same draft."""
    one = open_page()
    path = new_room(one)
    one.keyboard.type(words)
    two = open_page(path)
    expect(two.locator("#composer textarea")).to_have_value(words)
    return one, two, path


def test_draft_sent_in_one_tab_is_gone_from_the_other(open_page: OpenPage) -> None:
    """In the tab itself, after a reload of it, and in a third one; the draft of another room stays."""
    one, two, path = two_tabs_on_a_draft(open_page, "Only once")
    three = open_page(path)
    new_room(three)
    three.keyboard.type("For another room")
    two.locator("#composer textarea").press("Enter")
    expect(message(two, 2, state="complete")).to_be_visible()
    expect(one.locator("#composer textarea")).to_have_value("")
    one.reload()
    expect(message(one, 2, state="complete")).to_be_visible()
    expect(one.locator("#composer textarea")).to_have_value("")
    expect(three.locator("#composer textarea")).to_have_value("For another room")
    three.go_back()
    expect(message(three, 2, state="complete")).to_be_visible()
    expect(three.locator("#composer textarea")).to_have_value("")
    say(one, "Only once")
    expect(message(two, 4, state="complete")).to_be_visible()


def test_draft_changed_since_is_kept_when_the_other_tab_sends(open_page: OpenPage) -> None:
    """By one letter, even one that was taken back: it is another text then, and can be sent."""
    one, two, _ = two_tabs_on_a_draft(open_page, "Mine")
    one.bring_to_front()
    one.keyboard.type("!")
    two.locator("#composer textarea").press("Enter")
    expect(message(one, 2, state="complete")).to_be_visible()
    expect(one.locator("#composer textarea")).to_have_value("Mine!")
    one.reload()
    expect(one.locator("#composer textarea")).to_have_value("Mine!")
    one.locator("#composer textarea").press("Enter")
    expect(message(one, 4, state="complete")).to_be_visible()


def test_draft_whose_sending_fails_stays_in_both_tabs(open_page: OpenPage, complaints: list[str]) -> None:
    """Sent again from either it is asked once, whether the request or only its answer was lost."""
    one, two, path = two_tabs_on_a_draft(open_page, "Fragile")

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    two.route("**/messages", lambda route: route.abort())
    two.locator("#composer textarea").press("Enter")
    expect(two.locator("#unreachable")).to_be_visible()
    two.route("**/messages", lose)
    two.locator("#composer textarea").press("Enter")
    expect(message(two, 2, state="complete")).to_be_visible()
    for page in (one, two):
        expect(page.locator("#composer textarea")).to_have_value("Fragile")
    two.reload()
    expect(two.locator("#composer textarea")).to_have_value("Fragile")
    one.locator("#composer textarea").press("Enter")
    for page in (one, two):
        expect(page.locator("#composer textarea")).to_have_value("")
    say(one, "Next")
    expect(message(two, 4, state="complete")).to_be_visible()
    expect(two.locator("#messages article")).to_have_count(4)
    complaints.clear()


def test_draft_of_a_page_that_comes_back_by_history_is_gone_if_it_was_sent(open_page: OpenPage) -> None:
    """Such a page was frozen, and heard nothing of it."""
    one, two, _ = two_tabs_on_a_draft(open_page, "While away")
    one.goto("about:blank")
    two.locator("#composer textarea").press("Enter")
    expect(message(two, 2, state="complete")).to_be_visible()
    one.go_back()
    expect(message(one, 2, state="complete")).to_be_visible()
    expect(one.locator("#composer textarea")).to_have_value("")


def test_draft_sent_from_a_page_of_earlier_messages_is_gone(open_page: OpenPage) -> None:
    """There the form leads to another page, which does not bring it back, nor does another tab keep it."""
    one, two, path = two_tabs_on_a_draft(open_page, "From the past")
    two.goto(two.url + "?before=9")
    expect(two.locator("#composer textarea")).to_have_value("From the past")
    two.get_by_role("button", name="Send").click()
    expect(message(two, 2, state="complete")).to_be_visible()
    for page in (two, one):
        expect(page.locator("#composer textarea")).to_have_value("")
