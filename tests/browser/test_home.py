"""Home, where no room is open: the first question creates a room. And the composer's Send and Stop."""

from __future__ import annotations

import re

from playwright.sync_api import Page, Route, expect

from tests.browser.steps import OpenPage, composer, message, messages, new_room, row, send, wait_for_route
from tests.support.model_server import ModelServer, Reply, answer, end, held, text
from tests.support.server import Server

ROOM_URL = re.compile(r"/rooms/[0-9a-f]{12}$")


def path_of(page: Page) -> str:
    expect(page).to_have_url(ROOM_URL)
    return "/rooms/" + page.url[-12:]


def test_first_question_is_typed_at_home_and_opens_its_room(open_page: OpenPage, model_server: ModelServer) -> None:
    """The other tab shows the room in its list, and answers arrive by the socket."""
    page, other = open_page(), open_page()
    expect(composer(page)).to_be_focused()
    reply = model_server.will(held(text("Because of ")))
    page.keyboard.type("Why is the sky blue?")
    page.keyboard.press("Enter")
    path = path_of(page)
    expect(message(page, 2, state="streaming")).to_contain_text("Because of")
    expect(row(page, path)).to_have_attribute("aria-current", "page")
    expect(row(other, path)).to_contain_text("Why is the sky blue?")
    expect(composer(page)).to_have_value("")
    expect(composer(page)).to_be_focused()
    reply.say(text("scattering."), end())
    reply.hang_up()
    expect(message(page, 2, state="complete")).to_contain_text("Because of scattering.")
    send(page, "Really?")
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(page.locator(".row")).to_have_count(1)
    page.reload()
    expect(messages(page)).to_have_count(4)
    expect(composer(page)).to_have_value("")


def test_suggestion_is_sent_by_a_click(open_page: OpenPage) -> None:
    page = open_page()
    for create in (lambda: None, lambda: new_room(page)):
        create()
        page.get_by_role("group", name="Suggestions").get_by_role("button", name="Write a limerick").click()
        expect(message(page, 1)).to_contain_text("Write a limerick about a lighthouse.")
        expect(message(page, 2, state="complete")).to_be_visible()
        expect(page.get_by_role("group", name="Suggestions")).to_be_hidden()
        expect(composer(page)).to_be_focused()


def test_words_of_the_address_are_typed_and_not_sent(open_page: OpenPage) -> None:
    page = open_page("/?q=What+is+SQLite%3F")
    expect(composer(page)).to_have_value("What is SQLite?")
    expect(page.locator(".row")).to_have_count(0)
    composer(page).press("Enter")
    path_of(page)
    expect(message(page, 1)).to_contain_text("What is SQLite?")


def test_new_opens_the_empty_room_again(open_page: OpenPage) -> None:
    page = open_page()
    path = new_room(page)
    page.locator("input[name=reuse]").evaluate("input => { input.value = '1'; }")
    with page.expect_response("**/rooms") as reopened:
        page.locator("#new-room").click()
    assert reopened.value.status == 200
    expect(page.locator(".row")).to_have_count(1)
    assert path_of(page) == path
    expect(composer(page)).to_be_focused()


def test_stop_takes_the_place_of_send_until_something_is_typed(open_page: OpenPage, model_server: ModelServer) -> None:
    """In every tab, and also after a reload. With text in the box, there are both."""
    page = open_page()
    other = open_page(new_room(page))
    stop, send_button = (page.get_by_role("button", name=name) for name in ("Stop", "Send"))
    expect(stop).to_be_hidden()
    model_server.will(held(text("On and on")))
    send(page, "Go on")
    for tab in (page, other):
        expect(message(tab, 2, state="streaming")).to_contain_text("On and on")
        expect(tab.get_by_role("button", name="Stop")).to_be_visible()
        expect(tab.get_by_role("button", name="Send")).to_be_hidden()
    page.keyboard.type("And")
    expect(stop).to_be_visible()
    expect(send_button).to_be_visible()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    expect(send_button).to_be_hidden()
    other.reload()
    other.get_by_role("button", name="Stop").click()
    for tab in (page, other):
        expect(message(tab, 2, state="stopped")).to_be_visible()
        expect(tab.get_by_role("button", name="Stop")).to_be_hidden()
        expect(tab.get_by_role("button", name="Send")).to_be_visible()
    expect(composer(other)).to_be_focused()
    model_server.will(answer("Done."))
    send(page, "Again")
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(stop).to_be_hidden()


def test_queued_questions_can_be_removed_and_stop_ends_only_the_running_answer(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    page = open_page()
    other = open_page(new_room(page))
    model_server.will(held(text("First")), held(text("Third")))
    for words in ("One", "Two", "Three"):
        send(page, words)
    expect(message(page, 2, state="streaming")).to_contain_text("First")
    for tab in (page, other):
        expect(message(tab, 4)).to_contain_text("Queued")
        expect(message(tab, 6)).to_contain_text("Queued")
        expect(tab.get_by_role("button", name="Stop all")).to_be_visible()
    message(other, 4).get_by_role("button", name="Remove").click()
    for tab in (page, other):
        expect(messages(tab)).to_have_count(4)
        expect(tab.locator("#message-3")).to_have_count(0)
    expect(composer(other)).to_be_focused()
    page.keyboard.press("Escape")
    expect(message(page, 2, state="stopped")).to_be_visible()
    expect(message(other, 6, state="streaming")).to_contain_text("Third")
    expect(message(other, 6)).not_to_contain_text("Queued")
    expect(page.get_by_role("button", name="Stop all")).to_be_hidden()
    send(page, "Four")
    expect(message(page, 8)).to_contain_text("Queued")
    page.get_by_role("button", name="Stop all").click()
    for number in (6, 8):
        expect(message(other, number, state="stopped")).to_be_visible()


def test_slow_network_shows_at_once_what_was_done(open_page: OpenPage, page_errors: list[str]) -> None:
    """The question, the row that was clicked, and that something is under way."""
    page = open_page()
    first, second = new_room(page), new_room(page)
    release: list[Route] = []
    page.route("**/rooms/*/messages", lambda route: release.append(route))
    page.keyboard.type("Slowly")
    page.keyboard.press("Enter")
    pending = page.locator(".message--pending")
    expect(pending).to_have_text("Slowly")
    expect(page.locator("body")).to_have_attribute("data-loading", "")
    wait_for_route(page, release)
    release.pop().continue_()
    expect(message(page, 2, state="complete")).to_be_visible()
    expect(pending).to_have_count(0)
    expect(page.locator("body")).not_to_have_attribute("data-loading", "")
    page.keyboard.type("Refused")
    page.keyboard.press("Enter")
    expect(pending).to_have_text("Refused")
    wait_for_route(page, release)
    release.pop().fulfill(status=502, body="Bad gateway")
    expect(pending).to_have_count(0)
    expect(composer(page)).to_have_value("Refused")
    page.unroute("**/rooms/*/messages")
    page.route(f"**{first}", lambda route: release.append(route))
    row(page, first).locator("a").click()
    expect(row(page, first)).to_have_attribute("aria-current", "page")
    expect(row(page, second)).not_to_have_attribute("aria-current", "page")
    wait_for_route(page, release)
    release.pop().abort()
    expect(row(page, second)).to_have_attribute("aria-current", "page")
    expect(row(page, first)).not_to_have_attribute("aria-current", "page")
    page_errors.clear()  # of the requests that failed


def test_failed_answer_shows_the_servers_words_under_details(open_page: OpenPage, model_server: ModelServer) -> None:
    page = open_page()
    new_room(page)
    model_server.will(Reply(b'{"error": {"message": "no such flux capacitor"}}', status=400))
    send(page, "Hello")
    failed = message(page, 2, state="failed")
    expect(failed.get_by_text("no such flux capacitor")).to_be_hidden()
    failed.get_by_text("Details").click()
    expect(failed.get_by_text("no such flux capacitor")).to_be_visible()
    expect(failed.get_by_role("button", name="Retry")).to_be_visible()


def test_keys_open_a_room_the_shortcuts_and_the_last_question(open_page: OpenPage) -> None:
    page = open_page()
    page.keyboard.press("ControlOrMeta+Shift+o")
    path = path_of(page)
    page.keyboard.press("ControlOrMeta+/")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowUp")
    for words in ("First question", "Second question"):
        send(page, words)
    expect(message(page, 4, state="complete")).to_be_visible()
    page.keyboard.type("x")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#editing")).to_be_hidden()
    page.keyboard.press("Delete")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#editing textarea")).to_have_value("Second question")
    page.keyboard.press("Escape")
    page.keyboard.press("ControlOrMeta+Shift+o")
    expect(page).not_to_have_url(re.compile(path))


def test_page_can_be_installed_and_notifies_of_an_answer_in_a_hidden_tab(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    page = open_page()
    manifest = page.request.get(server.url + (page.locator("link[rel=manifest]").get_attribute("href") or "")).json()
    assert (manifest["display"], manifest["start_url"]) == ("standalone", "../")
    for icon in manifest["icons"]:
        got = page.request.get(f"{server.url}/static/{icon['src']}")
        assert (got.status, got.headers["content-type"].split(";")[0]) == (200, icon["type"])
    new_room(page)
    page.evaluate("""() => {
        window.shown = [];
        window.Notification = class extends EventTarget {
            static permission = "granted";
            constructor(title, { body }) { super(); shown.push([title, body]); }
        };
    }""")
    reply = model_server.will(held(text("Done ")))
    send(page, "Tell me")
    expect(message(page, 2, state="streaming")).to_be_visible()
    page.evaluate("() => Object.defineProperty(document, 'hidden', { value: true })")
    reply.say(text("now."), end())
    reply.hang_up()
    expect(message(page, 2, state="complete")).to_be_visible()
    assert page.evaluate("() => shown") == [["Tell me", "Done now."]]
    expect(page).to_have_title("● Tell me · Overseer")
