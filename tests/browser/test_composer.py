"""The composer: keys, drafts in rooms and tabs, and messages that could not be sent."""

from __future__ import annotations

import requests
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.steps import (
    OpenPage,
    ask,
    composer,
    create_room,
    expect_open,
    intercept,
    message,
    messages,
    new_room,
    open_room,
    send,
    wait_for_routes,
)
from tests.support.model_server import ModelServer, answer, end, held, text
from tests.support.server import Server
from tests.support.waiting import until


def fail(route: Route) -> None:
    route.abort()


def lose_response(route: Route) -> None:
    """Let the request reach the server, but not its response the page."""
    route.fetch()
    route.abort()


def type_in_two_tabs(open_page: OpenPage, draft: str) -> tuple[Page, Page, str]:
    """Type in a tab, then open a second one on the same room, which shows the same draft."""
    one = open_page()
    path = new_room(one)
    one.keyboard.type(draft)
    two = open_page(path)
    expect(composer(two)).to_have_value(draft)
    return one, two, path


def test_enter_sends_and_shift_enter_breaks_the_line(open_page: OpenPage) -> None:
    """Ctrl+Enter sends too, an input method keeps its Enter, and pasted text arrives unchanged."""
    page = open_page()
    new_room(page)
    box = composer(page)
    expect(box).to_be_focused()
    assert (box.get_attribute("placeholder"), low := box.bounding_box()) and low
    page.keyboard.press("Enter")  # sends nothing while the box is empty
    page.keyboard.type("First line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    until(lambda: (high := box.bounding_box()) is not None and high["height"] > low["height"])
    box.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    expect(box).to_have_value("First line\nsecond line")
    page.keyboard.press("Enter")
    expect(message(page, 1).locator(".message__body")).to_contain_text("First line\nsecond line", use_inner_text=True)
    expect(box).to_have_value("")
    expect(box).to_be_focused()
    expect(message(page, 2, state="complete")).to_be_visible()
    page.keyboard.insert_text("Why?\n\n```python\nif a:\n    b()\n```\nfirst\n  second")
    page.keyboard.press("Control+Enter")
    body = message(page, 3).locator(".message__body")
    expect(body.locator("pre")).to_have_text("if a:\n    b()\n", use_inner_text=False)
    expect(body.locator(".code__language")).to_have_text("python")
    expect(body).to_contain_text("first\n  second", use_inner_text=True)
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(messages(page)).to_have_count(4)


def test_draft_is_kept_for_each_room_until_it_is_sent(open_page: OpenPage) -> None:
    page = open_page()
    first, second = new_room(page), new_room(page)
    box = composer(page)
    box.fill("For the second")
    open_room(page, first)
    expect(box).to_have_value("")
    box.fill("For the first\nin two lines")
    open_room(page, second)
    expect(box).to_have_value("For the second")
    page.reload()
    expect(box).to_have_value("For the second")
    page.go_back()
    expect_open(page, first)
    expect(box).to_have_value("For the first\nin two lines")
    box.press("Enter")
    expect(message(page, 2, state="complete")).to_be_visible()
    open_room(page, second)
    expect(box).to_have_value("For the second")
    open_room(page, first)
    expect(message(page, 2)).to_be_visible()
    expect(box).to_have_value("")


def test_pushes_change_neither_typed_text_nor_caret_nor_focus(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """Messages, settings and a new name arrive from another client; the placeholder names the new model."""
    page = open_page()
    path = new_room(page)
    expect(composer(page)).to_have_attribute("placeholder", "Message stand-in…")
    page.keyboard.type("Half a sentence")
    page.keyboard.press("Home")
    reply = model_server.will(held(text("From elsewhere")))
    ask(server, path, "By curl", wait=False)
    expect(message(page, 2)).to_contain_text("From elsewhere")
    requests.patch(server.url + path, {"name": "Renamed", "model": "owl"}, timeout=20)
    expect(page.locator("#header h1")).to_have_text("Renamed")
    expect(composer(page)).to_have_attribute("placeholder", "Message owl…")
    reply.say(end())
    expect(message(page, 2, state="complete")).to_be_visible()
    requests.delete(f"{server.url}{path}/messages", timeout=20)
    expect(messages(page)).to_have_count(0)
    expect(composer(page)).to_be_focused()
    page.keyboard.type("Now ")
    expect(composer(page)).to_have_value("Now Half a sentence")


def test_messages_sent_quickly_are_queued_and_typing_goes_on(open_page: OpenPage) -> None:
    page = open_page()
    new_room(page)
    requested = intercept(page, "**/messages")
    for words in ("one", "two"):
        send(page, words)
        expect(composer(page)).to_have_value("")
    composer(page).press_sequentially("three is still")
    for number in (1, 2):
        wait_for_routes(page, requested, number)
        requested[number - 1].continue_()
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(composer(page)).to_have_value("three is still")
    expect(page.locator("article[data-role=user] .message__body")).to_have_text(["one", "two"])


def test_messages_that_fail_return_in_their_order_before_typed_text(
    open_page: OpenPage, page_errors: list[str]
) -> None:
    page = open_page()
    new_room(page)
    requested = intercept(page, "**/messages")
    for words in ("one", "two", "three"):
        send(page, words)
        expect(composer(page)).to_have_value("")
    page.keyboard.type("four")
    for number in range(3):
        wait_for_routes(page, requested, number + 1)
        requested[number].abort()
    expect(composer(page)).to_have_value("one\ntwo\nthree\nfour")
    page_errors.clear()


def test_message_that_fails_after_leaving_its_room_is_the_draft_of_that_room(
    open_page: OpenPage, page_errors: list[str]
) -> None:
    page = open_page()
    first, second = new_room(page), new_room(page)
    requested = intercept(page, "**/messages")
    send(page, "Lost on the way")
    expect(composer(page)).to_have_value("")
    # Opening a socket hides the notice, so wait for the new room's.
    page.evaluate("addEventListener('htmx:ws:after:connection', () => (document.body.dataset.reopened = 'yes'))")
    open_room(page, first)
    expect(page.locator("body")).to_have_attribute("data-reopened", "yes")
    wait_for_routes(page, requested, 1)
    requested[0].abort()
    expect(page.locator("#unreachable")).to_be_visible()
    expect(composer(page)).to_have_value("")
    open_room(page, second)
    expect(composer(page)).to_have_value("Lost on the way")
    page_errors.clear()


def test_message_whose_response_is_lost_is_stored_once_and_blocks_no_other(
    open_page: OpenPage, page_errors: list[str]
) -> None:
    """It returns with its key; another text gets a key of its own."""
    page = open_page()
    new_room(page)
    page.route("**/messages", lose_response)
    send(page, "Hello")
    expect(composer(page)).to_have_value("Hello")
    expect(message(page, 2, state="complete")).to_be_visible()
    page.unroute("**/messages")
    composer(page).press("Enter")
    expect(composer(page)).to_have_value("")
    send(page, "Something else")
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(messages(page)).to_have_count(4)
    expect(page.locator("#error")).to_be_empty()
    page_errors.clear()


def test_message_sent_without_a_socket_arrives_by_http(
    context: BrowserContext, open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """The page says that it reconnects, after a second without a connection."""
    page = open_page()
    path = new_room(page)
    expect(page.locator("#connection")).to_be_hidden()
    context.route_web_socket("**/live*", lambda socket: socket.close())
    page.reload()
    expect(page.locator("#connection")).to_be_visible()
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    model_server.will(answer("Heard you."))
    send(page, "Over HTTP")
    expect(message(page, 1)).to_contain_text("Over HTTP")
    until(lambda: 'data-state="complete"' in requests.get(f"{server.url}{path}/messages/2", timeout=20).text)
    page.reload()
    expect(message(page, 2, state="complete")).to_contain_text("Heard you.")


def test_late_response_does_not_restore_cleared_messages(open_page: OpenPage, server: Server) -> None:
    page = open_page()
    path = new_room(page)

    def clear_before_response(route: Route) -> None:
        response = route.fetch()
        requests.delete(f"{server.url}{path}/messages", timeout=20)
        expect(messages(page)).to_have_count(0)
        route.fulfill(response=response)

    page.route("**/messages", clear_before_response)
    with page.expect_response("**/messages"):
        send(page, "Cleared away")
    page.unroute("**/messages")
    ask(server, path, "After it")
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(messages(page)).to_have_count(2)


def test_draft_sent_in_one_tab_disappears_from_the_others(open_page: OpenPage) -> None:
    """Also from a tab that was reloaded, or frozen in the back/forward cache; the draft of another room stays."""
    one, two, path = type_in_two_tabs(open_page, "Only once")
    three, frozen = open_page(path), open_page(path)
    frozen.goto("about:blank")
    new_room(three)
    three.keyboard.type("For another room")
    composer(two).press("Enter")
    expect(message(two, 2, state="complete")).to_be_visible()
    expect(composer(one)).to_have_value("")
    one.reload()
    expect(composer(three)).to_have_value("For another room")
    frozen.go_back()
    three.go_back()
    for page in (one, three, frozen):
        expect(message(page, 2, state="complete")).to_be_visible()
        expect(composer(page)).to_have_value("")
    send(one, "Only once")
    expect(message(two, 4, state="complete")).to_be_visible()


def test_draft_changed_in_one_tab_is_kept_when_another_sends(open_page: OpenPage) -> None:
    one, two, _ = type_in_two_tabs(open_page, "Mine")
    one.bring_to_front()
    one.keyboard.type("!")
    composer(two).press("Enter")
    expect(message(one, 2, state="complete")).to_be_visible()
    expect(composer(one)).to_have_value("Mine!")
    one.reload()
    expect(composer(one)).to_have_value("Mine!")
    composer(one).press("Enter")
    expect(message(one, 4, state="complete")).to_be_visible()
    two.bring_to_front()
    composer(one).fill("A long draft")
    send(two, "Quick")
    expect(message(one, 6, state="complete")).to_be_visible()
    expect(composer(one)).to_have_value("A long draft")


def test_draft_whose_sending_fails_stays_in_both_tabs_and_is_stored_once(
    open_page: OpenPage, page_errors: list[str]
) -> None:
    one, two, _ = type_in_two_tabs(open_page, "Fragile")
    two.route("**/messages", fail)
    composer(two).press("Enter")
    expect(two.locator("#unreachable")).to_be_visible()
    two.unroute("**/messages")
    two.route("**/messages", lose_response)
    composer(two).press("Enter")
    expect(message(two, 2, state="complete")).to_be_visible()
    for page in (one, two):
        expect(composer(page)).to_have_value("Fragile")
    two.reload()
    expect(composer(two)).to_have_value("Fragile")
    composer(one).press("Enter")
    for page in (one, two):
        expect(composer(page)).to_have_value("")
    send(one, "Next")
    expect(message(two, 4, state="complete")).to_be_visible()
    expect(messages(two)).to_have_count(4)
    page_errors.clear()


def test_message_sent_from_a_page_of_earlier_messages_leads_to_the_newest(open_page: OpenPage, server: Server) -> None:
    """The draft is gone there and in another tab."""
    path = create_room(server, questions=2)
    one, two = open_page(path), open_page(path + "?before=3")
    one.bring_to_front()
    one.keyboard.type("From the past")
    two.reload()
    expect(messages(two)).to_have_count(2)
    expect(two.get_by_role("link", name="Jump to latest")).to_be_visible()
    composer(two).fill("From the past")
    two.get_by_role("button", name="Send").click()
    expect(message(two, 6, state="complete")).to_be_visible()
    expect(messages(two)).to_have_count(6)
    expect(composer(two)).to_have_value("")


def test_file_that_is_dropped_or_pasted_is_answered_with_a_sentence(open_page: OpenPage) -> None:
    """The browser would open a dropped file in place of the page."""
    page = open_page()
    new_room(page)
    notice = page.locator("#unreachable")
    for event, property_name in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        composer(page).evaluate(
            """(box, [event, name]) => {
                const data = new DataTransfer();
                data.items.add(new File(["x"], "x.png", { type: "image/png" }));
                const Kind = event === "drop" ? DragEvent : ClipboardEvent;
                const fired = new Kind(event, { bubbles: true, cancelable: true, [name]: data });
                window.prevented = !box.dispatchEvent(fired);
            }""",
            [event, property_name],
        )
        expect(notice).to_contain_text("Files can’t be attached yet.")
        assert page.evaluate("window.prevented") == (event == "drop")
        notice.get_by_role("button", name="Dismiss").click()
        expect(notice).to_be_hidden()
